"""Kubernetes' manifests as kustomize puts them together, without kustomize."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
BASE = DEPLOYMENTS / "kubernetes" / "base"
OVERLAY = DEPLOYMENTS / "kubernetes" / "overlays" / "example"
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a file of YAML."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomization(folder: Path = BASE) -> dict[str, Any]:
    """Return what a folder's kustomization says."""
    return documents(folder / "kustomization.yaml")[0]


def patched() -> list[dict[str, Any]]:
    """Return the resources of the base with its patches: additions, and annotations of an ingress."""
    found = [doc for name in kustomization()["resources"] for doc in documents(BASE / name)]
    for entry in kustomization()["patches"]:
        (patch,) = documents(BASE / entry["path"])
        for resource in found:
            if re.fullmatch(entry["target"]["kind"], resource["kind"]):
                apply(patch, resource)
    return found


def apply(patch: Any, resource: dict[str, Any]) -> None:
    """Apply additions after RFC 6902, or what kustomize calls a strategic merge of annotations."""
    if isinstance(patch, dict):
        resource["metadata"]["annotations"].update(patch["metadata"]["annotations"])
        return
    for step in patch:
        assert step["op"] == "add"
        *way, last = step["path"].strip("/").split("/")
        place: Any = resource
        for part in way:
            place = place[int(part) if isinstance(place, list) else part]
        place[last] = step["value"]


def workloads(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return workloads by name."""
    return {one["metadata"]["name"]: one for one in resources if one["kind"] in WORKLOADS}


def of_kind(resources: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a kind by name."""
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Return whether a label selector selects."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    among = all(
        labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
    )
    return wanted and among
