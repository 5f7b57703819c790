"""The network of a run at a step, computed again from its record: who is what, and who blocks what.

The ledger keeps what was decided, not every node's state; but a run is a function of its record. So
it is simulated up to the step, and the hash of its last block says whether that is what happened.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from sqlalchemy import select

from flows.inspect import spec_of
from sim_core.adversaries import joined_nodes
from sim_core.checkpoint import decode, encode
from sim_core.errors import UserError
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import BLOCKS, RUNS
from sim_core.simulate import RunSpec
from sim_core.simulated_network import SimulatedNetwork

MOST_NODES = 500
MOST_EDGES = 4_000
"""That are drawn; of more, an even selection."""
MOST_MARKS = 40
"""States of a run that are kept, to go on from."""
TRUSTED = 0.5
"""Mean reputation below which a node's own votes were mostly against what was decided."""
BEHAVIOURS = ("honest", "lying", "down", "not joined")
BESIDE_LINKS = {
    "none": "Nothing travels over links (dissemination=none): nodes decide alone. ",
    "centralised": "Nothing travels over links (dissemination=centralised): a centre, which is not drawn, decides. ",
    "ledger": "Nothing travels over links (dissemination=ledger): everybody reads the ledger. ",
}
"""What links do not carry, by kind of dissemination."""


@dataclass(frozen=True)
class Network:
    """The network after a step."""

    step: int
    """The last one that was taken."""
    is_recorded: bool | None
    """Whether the ledger's block of this step has this hash; None where it has none."""
    nodes: pd.DataFrame
    """node, behaviour, activity, reputation, blocks, received, x, y."""
    edges: np.ndarray[Any, Any]
    """`[n, 2]`."""
    all_edges: int
    blocked: pd.DataFrame
    """signature, proposer, nodes: who holds it, share, told apart for honest nodes."""
    note: str


class Replayer:
    """Steps through one run, forwards and back; may be used from several threads."""

    def __init__(self, spec: RunSpec) -> None:
        """Take no step yet.

        Raises:
            UserError: the network has more nodes than can be looked at.
        """
        n_nodes = spec.config.simulation.nodes
        if n_nodes > MOST_NODES:
            raise UserError(
                f"this network has {n_nodes:,} nodes: more than {MOST_NODES} are neither computed again "
                "nor drawn here. Metrics and signatures of the run are on the other pages"
            )
        self.spec = spec
        self._lock = threading.Lock()
        self._every = max(1, -(-spec.config.simulation.steps // MOST_MARKS))
        self._marks: dict[int, bytes] = {}
        self._places: np.ndarray[Any, Any] | None = None

    def at(self, step: int) -> SimulatedNetwork:
        """Return the network as it is after a step, with what happened in it.

        Raises:
            DataError: a data file is missing or damaged.
        """
        with self._lock:
            start = max((mark for mark in self._marks if mark <= step), default=0)
            spec = self.spec
            network = SimulatedNetwork(
                spec.config,
                seed=spec.seed,
                replicate=spec.replicate,
                run_key=spec.run_key,
                state=decode(self._marks[start], spec.run_key) if start else None,
            )
            while network.state.step <= step:
                if network.state.step % self._every == 0 and network.state.step not in self._marks:
                    self._marks[network.state.step] = encode(network.collect(), spec.run_key)
                network.step()
        return network

    def places(self, edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return where nodes are drawn: the same places at every step `[n_nodes, 2]`."""
        if self._places is None:
            graph: Any = nx.Graph()
            graph.add_nodes_from(range(self.spec.config.simulation.nodes))
            graph.add_edges_from(edges.tolist())
            is_dense = len(edges) > MOST_EDGES or nx.density(graph) > 0.9
            found = nx.circular_layout(graph) if is_dense else nx.spring_layout(graph, seed=1)
            self._places = np.array([found[node] for node in range(len(found))])
        return self._places


def replayer_of(ledger: Ledger, run_key: str, names: Sequence[str]) -> Replayer:
    """Return what steps through a run of one of these experiments, to its last recorded step.

    Raises:
        UserError: the code of the model or a data file has changed since; it is too large.
    """
    spec = spec_of(ledger, run_key, names)
    return Replayer(replace(spec, max_seconds=float("inf")))


def look(ledger: Ledger, replayer: Replayer, step: int) -> Network:
    """Return the network of a run after a step."""
    network = replayer.at(step)
    state = network.state
    edges, is_complete = _edges(network)
    places = replayer.places(edges)
    recorded = _recorded_hash(ledger, replayer.spec.run_key, step)
    thinned = edges if len(edges) <= MOST_EDGES else edges[:: -(-len(edges) // MOST_EDGES)]
    note = "Every node is every other one's neighbour. " if is_complete else ""
    note += BESIDE_LINKS.get(replayer.spec.config.dissemination.kind, "")
    if len(thinned) < len(edges):
        note += f"{len(thinned):,} of {len(edges):,} links are drawn."
    return Network(
        step,
        None if recorded is None else recorded == state.head,
        _nodes(network, places),
        thinned,
        len(edges),
        _blocked(network),
        note.strip(),
    )


def _edges(network: SimulatedNetwork) -> tuple[np.ndarray[Any, Any], bool]:
    """Return each link once, and whether everybody is linked with everybody."""
    found = network.topology.neighbours(network.state.network)
    n_nodes = len(network.state.up)
    if found is None:
        return np.column_stack(np.triu_indices(n_nodes, 1)), True
    pairs = np.column_stack([np.repeat(np.arange(n_nodes), found.degree), found.indices])
    return np.unique(np.sort(pairs, axis=1), axis=0), False


def _nodes(network: SimulatedNetwork, places: np.ndarray[Any, Any]) -> pd.DataFrame:
    state, liars = network.state, network.liars
    joined = joined_nodes(network.config, liars, state.step - 1)
    behaviour = np.where(liars & state.awake, "lying", "honest").astype(object)
    behaviour[~state.up] = "down"
    behaviour[~joined] = "not joined"
    reputation = state.reputation[:, 0] / state.reputation.sum(axis=1)
    busy = np.zeros(len(liars), dtype=bool)
    for kind, column in (("proposal", "proposer"), ("support", "node"), ("vote", "node")):
        busy[network.entries[kind][column]] = True
    activity = np.where(busy, "active", "idle").astype(object)
    activity[reputation < TRUSTED] = "anomalous"
    activity[~state.up] = "failed"
    return pd.DataFrame(
        {
            "node": np.arange(len(liars)),
            "behaviour": behaviour,
            "activity": activity,
            "reputation": reputation.round(3),
            "blocks": (state.blacklist >= 0).sum(axis=1),
            "received": state.blacklist_count,
            "x": places[:, 0],
            "y": places[:, 1],
        }
    )


def _blocked(network: SimulatedNetwork) -> pd.DataFrame:
    """Return the signatures that some node blocks, the most widely held first."""
    state = network.state
    honest = ~network.liars
    rows = []
    for number, proposer in zip(state.signatures.number, state.signatures.proposer, strict=True):
        holders = (state.blacklist == number).any(axis=1)
        if holders.any():
            names = np.flatnonzero(holders)
            rows.append(
                {
                    "signature": int(number),
                    "proposer": int(proposer),
                    "held by": int(holders.sum()),
                    "share of honest nodes": float(holders[honest].mean())
                    if honest.any()
                    else None,
                    "nodes": ", ".join(map(str, names[:20])) + (" …" if len(names) > 20 else ""),
                }
            )
    columns = ["signature", "proposer", "held by", "share of honest nodes", "nodes"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["held by", "signature"], ascending=[False, True], ignore_index=True
    )


def _recorded_hash(ledger: Ledger, run_key: str, step: int) -> bytes | None:
    wanted = (
        select(BLOCKS.c.hash)
        .join(RUNS, RUNS.c.id == BLOCKS.c.run)
        .where(RUNS.c.run_key == run_key, BLOCKS.c.step == step)
    )
    with ledger.reading() as connection:
        found = connection.execute(wanted).scalar_one_or_none()
    return None if found is None else bytes(found)
