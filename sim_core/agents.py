"""Nodes as Mesa agents: light views on the rows of the model's arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mesa

if TYPE_CHECKING:
    from sim_core.model import NetworkModel


class NodeAgent(mesa.Agent):  # type: ignore[misc]  # mesa 3.3 ships without types
    """One node; every attribute is read from the model's state when it is asked for."""

    model: NetworkModel

    @property
    def node(self) -> int:
        """Row of this node in all arrays, from 0 (Mesa counts agents from 1)."""
        return int(self.unique_id) - 1

    @property
    def is_honest(self) -> bool:
        """Whether it follows the protocol."""
        return not bool(self.model.liars[self.node])

    @property
    def is_up(self) -> bool:
        """Whether it is running."""
        return bool(self.model.state.up[self.node])

    @property
    def reputation(self) -> float:
        """Mean of its Beta distribution, in (0, 1)."""
        agreed, differed = self.model.state.reputation[self.node]
        return float(agreed / (agreed + differed))

    @property
    def threshold(self) -> float:
        """Score above which it raises an alarm."""
        return float(self.model.state.threshold[self.node])

    @property
    def blacklist(self) -> tuple[int, ...]:
        """Numbers of the signatures that it holds."""
        held = self.model.state.blacklist[self.node]
        return tuple(int(number) for number in held[held >= 0])
