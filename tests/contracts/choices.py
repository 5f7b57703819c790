"""Every choice of every group of the model, and how one is composed, run and resumed.

Run as a program, it resumes in a fresh process what a test has left in a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from flows.compose import CONF, compose_experiment
from sim_core.config import ModelConfig
from sim_core.identity import run_key
from sim_core.simulate import RunSpec, Segment, simulate

GROUPS = ("traffic", "detector", "topology", "dissemination", "consensus", "adversary")
STEPS, EVERY = 12, 4
SMALL = [
    "simulation.nodes=70",
    "simulation.flows_per_node=8",
    f"simulation.steps={STEPS}",
    f"checkpoint.every={EVERY}",
    "churn.crash_rate=0.05",
    "tracking=off",
]
ATTACKS = [
    "traffic.warmup_flows=64",
    (
        "traffic.campaigns=[{family: ddos, start: 2, duration: 20, flow_share: 0.6},"
        "{family: worm, start: 3, duration: 9, flow_share: 0.6, spread: worm, transmission: 0.1}]"
    ),
]


def write_table(folder: Path) -> list[str]:
    """Write a small labelled table; return the settings that replay it."""
    rng = np.random.default_rng(1)
    rows = [
        f"{a:.4f},{b:.4f},{'benign' if k % 4 else 'scan'}"
        for k, (a, b) in enumerate(rng.normal(size=(400, 2)))
    ]
    path = folder / "table.csv"
    path.write_text("a,b,kind\n" + "\n".join(rows) + "\n")
    return [f"traffic.path={path}", "traffic.columns={label: kind}"]


def write_edges(folder: Path) -> list[str]:
    """Write a ring with chords; return the settings that read it."""
    path = folder / "edges.txt"
    path.write_text("".join(f"{i} {(i + k) % 70}\n" for i in range(70) for k in (1, 9)))
    return [f"topology.path={path}", "dissemination=push"]


NEEDS: dict[str, Callable[[Path], list[str]]] = {
    "traffic=table": write_table,
    "topology=edge_list": write_edges,
    "traffic=nab": lambda _: ["simulation.flows_per_node=2"],
    "adversary=sybil": lambda _: ["adversary.join_step=5"],
}
REPLAYED = ("nsl_kdd", "smtp", "nab")
"""Traffic that needs the real data."""


def all_choices() -> list[str]:
    """Return `group=choice` for each file of configuration."""
    return [f"{g}={path.stem}" for g in GROUPS for path in sorted((CONF / g).glob("*.yaml"))]


def spec_of(choice: str, folder: Path) -> RunSpec:
    """Return the run that tests a choice."""
    group, kind = choice.split("=")
    settings = [choice, *SMALL]
    if group != "traffic" or kind in ("synthetic", "gaussian"):
        settings += ATTACKS
    if group == "topology":
        settings.append("dissemination=push_pull")
    if group == "consensus":  # voters must be of two minds for rules to differ
        settings += [
            "voting.mode=competence",
            "voting.competence=0.6",
            "signature.match_radius=0.5",
        ]
    settings += NEEDS.get(choice, lambda _: [])(folder)
    config, _ = compose_experiment(settings)
    return _spec(config.model_part())


def leave(spec: RunSpec, checkpoint: bytes, choice: str, folder: Path) -> None:
    """Leave in a folder what another process needs to go on with a run."""
    (folder / f"{choice}.json").write_text(spec.config.model_dump_json())
    (folder / f"{choice}.ckpt").write_bytes(checkpoint)


def resume(folder: Path) -> Iterator[tuple[str, Segment]]:
    """Yield each choice that was left in the folder, with the last segment of its run."""
    for path in sorted(folder.glob("*.ckpt")):
        config = ModelConfig.model_validate_json(path.with_suffix(".json").read_text())
        yield path.stem, list(simulate(_spec(config), path.read_bytes()))[-1]


def _spec(config: ModelConfig) -> RunSpec:
    return RunSpec(run_key(config, 3, 0), config, seed=3, replicate=0, checkpoint_every=EVERY)


if __name__ == "__main__":
    found = {
        choice: [segment.head.hex(), segment.summary]
        for choice, segment in resume(Path(sys.argv[1]))
    }
    print(json.dumps(found))
