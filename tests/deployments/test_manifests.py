"""Containers have no rights that they do not need, secrets are nowhere, and the parts fit together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from sqlalchemy.engine import make_url
from streamlit.config import get_config_options

from flows.dashboard.serve import HEALTH, IMPATIENT, dashboard_words
from flows.environment import MLFLOW, QUIET
from flows.services import LEASES
from tests.deployments.composed import image_settings, read_settings
from tests.deployments.manifests import (
    BASE,
    DEPLOYMENTS,
    OVERLAY,
    ROOT,
    documents,
    kustomization,
    of_kind,
    patched,
    selects,
    workloads,
)

RESOURCES = patched()
WORKLOADS = workloads(RESOURCES)
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
RAY = documents(DEPLOYMENTS / "ray" / "kuberay.yaml")
SECRET = re.compile(r"PASSWORD|TOKEN|AUTH_STRING")
SPOKEN = {
    ("worker", "postgres", 5432),
    ("prefect", "postgres", 5432),
    ("mlflow", "postgres", 5432),
    ("worker", "prefect", 4200),
    ("register", "prefect", 4200),
    ("worker", "mlflow", 5000),
    ("dashboard", "postgres", 5432),
    ("dashboard", "prefect", 4200),
    ("dashboard", "mlflow", 5000),
}
"""Who has to speak with whom."""


def job_template() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BASE.parent / "jobs" / "work_pool.json").read_text())
    return found


def pods() -> dict[str, dict[str, Any]]:
    """Return every pod's specification by the name of what it is part of."""
    cluster = RAY[0]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return {
        **{name: one["spec"]["template"]["spec"] for name, one in WORKLOADS.items()},
        **{f"ray{i}": group["template"]["spec"] for i, group in enumerate(groups)},
        "job": job_template()["job_configuration"]["job_manifest"]["spec"]["template"]["spec"],
    }


@pytest.mark.parametrize("name", pods())
def test_pod_has_no_rights_and_limits(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["enableServiceLinks"] is False
    assert name == "ray0" or pod["automountServiceAccountToken"] is False
    mounts = {volume["name"] for volume in pod["volumes"]} | {"data"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} == set(container["resources"]["limits"])
    assert {"cpu", "memory"} == set(container["resources"]["requests"])
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= mounts
    if name not in ("register", "job"):
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_no_secret_has_a_value() -> None:
    for path in sorted(DEPLOYMENTS.rglob("*.yaml")):
        assert not re.search(r"^kind: Secret$", path.read_text(), re.MULTILINE), path
    for path in sorted(BASE.glob("*.env")):
        assert not [name for name in read_settings(path) if SECRET.search(name)], path
    for name, pod in pods().items():
        for entry in pod["containers"][0].get("env", []):
            if SECRET.search(entry["name"]):
                assert set(entry["valueFrom"]) == {"secretKeyRef"}, name
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert value.startswith("${"), (name, variable)
                assert ":?" in value, "compose starts without it"


def test_kustomization_names_every_file() -> None:
    said = kustomization()
    named = [*said["resources"], *(patch["path"] for patch in said["patches"])]
    for made in said["configMapGenerator"]:
        named += made.get("envs", []) + made.get("files", [])
    assert sorted(named) == sorted(
        path.name for path in BASE.iterdir() if path.name != "kustomization.yaml"
    )
    assert [(OVERLAY / folder).resolve() for folder in kustomization(OVERLAY)["resources"]] == [
        BASE
    ]


def test_references_lead_somewhere() -> None:
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"] for name, one in WORKLOADS.items()
    }
    ports = {
        name: {port["name"] for port in pod["containers"][0].get("ports", [])}
        for name, pod in pods().items()
    }
    for name, one in WORKLOADS.items():
        if one["kind"] != "Job":
            assert selects(one["spec"]["selector"], labels[name])
    for name, service in of_kind(RESOURCES, "Service").items():
        chosen = [
            n for n, has in labels.items() if service["spec"]["selector"].items() <= has.items()
        ]
        assert chosen == [name]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[name]
    for ingress in of_kind(RESOURCES, "Ingress").values():
        (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert tls["hosts"] == [rule["host"]]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        service = of_kind(RESOURCES, "Service")[backend["name"]]
        assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    made = {entry["name"] for entry in kustomization()["configMapGenerator"]}
    claims = set(of_kind(RESOURCES, "PersistentVolumeClaim"))
    for pod in (one["spec"]["template"]["spec"] for one in WORKLOADS.values()):
        for source in pod["containers"][0].get("envFrom", []):
            assert "secretRef" in source or source["configMapRef"]["name"] in made
        for volume in pod["volumes"]:
            assert volume.get("configMap", {"name": "databases"})["name"] in made
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or claim["claimName"] in claims


def test_rollout_and_drain_leave_somebody_at_work() -> None:
    budgets = of_kind(RESOURCES, "PodDisruptionBudget")
    for name, one in of_kind(RESOURCES, "Deployment").items():
        assert one["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        pod = one["spec"]["template"]["spec"]
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert 0 < pause < pod["terminationGracePeriodSeconds"]
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert selects(budgets[name]["spec"]["selector"], labels)
    (scaler,) = of_kind(RESOURCES, "HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] == "worker"
    assert "replicas" not in WORKLOADS["worker"]["spec"], "they are the autoscaler's"
    group = RAY[0]["spec"]["workerGroupSpecs"][0]
    for least, most in (
        (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]),
        (group["minReplicas"], group["maxReplicas"]),
    ):
        assert (least, most) == (2, 20)


def test_ingress_limits_what_comes_in() -> None:
    for ingress in of_kind(RESOURCES, "Ingress").values():
        said = ingress["metadata"]["annotations"]
        assert said["nginx.org/redirect-to-https"] == "true"
        assert re.fullmatch(r"\d+r/s", said["nginx.org/limit-req-rate"])
        assert re.fullmatch(r"\d+m", said["nginx.org/client-max-body-size"])
    for name in ("mlflow", "dashboard"):
        said = of_kind(RESOURCES, "Ingress")[name]["metadata"]["annotations"]
        assert said["nginx.org/basic-auth-secret"] == f"{name}-users"


def test_network_lets_through_what_is_needed_and_nothing_else() -> None:
    policies = of_kind(RESOURCES, "NetworkPolicy")
    deny = policies.pop("default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"] for name, one in WORKLOADS.items()
    }

    def pairs(direction: str, peer: str) -> set[tuple[str, str, int]]:
        found = set()
        for policy in policies.values():
            mine = [n for n, has in labels.items() if selects(policy["spec"]["podSelector"], has)]
            assert mine, policy["metadata"]["name"]
            kinds = {kind.lower() for kind in policy["spec"]["policyTypes"]}
            assert {"egress", "ingress"} & set(policy["spec"]) == kinds, "others do not count"
            for rule in policy["spec"].get(direction, []):
                theirs = [
                    name
                    for one in rule[peer]
                    for name, has in labels.items()
                    if "podSelector" in one
                    and "namespaceSelector" not in one
                    and selects(one["podSelector"], has)
                ]
                ways = [(a, b) if direction == "egress" else (b, a) for a in mine for b in theirs]
                found |= {(*way, port["port"]) for way in ways for port in rule["ports"]}
        return found

    assert pairs("egress", "to") == SPOKEN
    assert pairs("ingress", "from") == SPOKEN
    from_outside = {
        name: rule["ports"]
        for name, policy in policies.items()
        for rule in policy["spec"].get("ingress", [])
        if any("namespaceSelector" in peer for peer in rule["from"])
    }
    assert from_outside == {
        "prefect": [{"port": 4200}],
        "mlflow": [{"port": 5000}],
        "dashboard": [{"port": 8501}],
    }
    for policy in RAY[1:]:
        selector = policy["spec"]["podSelector"]
        assert selects(selector, {"app": "ray", "ray.io/node-type": "head"})


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_composed_service_has_no_rights_and_limits(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert "inside" in service["networks"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "whoever can use Prefect can run code"
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    settings = read_settings(DEPLOYMENTS / service["env_file"]) if "env_file" in service else {}
    settings |= service.get("environment", {})
    answers = bool(settings.get("HEALTH_URL")) or "healthcheck" in service
    assert answers is (name != "register")


def test_compose_and_kubernetes_start_the_same() -> None:
    for name, one in WORKLOADS.items():
        container = one["spec"]["template"]["spec"]["containers"][0]
        service = COMPOSE["services"][name]
        assert container.get("args") == service.get("command"), name
        image = re.sub(r":\$\{QUORUMLAB_TAG:-.*\}$", "", service["image"])
        assert container["image"] == image
        if "env_file" in service:
            source = Path(service["env_file"]).stem
            assert container["envFrom"] == [{"configMapRef": {"name": source}}]
            health = read_settings(DEPLOYMENTS / service["env_file"])["HEALTH_URL"]
            if "readinessProbe" in container:
                assert health.endswith(container["readinessProbe"]["httpGet"]["path"])
    tags = {re.search(r":-(.*)\}", COMPOSE["services"]["worker"]["image"])[1]}  # type: ignore[index]
    tags |= {image["newTag"] for f in (BASE, OVERLAY) for image in kustomization(f)["images"]}
    for pod in ("ray0", "ray1", "job"):
        tags.add(pods()[pod]["containers"][0]["image"].rpartition(":")[2])
    assert tags == {version("quorumlab")}


def test_prefect_is_set_as_quorumlab_up_sets_it() -> None:
    settings = read_settings(BASE / "prefect.env")
    assert settings["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert settings["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == LEASES
    origins = COMPOSE["services"]["prefect"]["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "*" not in origins


def test_dashboard_is_set_as_quorumlab_dashboard_sets_it() -> None:
    names = {name: option.env_var for name, option in get_config_options({}).items()}

    def options(words: list[str]) -> dict[str, str]:
        pairs = zip(words[3::2], words[4::2], strict=True)
        return {names[name.removeprefix("--")]: value for name, value in pairs}

    wanted = options(dashboard_words("127.0.0.1", "8501"))
    said = read_settings(BASE / "dashboard.env")
    said |= options(COMPOSE["services"]["dashboard"]["command"])
    assert said["STREAMLIT_SERVER_ADDRESS"] == "0.0.0.0"
    found = {name: value for name, value in said.items() if name.startswith("STREAMLIT_")}
    assert IMPATIENT.items() <= said.items()
    assert found == wanted | {"STREAMLIT_SERVER_ADDRESS": "0.0.0.0"}
    assert (
        WORKLOADS["dashboard"]["spec"]["template"]["spec"]["containers"][0]["livenessProbe"][
            "httpGet"
        ]["path"]
        == HEALTH
    )
    (merged,) = (
        m for m in kustomization(OVERLAY)["configMapGenerator"] if m["name"] == "dashboard"
    )
    host = next(rule for rule in merged["literals"] if "STREAMLIT_BROWSER" in rule)
    (rule,) = (
        patch
        for patch in kustomization(OVERLAY)["patches"]
        if patch["target"]["name"] == "dashboard"
    )
    assert host.partition("=")[2] in rule["patch"], "the host that browsers call it by"


def test_visit_of_the_dashboard_stays_where_it_began() -> None:
    service = of_kind(RESOURCES, "Service")["dashboard"]["spec"]
    assert service["sessionAffinity"] == "ClientIP"
    said = of_kind(RESOURCES, "Ingress")["dashboard"]["metadata"]["annotations"]
    cookie = said["nginx.org/sticky-cookie-services"].split()
    assert cookie[0] == "serviceName=dashboard"
    assert {"httponly", "secure", "path=/"} <= set(cookie[2:])
    assert said["nginx.org/websocket-services"] == "dashboard"
    assert int(said["nginx.org/proxy-read-timeout"].rstrip("s")) >= 600, "a page that is looked at"


def test_dashboard_cannot_write_to_the_workspace() -> None:
    pod = pods()["dashboard"]
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == "/workspace")
    assert mount["readOnly"] is True
    assert COMPOSE["services"]["dashboard"]["volumes"] == ["workspace:/workspace:ro"]
    url = make_url(read_settings(BASE / "dashboard.env")["QUORUMLAB_LEDGER_URL"])
    assert url.username == "dashboard", "a role that can only read, see databases.sh"
    (entry,) = (e for e in pod["containers"][0]["env"] if e["name"] == "PGPASSWORD")
    assert entry["valueFrom"]["secretKeyRef"]["name"] == "dashboard"
    assert "DASHBOARD" in COMPOSE["services"]["dashboard"]["environment"]["PGPASSWORD"]


def test_image_is_made_of_what_there_is_and_runs_as_nobody() -> None:
    text = (DEPLOYMENTS / "Dockerfile").read_text()
    ignored = (DEPLOYMENTS / "Dockerfile.dockerignore").read_text().splitlines()
    for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    assert re.findall(r"^USER (\d+)", text, re.MULTILINE) == ["10001"]
    assert (QUIET | MLFLOW).items() <= image_settings()[0].items()


@pytest.mark.parametrize("name", ["cluster.yaml", "checkouts.yaml"])
def test_cluster_of_machines_is_what_ray_up_takes(name: str) -> None:
    (described,) = documents(DEPLOYMENTS / "ray" / name)
    schema = distribution("ray").locate_file("ray/autoscaler/ray-schema.json")
    jsonschema.validate(described, json.loads(Path(str(schema)).read_text()))
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "ray start" in described[commands][-1]


def test_ray_on_kubernetes_asks_for_a_token() -> None:
    spec = RAY[0]["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray"}
    assert spec["rayVersion"] == version("ray")
    assert spec["enableInTreeAutoscaling"] is True
    sidecar = spec["autoscalerOptions"]["securityContext"]
    assert sidecar == pods()["ray0"]["containers"][0]["securityContext"]


def test_job_of_a_flow_run_is_a_worker_whom_nobody_tells_what_to_execute() -> None:
    template = job_template()
    assert set(template["variables"]["properties"]) == {"name", "labels"}
    job = template["job_configuration"]["job_manifest"]["spec"]["template"]
    assert job["metadata"]["labels"]["app"] == "worker", "policies know it by this"
    given = {one["name"]: one.get("value") for one in pods()["job"]["containers"][0]["env"]}
    settings = read_settings(BASE / "worker.env")
    shared = {
        name for name in settings if name.startswith(("QUORUMLAB_", "MLFLOW_", "PREFECT_API"))
    }
    assert {name: given[name] for name in shared} == {name: settings[name] for name in shared}
    rights = of_kind(documents(BASE.parent / "jobs" / "rights.yaml"), "Role")["worker"]["rules"]
    assert {resource for rule in rights for resource in rule["resources"]} == {
        *("jobs", "pods", "pods/log", "pods/status", "events")
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_of_it_what_these_tests_make() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", OVERLAY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [doc for doc in yaml.safe_load_all(done.stdout) if doc]
    mine = {name: one["spec"]["template"]["spec"] for name, one in WORKLOADS.items()}
    for name, one in workloads(made).items():
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"] == mine[name]["securityContext"]
        assert (
            pod["containers"][0]["securityContext"]
            == mine[name]["containers"][0]["securityContext"]
        )
    for ingress in of_kind(made, "Ingress").values():
        assert ingress["spec"]["rules"][0]["host"].endswith(".example.org")
        assert ingress["metadata"]["annotations"]["nginx.org/limit-req-rate"]
