"""Nodes as Mesa agents: light views on the rows of the model's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import mesa
import numpy as np
from numpy.typing import NDArray

from sim_core.state import SLOTS_OF_A_WORD

if TYPE_CHECKING:
    from sim_core.model import NetworkModel


@dataclass(frozen=True)
class Message:
    """Something that has reached a node."""

    kind: Literal["proposal", "decision"]
    proposal: int
    """Number of the proposal."""
    sender: int
    """Node that made the proposal; who handed it over is not kept."""


class NodeAgent(mesa.Agent):  # type: ignore[misc]  # mesa 3.3 ships without types
    """One node; every attribute is read from the model's arrays when it is asked for."""

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
        return float(self.model.shards.collect()[0].threshold[self.node])

    @property
    def blacklist(self) -> tuple[int, ...]:
        """Numbers of the signatures that it holds."""
        held = self.model.state.blacklist[self.node]
        return tuple(int(number) for number in held[held >= 0])

    @property
    def position(self) -> tuple[int, int] | None:
        """Cell on the torus, None where the topology has no space."""
        cells = self.model.state.network.get("position")
        return None if cells is None else (int(cells[self.node, 0]), int(cells[self.node, 1]))

    @property
    def neighbours(self) -> tuple[int, ...]:
        """Nodes that it can send to."""
        graph = self.model.topology.neighbours(self.model.state.network)
        others: NDArray[Any]
        if graph is None:
            others = np.delete(np.arange(self.model.config.simulation.nodes), self.node)
        else:
            others = graph.indices[graph.indptr[self.node] : graph.indptr[self.node + 1]]
        return tuple(int(node) for node in others)

    @property
    def alarms(self) -> int:
        """Flows that it flagged in the last step."""
        findings = self.model.findings
        return 0 if findings is None else int(findings.alarms[self.node])

    @property
    def neighbour_alerts(self) -> dict[int, int]:
        """Neighbours that raised alarms in the last step, and how many each."""
        findings = self.model.findings
        if findings is None:
            return {}
        return {n: int(findings.alarms[n]) for n in self.neighbours if findings.alarms[n] > 0}

    @property
    def inbox(self) -> tuple[Message, ...]:
        """What reached it in the last step, in order of proposal, proposals before decisions."""
        arrived, proposals = self.model.arrived, self.model.travelled
        if arrived is None or proposals is None:
            return ()
        found: list[Message] = []
        kinds: tuple[tuple[Literal["proposal", "decision"], NDArray[np.uint64]], ...] = (
            ("proposal", arrived.held),
            ("decision", arrived.informed),
        )
        for kind, bits in kinds:
            if bits.size == 0:
                continue
            word, bit = np.divmod(np.maximum(proposals.slot, 0), SLOTS_OF_A_WORD)
            new = (bits[self.node, word] >> bit.astype(np.uint64)) & np.uint64(1)
            rows = np.flatnonzero((new > 0) & (proposals.slot >= 0))
            found += [
                Message(kind, int(proposals.number[r]), int(proposals.proposer[r])) for r in rows
            ]
        return tuple(found)
