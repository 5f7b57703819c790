"""What becomes of a network's state when another policy begins to hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim_core.config import ModelConfig
from sim_core.phases import immune_nodes
from sim_core.signatures import cover_references
from sim_core.state import State


def intervene(
    before: ModelConfig,
    after: ModelConfig,
    references: NDArray[np.float32],
    liars: NDArray[np.bool_],
    state: State,
) -> None:
    """Change a state between the last step of one policy and the first of the next; twice is once.

    Proposals that are under way keep their seats and ballots, and nodes all that they know.

    Args:
        before: What held until now.
        after: What holds from the step on that comes next.
        references: `[n_targets, 64, n_features]`.
        liars: Who lies from now on `[n_nodes]`.
        state: Changed in place.
    """
    if after.adversary.kind != before.adversary.kind:
        state.awake = np.full(len(liars), after.adversary.kind != "sleeper")
    if after.signature.match_radius != before.signature.match_radius:
        known = state.signatures
        known.covers = cover_references(
            references, known.centroid, known.scale, after.signature.match_radius
        )
    immune = immune_nodes(state)[~liars]
    state.immune = immune.mean(axis=0) if len(immune) else np.zeros_like(state.immune)
