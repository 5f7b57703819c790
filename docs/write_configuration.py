"""Write the tables of docs/reference/configuration.md from the schema and the files of conf/.

    .venv/bin/python docs/write_configuration.py

Meanings and ranges are those of `sim_core.config`, defaults those of `quorumlab run`: what conf/
says, and what the schema says where conf/ is silent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sim_core.config import ExperimentConfig, ModelConfig

DOCS = Path(__file__).resolve().parent
CONF = DOCS.parent / "conf"
PAGE = DOCS / "reference" / "configuration.md"
BEGIN = "<!-- written by docs/write_configuration.py: begin -->"
END = "<!-- written by docs/write_configuration.py: end -->"
HEAD = "| key | default | range | unit | meaning |\n|---|---|---|---|---|"

UNITS = {
    "accept_probability": "probability",
    "alpha": "probability",
    "attachments": "edges",
    "attempts": "attempts",
    "batch": "proposals and decisions",
    "checkpoints": "checkpoints",
    "auroc_every": "steps",
    "blacklist_capacity": "signatures",
    "bins": "bins",
    "blocked": "per flow",
    "committee": "nodes",
    "competence": "probability",
    "count": "nodes",
    "cpu_spike": "points",
    "day_amplitude": "standard deviations",
    "drift": "standard deviations per 1,000 steps",
    "duration": "steps",
    "every": "steps",
    "fanout": "neighbours",
    "features": "features",
    "first_infected": "nodes",
    "flows_per_node": "flows per step",
    "from_step": "step",
    "half_width": "the metric's",
    "height": "levels",
    "intensity": "factor",
    "join_step": "step",
    "keep": "checkpoints",
    "lags": "values",
    "latency": "steps",
    "levels": "values",
    "learning_rate": "weight",
    "lifetime": "steps",
    "loss": "probability",
    "match_radius": "scales",
    "max_benign_coverage": "share of recent flows",
    "max_in_flight": "shards",
    "max_flows": "flows",
    "max_nodes": "nodes",
    "max_overflow": "connections",
    "max_runs": "runs",
    "max_steps": "steps",
    "mean_degree": "neighbours",
    "neighbours": "neighbours",
    "network_shards": "processes",
    "nice": "levels",
    "maximum": "runs per point",
    "minimum": "runs per point",
    "min_history": "flows",
    "min_scale": "standard deviations",
    "min_support": "flows",
    "min_nodes": "nodes",
    "most_per_hour": "messages",
    "port": "none",
    "min_turnout": "share of nodes",
    "memory_spike": "points",
    "missed": "per flow",
    "pool_size": "connections",
    "mixture_alpha": "none",
    "nodes": "nodes",
    "num_cpus": "processes",
    "replicates": "runs per point",
    "relative": "share of the mean",
    "ridge": "none",
    "seed": "none",
    "segments_at_once": "segments",
    "shard_runs": "runs",
    "start": "step",
    "step": "runs per point",
    "steps": "steps",
    "intervention.step": "step",
    "unseen_neighbours": "flows",
    "refit_every": "steps",
    "rewire": "probability",
    "samples": "flows",
    "design.samples": "draws",
    "optimise.trials": "points",
    "optimise.batch": "points",
    "optimise.confirm": "replicates",
    "optimise.seed": "none",
    "logging.backups": "files",
    "logging.sample.every": "records",
    "logging.sample.first": "records",
    "profiling.runs": "runs",
    "size_limit": "share of the window",
    "slack": "standard deviations",
    "smallest_effect": "share of the mean",
    "split_alpha": "none",
    "transmission": "probability",
    "trace_runs": "share of runs",
    "trees": "trees",
    "unseen_radius": "scales",
    "value": "score",
    "wal_checkpoint_pages": "pages",
    "vote_deadline": "steps",
    "wake_reputation": "mean reputation",
    "warmup_flows": "flows per node",
    "weight": "weight",
    "width": "cells",
    "window": "flows",
}
"""Unit of each number by the last part of its key; see also SUFFIXES."""
SUFFIXES = {
    "_percent": "%",
    "share": "share",
    "_rate": "per step",
    "_days": "days",
    "_hours": "hours",
    "_steps": "steps",
    "_seconds": "s",
    "_mb": "MiB",
}

Schema = dict[str, Any]


def generated() -> str:
    """Return the generated part of the page."""
    schema = ExperimentConfig.model_json_schema()
    results, rest = [], []
    for name, field in schema["properties"].items():
        part = "\n\n".join(section(name, field, schema["$defs"]))
        (results if name in ModelConfig.model_fields else rest).append(part)
    return "\n\n".join(
        [
            "## What a result depends on",
            *results,
            "## How runs are kept, scheduled and looked at",
            *rest,
        ]
    )


def section(name: str, field: Schema, definitions: Schema) -> Iterator[str]:
    """Yield the paragraphs about one top-level key."""
    yield f"### {name}"
    folder = CONF / name
    chosen, purpose = default_choices().get(name, ("", ""))
    if purpose:
        yield f"{purpose[0].upper()}{purpose[1:]}. Default: `{name}={chosen}`."
    shapes = [definitions[ref] for ref in references(field)]
    if not shapes:
        yield f"{HEAD}\n{row(name, field, conf_default(base_values(), name, field))}"
        return
    for shape in shapes:
        files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        kind = shape["properties"].get("kind", {}).get("const")
        if len(shapes) > 1 and kind is not None:
            files = {kind: files[kind]}
        if files:
            choices = (f"- `{name}={stem}`: {first_comment(path)}" for stem, path in files.items())
            yield "\n".join(choices)
            values = OmegaConf.to_container(OmegaConf.load(files.get(chosen) or files[kind]))
        else:
            yield shape["description"]
            values = base_values()[name]
        rows = list(table(name, shape, values, definitions))
        if rows:
            yield "\n".join([HEAD, *rows])
        for key, item in shape["properties"].items():
            if "$ref" in item.get("items", {}):
                entry = definitions[item["items"]["$ref"].rpartition("/")[2]]
                yield f"Entries of `{name}.{key}`: {lower_first(entry['description'])}"
                yield "\n".join([HEAD, *table("", entry, {}, definitions)])
                listed = OmegaConf.to_yaml(OmegaConf.create({key: values[key]})).strip()
                yield f"By default:\n\n```yaml\n{listed}\n```"


def table(prefix: str, shape: Schema, values: Any, definitions: Schema) -> Iterator[str]:
    """Yield the rows of a mapping's keys; mappings inside of it are flattened."""
    for name, field in shape["properties"].items():
        key = f"{prefix}.{name}" if prefix else name
        if name == "kind":
            continue
        inner = next(iter(references(field)), None)
        if inner is not None:
            if field.get("default", ...) is None:
                about = {"type": "object", "description": definitions[inner]["description"]}
                yield row(key, about, "`null`")
            yield from table(key, definitions[inner], values.get(name) or {}, definitions)
        else:
            default = "required" if name in shape.get("required", ()) else None
            yield row(key, field, default or conf_default(values, name, field))


def row(key: str, field: Schema, default: str) -> str:
    """Return one row of a table."""
    cells = [f"`{key}`", default, allowed(field), unit(key, field)]
    cells.append(" ".join(field["description"].split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def references(field: Schema) -> list[str]:
    """Return the names of the definitions that a field refers to."""
    found = [field, *field.get("oneOf", ()), *field.get("anyOf", ())]
    return [part["$ref"].rpartition("/")[2] for part in found if "$ref" in part]


def conf_default(values: Any, name: str, field: Schema) -> str:
    """Return a key's default as text: what conf/ has, else what the schema has."""
    value = values.get(name, field.get("default")) if isinstance(values, dict) else None
    if isinstance(value, list):
        return f"{len(value)} entries, see below" if value else "`[]`"
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower()}`" if value is not None else "`null`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def allowed(field: Schema) -> str:
    """Return the range or the choices of a field as text.

    >>> allowed({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
    '> 0, ≤ 1'
    """
    if "anyOf" in field:
        return ", or ".join(allowed(part) for part in field["anyOf"])
    if "oneOf" in field:
        return "a choice of its group"
    if "const" in field or "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field.get("enum", [field.get("const")]))
    if "pattern" in field:
        return f"`{field['pattern']}`"
    marks = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{mark} {number(field[key])}" for key, mark in marks.items() if key in field]
    if limits and field["type"] == "integer":
        limits.insert(0, "whole number")
    words = {
        "array": "list",
        "boolean": "`true`, `false`",
        "integer": "whole number",
        "null": "`null`",
        "object": "mapping",
        "number": "number",
        "string": "text",
    }
    return " ".join(limits).replace(" ≤", ", ≤").replace(" <", ", <") or words[field["type"]]


def number(value: float) -> str:
    """Return a limit as text.

    >>> number(1000000), number(2**63), number(0.5)
    ('1,000,000', '2^63', '0.5')
    """
    if value == 2**63:
        return "2^63"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def unit(key: str, field: Schema) -> str:
    """Return the unit of a field; only numbers have one.

    Raises:
        KeyError: neither UNITS nor SUFFIXES has it.
    """
    kinds = {part.get("type") for part in [field, *field.get("anyOf", ())]}
    if not kinds & {"integer", "number"}:
        return ""
    last = key.rpartition(".")[2]
    known = UNITS.get(key) or UNITS.get(last)
    if known is not None:
        return known.replace("none", "")
    for ending, words in SUFFIXES.items():
        if last.endswith(ending):
            return words
    raise KeyError(f"{key}: enter its unit in UNITS of {__file__}")


def base_values() -> Any:
    """Return the keys of conf/config.yaml that belong to no group."""
    return OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))


def default_choices() -> dict[str, tuple[str, str]]:
    """Return, per group, the default choice and what the group is for, from the defaults list."""
    text = (CONF / "config.yaml").read_text("utf-8")
    found = re.findall(r"^ +- (\w+): (\w+) # (.+)$", text, flags=re.MULTILINE)
    return {group: (choice, purpose) for group, choice, purpose in found}


def first_comment(path: Path) -> str:
    """Return what a file of conf/ says about itself in its first line."""
    return path.read_text("utf-8").splitlines()[0].removeprefix("#").strip()


def lower_first(text: str) -> str:
    """Return a sentence that can follow a colon.

    >>> lower_first("One attack.")
    'one attack.'
    """
    return text[:1].lower() + text[1:]


def page_with(tables: str, page: str) -> str:
    """Return the page with everything between the markers replaced.

    >>> page_with("new", f"a {BEGIN} old {END} b").splitlines()[2]
    'new'
    """
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(generated(), PAGE.read_text("utf-8")), "utf-8")
