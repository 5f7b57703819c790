"""The simulated network as a Mesa model: a view that runs themselves do without."""

from __future__ import annotations

from typing import Any

import mesa
from mesa.agent import AgentSet

from sim_core.agents import NodeAgent
from sim_core.config import ModelConfig
from sim_core.simulated_network import SimulatedNetwork


class NetworkModel(SimulatedNetwork, mesa.Model):  # type: ignore[misc]  # mesa has no types
    """A simulated network that Mesa's tools can step, watch and collect from.

    `agents` are views on the rows of its arrays, made when first asked for; its steps give the
    same bits as those of the plain network.
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0, **others: Any) -> None:
        """Start as `SimulatedNetwork` does, which knows the other arguments.

        Raises:
            DataError: a data file of the traffic or topology is missing or damaged.
        """
        mesa.Model.__init__(self, seed=seed)
        SimulatedNetwork.__init__(self, config, seed=seed, **others)

    @property
    def agents(self) -> AgentSet:
        """The nodes as Mesa agents, made when first asked for."""
        if not self._agents:
            NodeAgent.create_agents(self, self.config.simulation.nodes)
        return self._all_agents

    def close(self) -> None:
        """Let go of the model: Mesa's counter of agent numbers would keep it alive."""
        mesa.Agent._ids.pop(self, None)  # noqa: SLF001 - Mesa has no public way
