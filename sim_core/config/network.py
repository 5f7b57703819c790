"""Who is whose neighbour, and how proposals and decisions travel."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim_core.config.base import Frozen, Share


class CompleteTopology(Frozen):
    """Every node is every other node's neighbour."""

    kind: Literal["complete"] = "complete"


class RingTopology(Frozen):
    """Nodes on a ring."""

    kind: Literal["ring"] = "ring"
    neighbours: int = Field(2, ge=2, le=10_000, multiple_of=2)
    """Nearest nodes that are neighbours, half on each side."""


class LatticeTopology(Frozen):
    """Cells of a torus; neighbours are the nodes in the same cell and the 8 around it (Moore)."""

    kind: Literal["lattice"] = "lattice"
    width: int | None = Field(None, ge=3)
    """Cells in a row; without it the square root of the nodes. Nodes start row by row, one a cell."""
    walk_rate: Share = 0.0
    """Probability that a node walks to one of the 8 cells around, per step."""


class SmallWorldTopology(Frozen):
    """Ring with rewired edges (Watts and Strogatz 1998)."""

    kind: Literal["small_world"] = "small_world"
    neighbours: int = Field(4, ge=2, le=10_000, multiple_of=2)
    """Nearest nodes on the ring that are joined before rewiring."""
    rewire: Share = 0.1
    """Probability that an edge is rewired."""


class ScaleFreeTopology(Frozen):
    """Preferential attachment (Barabási and Albert 1999)."""

    kind: Literal["scale_free"] = "scale_free"
    attachments: int = Field(2, ge=1, le=10_000)
    """Edges of each new node."""


class RandomTopology(Frozen):
    """Every pair is joined with the same probability (Erdős and Rényi 1959; Gilbert 1959)."""

    kind: Literal["random"] = "random"
    mean_degree: float = Field(8.0, gt=0, le=10_000)
    """Expected neighbours of a node."""


class EdgeListTopology(Frozen):
    """The edges of a file."""

    kind: Literal["edge_list"] = "edge_list"
    path: str | None = None
    """Text file with two node numbers (from 0) per line, separated by a comma or blanks."""


TopologyConfig = Annotated[
    CompleteTopology
    | RingTopology
    | LatticeTopology
    | SmallWorldTopology
    | ScaleFreeTopology
    | RandomTopology
    | EdgeListTopology,
    Field(discriminator="kind"),
]


class DisseminationBase(Frozen):
    """What all ways to disseminate have in common."""

    lifetime: int = Field(100, ge=1, le=1_000_000)
    """Steps after its decision for which a proposal's decision travels at most."""


class LedgerDissemination(DisseminationBase):
    """Everyone reads the shared ledger in the next step."""

    kind: Literal["ledger"] = "ledger"


class MessageDissemination(DisseminationBase):
    """What all ways have in common that send messages to neighbours."""

    latency: int = Field(0, ge=0, le=1_000)
    """Steps that a message is under way beyond the one in which it is sent."""
    loss: float = Field(0.0, ge=0, lt=1)
    """Probability that a call is lost."""
    batch: int = Field(10, ge=1, le=100_000)
    """Proposals and decisions that one message carries at most."""


class GossipBase(MessageDissemination):
    """What all gossip has in common."""

    fanout: int = Field(1, ge=1, le=1_000)
    """Neighbours that a node calls per step."""


class PushDissemination(GossipBase):
    """Who holds something calls random neighbours and hands over what it has."""

    kind: Literal["push"] = "push"


class PullDissemination(GossipBase):
    """Every node calls random neighbours and is handed what it lacks."""

    kind: Literal["pull"] = "pull"


class PushPullDissemination(GossipBase):
    """Every node calls random neighbours; both hand over what the other lacks."""

    kind: Literal["push_pull"] = "push_pull"


class FloodDissemination(MessageDissemination):
    """What a node learns it sends to all neighbours in the next step, once."""

    kind: Literal["flood"] = "flood"


class NoDissemination(DisseminationBase):
    """Isolated nodes: each decides on its own signatures and keeps them. The baseline."""

    kind: Literal["none"] = "none"


class CentralisedDissemination(DisseminationBase):
    """One trusted centre sees all traffic with one detector and decides alone. The other baseline."""

    kind: Literal["centralised"] = "centralised"


DisseminationConfig = Annotated[
    LedgerDissemination
    | PushDissemination
    | PullDissemination
    | PushPullDissemination
    | FloodDissemination
    | NoDissemination
    | CentralisedDissemination,
    Field(discriminator="kind"),
]
