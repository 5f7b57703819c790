"""Random small configurations in which something happens."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from sim_core.config import ATTACK_FAMILIES

DETECTORS = (
    "zscore", "mahalanobis", "half_space_trees", "isolation_forest", "ecod", "hbos", "ewma", "cusum",
)  # fmt: skip
ADVERSARIES = (
    "none", "silent", "random_voter", "flipper", "poisoner", "colluder", "sleeper", "sybil",
)  # fmt: skip
DISSEMINATIONS = ("centralised", "push", "pull", "push_pull", "flood", "none", "ledger")
TOPOLOGIES = ("complete", "ring", "lattice", "small_world", "scale_free", "random", "edge_list")
RULES = ("majority", "supermajority", "weighted", "bft")
TYPICAL_SCORE = {
    "zscore": 2.0, "mahalanobis": 2.0, "half_space_trees": 1.0, "isolation_forest": 0.55,
    "ecod": 2.0, "hbos": 2.0, "ewma": 2.0, "cusum": 4.0,
}  # fmt: skip
Groups = dict[str, Any]


class Fixed(NamedTuple):
    """Choices that are not drawn."""

    detector: str
    adversary: str
    dissemination: str


def shares(low: float, high: float) -> st.SearchStrategy[float]:
    """Return a strategy of numbers with few digits, both ends included."""
    return st.integers(0, 16).map(lambda k: round(low + (high - low) * k / 16, 3))


def sometimes(common: Any, rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of a fixed value, or of what is drawn, as often as not."""
    return st.one_of(st.just(common), rare)


@st.composite
def configurations(draw: st.DrawFn, fixed: Fixed | None = None) -> Groups:
    """Return the groups of a configuration; campaigns are strong and thresholds low."""
    nodes = draw(st.integers(3, 12)) if draw(st.integers(0, 9)) else draw(st.integers(1, 2))
    steps = draw(st.integers(6, 14)) if draw(st.integers(0, 9)) else draw(st.integers(2, 5))
    detector = fixed.detector if fixed else draw(st.sampled_from(DETECTORS))
    groups: Groups = {
        "simulation": {
            "nodes": nodes,
            "flows_per_node": draw(st.integers(4, 12)) if draw(st.integers(0, 9)) else 1,
            "steps": steps,
            "activation": draw(st.sampled_from(("simultaneous", "random", "priority"))),
        },
        "traffic": draw(traffic()),
        "detector": draw(detectors(detector)),
        "topology": draw(topologies(nodes)),
        "dissemination": draw(disseminations(fixed.dissemination if fixed else None)),
        "consensus": draw(rules(nodes)),
        "adversary": draw(adversaries(nodes, fixed.adversary if fixed else None)),
        "signature": draw(signatures()),
        "voting": draw(voting()),
        "response": {"blacklist_capacity": draw(st.integers(1, 4))},
        "churn": draw(sometimes({}, churn())),
        "metrics": {"auroc_every": draw(st.integers(1, 4)), "from_step": draw(st.integers(0, 3))},
    }
    return groups | {"intervention": draw(sometimes({}, interventions(groups)))}


@st.composite
def outbreaks(draw: st.DrawFn) -> Groups:
    """Return a configuration in which nodes become immune while a worm still spreads."""
    groups = draw(configurations(Fixed("zscore", draw(st.sampled_from(ADVERSARIES)), "ledger")))
    worm = draw(campaigns()) | {
        "start": 0, "duration": 14, "spread": "worm", "first_infected": 2, "infectious_steps": None,
        "flow_share": 0.5, "intensity": 6.0, "transmission": draw(shares(0.05, 0.4)),
    }  # fmt: skip
    changes: Groups = {
        "simulation": {"nodes": 12, "flows_per_node": 8, "steps": 12},
        "traffic": {
            "kind": "gaussian", "features": draw(st.integers(2, 4)), "campaigns": [worm],
            "warmup_flows": 32,
        },
        "detector": {"kind": "zscore", "threshold": {"mode": "fixed", "value": 4.0}},
        "topology": draw(topologies(12)),
        "consensus": draw(rules(12)) | {"min_turnout": 0.0, "vote_deadline": 2, "committee": 3},
        "signature": groups["signature"] | {"match_radius": 3.5, "min_scale": 0.5},
        "voting": groups["voting"] | {"unseen": "judge", "min_history": 0},
    }  # fmt: skip
    groups |= changes
    return groups | {"intervention": draw(sometimes({}, interventions(groups)))}


@st.composite
def traffic(draw: st.DrawFn) -> Groups:
    """Return settings of traffic with one to three campaigns."""
    kind = draw(st.sampled_from(("synthetic", "gaussian")))
    own = {"mixture_alpha": draw(st.sampled_from((0.2, 1.0, 5.0)))}
    if kind == "gaussian":
        own = {"features": draw(st.integers(1, 6))}
    return own | {
        "kind": kind,
        "warmup_flows": draw(st.integers(16, 48)),
        "campaigns": draw(st.lists(campaigns(), min_size=1, max_size=3)),
        "drift": draw(sometimes(0.0, shares(1, 50))),
        "day_amplitude": draw(sometimes(0.0, shares(0.1, 2))),
        "day_steps": draw(st.integers(2, 12)),
    }


@st.composite
def campaigns(draw: st.DrawFn) -> Groups:
    """Return a strong campaign that starts early."""
    return {
        "family": draw(st.sampled_from(ATTACK_FAMILIES)),
        "start": draw(st.integers(0, 5)) if draw(st.integers(0, 9)) else 20,
        "duration": draw(st.integers(1, 12)),
        "node_share": draw(shares(0.2, 1)),
        "flow_share": draw(shares(0.1, 1)),
        "intensity": draw(shares(0.5, 8)),
        "spread": draw(st.sampled_from(("static", "static", "worm"))),
        "first_infected": draw(st.integers(1, 3)),
        "transmission": draw(shares(0, 1)),
        "infectious_steps": draw(st.none() | st.integers(1, 4)),
    }


@st.composite
def detectors(draw: st.DrawFn, kind: str) -> Groups:
    """Return settings of a detector of this kind."""
    mode = draw(st.sampled_from(("fixed", "quantile", "calibrated")))
    factor = draw(st.sampled_from((0.5, 1.0, 2.0)))
    group: Groups = {
        "kind": kind,
        "learn": draw(st.sampled_from((True, True, True, False))),
        "threshold": {
            "mode": mode,
            "value": TYPICAL_SCORE[kind] * factor,
            "share": draw(shares(0.02, 0.4)),
        },
    }
    own: dict[str, Groups] = {
        "zscore": {
            "aggregate": draw(st.sampled_from(("mean_square", "max"))),
            "robust": draw(st.booleans()),
        },
        "half_space_trees": {
            "trees": draw(st.integers(1, 4)),
            "height": draw(st.integers(1, 4)),
            "window": draw(st.integers(4, 40)),
        },
        "isolation_forest": {
            "trees": draw(st.integers(1, 6)),
            "samples": draw(st.integers(2, 16)),
            "window": draw(st.integers(4, 40)),
            "refit_every": draw(st.integers(1, 4)),
            "shared": draw(st.booleans()),
        },
        "ecod": {"window": draw(st.integers(8, 40))},
        "hbos": {"bins": draw(st.integers(2, 8))},
        "ewma": {"weight": draw(shares(0.05, 1))},
        "cusum": {"slack": draw(shares(0, 1))},
    }
    if kind in ("zscore", "ewma", "cusum"):
        group["moments"] = draw(st.sampled_from(("warmup", "known")))
    if kind in ("zscore", "ewma", "cusum", "mahalanobis", "hbos"):
        group["learning_rate"] = draw(shares(0.02, 0.3))
    return group | own.get(kind, {})


@st.composite
def topologies(draw: st.DrawFn, nodes: int) -> Groups:
    """Return settings of a topology that these nodes can have."""
    kind = draw(st.sampled_from(TOPOLOGIES))
    even = st.integers(1, max(1, (nodes - 1) // 2)).map(lambda k: 2 * k)
    if kind in ("ring", "small_world", "scale_free") and nodes < 3:
        kind = "complete"
    own: dict[str, Groups] = {
        "ring": {"neighbours": draw(even)},
        "small_world": {"neighbours": draw(even), "rewire": draw(shares(0, 1))},
        "scale_free": {"attachments": draw(st.integers(1, max(1, min(3, nodes - 1))))},
        "random": {"mean_degree": draw(shares(1, 6))},
        "lattice": {
            "width": draw(st.none() | st.integers(3, 5)),
            "walk_rate": draw(sometimes(0.0, shares(0.2, 1))),
        },
    }
    return {"kind": kind} | own.get(kind, {})


@st.composite
def disseminations(draw: st.DrawFn, kind: str | None) -> Groups:
    """Return settings of a dissemination."""
    kind = kind or draw(st.sampled_from(DISSEMINATIONS))
    group: Groups = {"kind": kind, "lifetime": draw(st.sampled_from((100, 6, 3, 2, 1)))}
    if kind in ("push", "pull", "push_pull", "flood"):
        group["latency"] = draw(sometimes(0, st.integers(1, 3)))
        if group["latency"] and draw(st.booleans()):
            group["lifetime"] = 1  # so that decisions come too late
        group["loss"] = draw(sometimes(0.0, shares(0.1, 0.8)))
        group["batch"] = draw(st.integers(1, 4))
    if kind in ("push", "pull", "push_pull"):
        group["fanout"] = draw(st.integers(1, 4))
    return group


@st.composite
def rules(draw: st.DrawFn, nodes: int) -> Groups:
    """Return settings of a consensus rule."""
    kind = draw(st.sampled_from(RULES))
    group: Groups = {
        "kind": kind,
        "min_turnout": draw(sometimes(0.0, shares(0, 1))),
        "vote_deadline": draw(st.integers(1, 6)),
        "committee": draw(st.sampled_from((None, 1, 2, 3, nodes // 2 + 1, nodes + 1))),
    }
    if kind != "bft":
        group["base"] = draw(st.sampled_from(("cast", "all")))
    if kind == "supermajority":
        group["share"] = draw(st.sampled_from((0.55, 0.6, 2 / 3, 0.75, 1.0)))
    return group


@st.composite
def adversaries(draw: st.DrawFn, nodes: int, kind: str | None) -> Groups:
    """Return settings of an adversary."""
    kind = kind or draw(st.sampled_from(ADVERSARIES))
    if kind == "none":
        return {"kind": kind}
    group: Groups = {
        "kind": kind,
        "share": draw(shares(0, 1)),
        "count": draw(st.none() | st.integers(0, nodes)),
    }
    if kind == "sybil":  # a network of their own has nobody to join
        group["count"] = draw(st.integers(1, nodes // 2 + 1).map(lambda k: min(k, nodes)))
    own: dict[str, Groups] = {
        "random_voter": {"accept_probability": draw(shares(0, 1))},
        "sleeper": {"wake_reputation": draw(shares(0.5, 0.75))},
        "sybil": {"join_step": draw(st.integers(1, 9))},
    }
    return group | own.get(kind, {})


@st.composite
def signatures(draw: st.DrawFn) -> Groups:
    """Return settings of signatures that are easily made."""
    return {
        "min_support": draw(st.integers(1, 3)),
        "cooldown_steps": draw(st.integers(0, 4)),
        "match_radius": draw(shares(0.5, 3.5)),
        "min_scale": draw(shares(0.1, 1.0)),
    }


@st.composite
def interventions(draw: st.DrawFn, before: Groups) -> Groups:
    """Return another policy for the midst of a run, which replaces a section at least; none beside sybils."""
    if before["adversary"]["kind"] == "sybil":
        return {}
    nodes, committee = before["simulation"]["nodes"], before["consensus"]["committee"]
    kinds = st.sampled_from([kind for kind in ADVERSARIES if kind != "sybil"])
    sections = {
        "consensus": rules(nodes).map(lambda rule: rule | {"committee": committee}),
        "adversary": kinds.flatmap(lambda kind: adversaries(nodes, kind)),
        "voting": voting(),
        "signature": signatures(),
    }
    names = draw(st.sets(st.sampled_from(sorted(sections)), min_size=1))
    later = {name: draw(sections[name]) for name in sorted(names)}
    return {"step": draw(st.integers(1, before["simulation"]["steps"]))} | later


@st.composite
def voting(draw: st.DrawFn) -> Groups:
    """Return settings of how nodes judge."""
    return {
        "mode": draw(st.sampled_from(("detector", "detector", "competence"))),
        "competence": draw(shares(0.3, 1)),
        "min_history": draw(st.integers(0, 10)),
        "max_benign_coverage": draw(shares(0, 1)),
        "unseen": draw(st.sampled_from(("judge", "abstain"))),
        "unseen_neighbours": draw(st.integers(1, 4)),
        "unseen_radius": draw(shares(1, 6)),
    }


@st.composite
def churn(draw: st.DrawFn) -> Groups:
    """Return settings with which nodes crash often."""
    return {"crash_rate": draw(shares(0.05, 0.6)), "recovery_rate": draw(shares(0.2, 1))}
