"""What checks are given: settings of a kind, and small networks that use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

import numpy as np

from sim_core.config import AdversaryBase, DetectorBase, Frozen, ModelConfig, NoAdversary
from sim_core.detectors import COMMON_NODES, Detector, make_detector
from sim_core.plugins.loading import built_in, load
from sim_core.randomness import Streams
from sim_core.simulated_network import SimulatedNetwork

SMALL: dict[str, Any] = {
    "simulation": {"nodes": 8, "flows_per_node": 10, "steps": 12},
    "traffic": {
        "kind": "synthetic",
        "warmup_flows": 64,
        "campaigns": [
            {
                "family": "port_scan",
                "start": 2,
                "duration": 6,
                "node_share": 0.5,
                "flow_share": 0.5,
                "intensity": 3.0,
            },
            {"family": "exfiltration", "start": 5, "duration": 5, "flow_share": 0.4},
        ],
    },
}
"""A network in which something happens within a few steps."""


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`; a group of another kind replaces the one in the base."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = value
        if isinstance(old, dict) and isinstance(value, dict):
            kind = old.get("kind")
            result[key] = merged(old, value) if value.get("kind", kind) == kind else value
    return result


@dataclass(frozen=True)
class Case:
    """Settings that are checked."""

    group: str
    """Of the configuration: detector, adversary or traffic."""
    settings: Any
    quick: Any
    """The same, with which what takes long to come happens within a few steps."""

    @classmethod
    def of(cls, settings: Frozen, quick: Mapping[str, Any] | None = None) -> Case:
        """Return the case of some settings.

        Args:
            settings: Of a built-in kind, or of an installed plug-in.
            quick: Changes that make things happen soon; without them those that the plug-in names.

        Raises:
            ConfigurationError: the kind is neither built in nor offered by an installed package.
        """
        group = group_of(settings)
        kind: str = settings.kind  # type: ignore[attr-defined]  # all of them have one
        if quick is None:
            quick = {} if kind in built_in(group) else load(group, kind).plugin.quick
        changed = type(settings).model_validate({**settings.model_dump(), **quick})
        return cls(group, settings, changed)

    def config(self, **groups: Any) -> ModelConfig:
        """Return a small configuration that uses the settings."""
        used = {self.group: self.settings.model_dump()}
        return ModelConfig.model_validate(merged(merged(SMALL, used), groups))

    def network(self, *, seed: int = 1, replicate: int = 0, **groups: Any) -> SimulatedNetwork:
        """Return a small network that uses the settings."""
        return SimulatedNetwork(self.config(**groups), seed=seed, replicate=replicate)

    def detector(self, common: Any = None, *, quick: bool = True) -> Detector:
        """Return a detector that has seen what all nodes start from, if that is given."""
        settings = self.quick if quick else self.settings
        detector = make_detector(settings, Streams(root=3, replicate=0))
        if common is not None:
            detector.prepare(common[:COMMON_NODES])
        return detector

    @cached_property
    def adapts(self) -> bool:
        """Whether this detector learns at all: some are grown once, and stay."""
        return self._moves(learns=True)

    @cached_property
    def follows(self) -> bool:
        """Whether something in this detector follows every flow, learned or not, as charts do."""
        return self._moves(learns=False)

    def _moves(self, *, learns: bool) -> bool:
        rng = np.random.default_rng(7)
        warmup = rng.standard_normal((2, 60, 5), dtype=np.float32)
        detector = self.detector(warmup)
        state = detector.init(2, warmup)
        before = {name: values.tobytes() for name, values in state.items()}
        for _ in range(40):
            x = rng.standard_normal((2, 6, 5), dtype=np.float32)
            if learns:
                detector.learn(state, x, np.ones((2, 6), dtype=np.bool_))
            else:
                up, alarmed = np.ones(2, dtype=np.bool_), np.zeros(2, dtype=np.bool_)
                detector.advance(state, x, up, alarmed)
        return before != {name: values.tobytes() for name, values in state.items()}


def group_of(settings: Frozen) -> str:
    """Return the group of the configuration that settings belong to."""
    if isinstance(settings, DetectorBase):
        return "detector"
    return "adversary" if isinstance(settings, AdversaryBase | NoAdversary) else "traffic"


def variants(settings: Frozen) -> Iterator[tuple[str, Frozen]]:
    """Yield settings, and each other value of their own choices and switches, with a name each."""
    kind: str = settings.kind  # type: ignore[attr-defined]
    yield kind, settings
    for name, field in type(settings).model_fields.items():
        if get_origin(field.annotation) is Literal:
            values = get_args(field.annotation)
        else:
            values = (True, False) if field.annotation is bool else ()
        for value in values:
            if name not in ("kind", "learn") and value != getattr(settings, name):
                changed = type(settings).model_validate({**settings.model_dump(), name: value})
                yield f"{kind}-{name}={value}", changed
