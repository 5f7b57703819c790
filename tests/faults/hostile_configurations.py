"""Overrides that nobody means well with, or that somebody has typed wrongly: none may be accepted."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from typing import Any

from sim_core.config import ExperimentConfig

FREE_TEXT = ("path", "uri", "url", "replica_url", "workspace", "label_column", "id_column")
"""Ends of keys whose value may be any text: what is no text is refused all the same."""
SQL = "x'; DROP TABLE run; --"
CODE = (
    "+detector._target_=os.system",
    "+detector={_target_: os.system}",
    "detector={kind: zscore, _target_: os.system}",
    "++traffic.campaigns=[{_target_: builtins.exec}]",
    "+points.a=[detector._target_=os.system]",
    "+points.a=['+detector._target_=os.system']",
    "+_target_=subprocess.run",
    "+hydra.sweeper._target_=os.system",
    "hydra.launcher._target_=os.system",
)
INTERPOLATIONS = (
    "${oc.env:HOME}",
    "'${oc.env:HOME}'",
    "$\\{oc.env:HOME\\}",
    "'$\\{oc.env:HOME\\}'",
    "\\$\\{oc.env:HOME\\}",
    "${oc.decode:${oc.env:HOME}}",
    "${oc.create:{a: 1}}",
    "${oc.select:workspace}",
    "${hydra:runtime.cwd}",
    "${workspace}",
    "$$\\{oc.env:PATH\\}",
    "x$\\{now:%Y\\}",
)
NAMES = (
    "../x", "a/../../etc", "/etc/passwd", "..", ".", "~", "a b", "a/b", "a\\b", "-rf", "$HOME",
    "`id`", SQL, "a;b", "a\0b", "a\nb", "\x1b[31mred", "é", "x" * 65, "x" * 100_000, "''", "NUL:",
    "%2e%2e", "a\u202eb", "[a]", "{a: b}", "a,b", "*", "file://x", "<script>alert(1)</script>",
)  # fmt: skip
CONFIG_NAMES = (
    "../x", "/etc/passwd", "config.yaml", "", "a" * 30_000, "..", "study/../config", "no such", "a\0b",
    "nope", "study/nope", "${oc.env:HOME}", "file://x", "\x1b[2J",
)  # fmt: skip
GROUPS = ("detector", "traffic", "topology", "adversary", "consensus", "ledger", "executor")
SYNTAX = (
    "simulation.nodes", "simulation.nodes=", "=5", "==", "simulation..nodes=5", "simulation.=5",
    ".nodes=5", "simulation.nodes==5", "simulation.nodes=[", "simulation.nodes={", "simulation=5",
    "simulation=null", "simulation=[]", "simulation.nodes={a:{b:{c:1}}}", "~simulation=5",
    "simulation.nodes.deep=5", "+simulation.nodes.deep=5", "simulation[nodes]=x",
    "traffic.campaigns.0=5", "traffic.campaigns=ddos", "traffic.campaigns=[5]", "+a=1", "+a.b.c=1",
    "+points=5", "+points.a=5", "+points.a=[5]", "+points.a=[[]]", "+points.a=['simulation.nodes=x']",
    "+points.a=['no such key=5']", "+points.a=['+points.b=[]','=']", "+points.a=[null]",
    "+points.a=[{a: 1}]", "+points={a: {b: [c]}}", "+points.'a b'=[]", "+points.a=['${oc.env:HOME}']",
    "+points.a=['workspace=/tmp/x']", "+points.a=['experiment.seed=2']", "hydra.run.dir=/tmp/x",
    "hydra.searchpath=[/etc]", "hydra.searchpath=[file:///tmp]", "hydra/launcher=joblib",
    "hydra/job_logging=none", "hydra.job.chdir=true", "--config-dir=/etc", "-m", "\0=\0", "\x1b[2J=1",
    "detector@simulation=zscore", "+detector@experiment=zscore", "detector@:x=y", "+study=quickstart,x",
    "+study=[../x]", "detector=zscore/../../../x", "+study=/etc/passwd", "simulation.nodes='5'x", "\"", "'",
    "simulation.nodes=int(x)", "simulation.nodes=range(1,5)", "simulation.nodes=choice(1,2)",
    "simulation.nodes=glob(*)", "simulation.nodes=1,2", "simulation.nodes=str(5x)", "simulation.nodes=sort(3,1)",
    "simulation.nodes=extend_list(1)", "simulation.nodes=no_such(1)", "simulation.nodes=int(1e400)",
    "simulation.nodes=float(nan)", "experiment.name=shuffle(a,b)", "+simulation.nodes=5", "config=x",
)  # fmt: skip
SWEEPS = (
    ("simulation.nodes=range(1,1000000000)",),
    ("simulation.nodes=range(1,100000000)", "experiment.seed=range(1,100000000)"),
    ("simulation.nodes=range(1,2,1e-12)",),
    ("simulation.nodes=range(1,5,0)",),
    ("simulation.nodes=range(5,1,1)",),
    ("simulation.nodes=range(1,5,nan)",),
    ("simulation.nodes=range(1,inf)",),
    ("simulation.nodes=range(nan,5)",),
    ("simulation.nodes=choice()",),
    ("simulation.nodes=x,y",),
    ("detector=glob(../*)",),
    ("detector=glob(nothing*)",),
    ("simulation.nodes=glob(*)",),
    ("workspace=a,b",),
    ("experiment.seed=1,2",),
    ("experiment.name=a,b",),
    ("ledger=sqlite,postgresql",),
    ("simulation.nodes=" + ",".join(map(str, range(1, 30_000))),),
    *((f"{key}=range(1,40)" for key in keys) for keys in (  # 39^4 combinations
        ("simulation.nodes", "simulation.steps", "simulation.flows_per_node", "signature.min_support"),
    )),
    ("experiment.name=$\\{oc.env:HOME\\},b",),
    ("+detector._target_=a,b",),
)  # fmt: skip


def leaves(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the keys of the default configuration with what the schema says about them."""
    definitions = ExperimentConfig.model_json_schema()["$defs"]
    for name, part in schema["properties"].items():
        reference = part.get("$ref", "").rpartition("/")[2]
        if reference:
            yield from leaves(definitions[reference], f"{prefix}{name}.")
        elif "discriminator" in part:
            kind = ExperimentConfig.model_fields[name].default.kind
            chosen = part["discriminator"]["mapping"][kind].rpartition("/")[2]
            yield from leaves(definitions[chosen], f"{prefix}{name}.")
        else:
            yield prefix + name, part


MAY_BE_NULL = [f"optimise.{name}" for name in ("factors", "metric", "direction", "constraints")]
"""Lists that null leaves empty."""


def wrong_values(part: dict[str, Any], key: str) -> Iterator[Any]:
    """Yield what a key never takes."""
    options = part.get("anyOf", [part])
    types = {option.get("type") for option in options}
    yield from ({"a": 1}, {"a": {"b": [1, {"c": None}]}})
    if "array" not in types:
        yield from ([], [1, 2], nested_list(15))
    if "null" not in types and key not in MAY_BE_NULL:
        yield None
    if types & {"integer", "number"}:
        yield from (math.nan, math.inf, -math.inf, "x", "5 nodes", SQL, "0x10")
        yield from (n for n in (-1, -(10**30), 10**400) if not fits(part, n))
    if "integer" in types:
        yield from (n for n in (0.5, 1e-3, 2**63, 10**30) if not fits(part, n))
    if "boolean" in types:
        yield from ("perhaps", 2, -1, math.inf)
    if any("enum" in o or "const" in o or "pattern" in o for o in options):
        yield from ("", "../x", "no_such_choice!", "a\tb", 5.5, math.nan, SQL)
    if types <= {"string", "null"} and key.endswith(FREE_TEXT):
        yield from (5.5, True, ["a"])


def nested_list(depth: int) -> list[Any]:
    """Return lists within lists."""
    return [nested_list(depth - 1)] if depth else []


def fits(part: dict[str, Any], value: float) -> bool:
    """Return whether a number lies in what the schema allows."""
    for option in part.get("anyOf", [part]):
        if option.get("type") not in ("integer", "number"):
            continue
        if option["type"] == "number" and abs(value) > sys.float_info.max:
            continue
        low = value >= option.get("minimum", -math.inf)
        above = value > option.get("exclusiveMinimum", -math.inf)
        high = value <= option.get("maximum", math.inf)
        below = value < option.get("exclusiveMaximum", math.inf)
        if low and above and high and below and (option["type"] == "number" or value == int(value)):
            return True
    return False


def as_override(key: str, value: Any) -> str:
    """Return the override that sets a key, as one would type it."""
    return f"{key}={_typed(value)}"


def _typed(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {_typed(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_typed, value)) + "]"
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else str(value)


def hostile_overrides() -> list[tuple[str, ...]]:
    """Return commands' overrides, all of them to be refused; the same ones each time."""
    rng = random.Random(24)
    wrong = [(as_override(key, value),) for key, value, _ in wrong_settings()]
    found = rng.sample(wrong, 10)
    found += [(code,) for code in CODE]
    found += [
        (f"{key}={text}",) for key in ("experiment.name", "workspace") for text in INTERPOLATIONS
    ]
    found += [
        (f"experiment.{key}={name}",) for key in ("name", "title") for name in rng.sample(NAMES, 7)
    ]
    found += [(f"{group}={name}",) for group in GROUPS for name in rng.sample(NAMES, 2)]
    found += [(f"+study={name}",) for name in rng.sample(NAMES, 8)]
    found += [(text,) for text in SYNTAX]
    found += [("simulation.nodes=" + "{a:" * depth,) for depth in (10, 1_000, 20_000)]
    found += [("simulation.nodes=" + "[" * depth + "]" * depth,) for depth in (1_000, 20_000)]
    found += [("a." * depth + "b=1",) for depth in (1_000, 20_000)]
    found += [
        ("".join(chr(rng.randrange(1, 0x3000)) for _ in range(rng.randint(1, 30))),)
        for _ in range(25)
    ]
    return found


def wrong_settings() -> list[tuple[str, Any, dict[str, Any]]]:
    """Return keys with a wrong value, and what a point would say about their group."""
    found = []
    for key, part in leaves(ExperimentConfig.model_json_schema()):
        for value in wrong_values(part, key):
            group, *rest = key.split(".")
            settings = ExperimentConfig().model_dump(mode="json", include={group})
            place: Any = settings
            for name in (group, *rest)[:-1]:
                place = place[name]
            place[(group, *rest)[-1]] = value
            found.append((key, value, settings))
    return found
