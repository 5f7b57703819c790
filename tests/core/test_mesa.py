"""The model as Mesa's tools see it: agents that are views on arrays, made only when asked for."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mesa
import numpy as np
import pytest

from sim_core.agents import NodeAgent
from sim_core.errors import RunTimeout
from sim_core.model import NetworkModel
from sim_core.simulate import simulate
from sim_core.simulated_network import SimulatedNetwork

MakeModel = Callable[..., NetworkModel]
LIVELY: dict[str, Any] = {
    "adversary": {"kind": "poisoner", "count": 2},
    "churn": {"crash_rate": 0.2},
    "response": {"blacklist_capacity": 3},
}


def test_steps_make_no_agents(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **named: Any) -> None:
        raise AssertionError("an agent was made")

    monkeypatch.setattr(NodeAgent, "__init__", fail)
    model = make_model(**LIVELY)
    for _ in range(12):
        model.step()
    assert not model._agents
    assert model.steps == 12


def test_there_is_one_agent_per_node_numbered_from_1(make_model: MakeModel):
    model = make_model()
    other = make_model()
    for m in (model, other, model):
        assert [agent.unique_id for agent in m.agents] == list(range(1, 9))
        assert [agent.node for agent in m.agents] == list(range(8))
    assert all(type(agent) is NodeAgent for agent in model.agents)
    assert model.agents is model.agents
    assert list(model.agents_by_type) == [NodeAgent]


def test_agents_show_the_rows_of_the_arrays_at_any_step(make_model: MakeModel):
    model = make_model(**LIVELY)
    agents = list(model.agents)
    seen_held = seen_down = False
    for _ in range(12):
        model.step()
        state = model.state
        for node, agent in enumerate(agents):
            assert agent.is_honest is (not model.liars[node])
            assert agent.is_up is bool(state.up[node])
            agreed, differed = state.reputation[node]
            assert agent.reputation == agreed / (agreed + differed)
            assert 0 < agent.reputation < 1
            assert agent.threshold == state.nodes.threshold[node]
            held = [int(n) for n in state.blacklist[node] if n >= 0]
            assert agent.blacklist == tuple(held)
            seen_held |= bool(held)
            seen_down |= not agent.is_up
    assert seen_held
    assert seen_down


def test_agents_change_no_bit_of_the_run(make_model: MakeModel):
    plain, watched = make_model(**LIVELY), make_model(**LIVELY)
    for _ in range(8):
        plain.step()
        watched.agents.shuffle().get("reputation")
        watched.random.random()
        watched.rng.random()
        watched.step()
    assert watched.state.head == plain.state.head


def test_agent_sets_select_sort_and_aggregate(make_model: MakeModel):
    model = make_model(**LIVELY)
    for _ in range(8):
        model.step()
    liars = model.agents.select(lambda agent: not agent.is_honest)
    assert {agent.node for agent in liars} == set(np.flatnonzero(model.liars).tolist())
    ranked = model.agents.sort("reputation", ascending=True).get("reputation")
    assert ranked == sorted(ranked)
    mean = model.agents.agg("reputation", np.mean)
    reputation = model.state.reputation
    assert mean == pytest.approx((reputation[:, 0] / reputation.sum(axis=1)).mean())
    assert set(model.agents.groupby("is_up").groups) <= {True, False}


def test_data_collector_collects_over_agents_and_model(make_model: MakeModel):
    model = make_model(**LIVELY)
    collector = mesa.DataCollector(
        model_reporters={"pending": lambda m: int(m.entries["metrics"][0]["pending"])},
        agent_reporters={"reputation": "reputation", "held": lambda a: len(a.blacklist)},
    )
    for _ in range(5):
        model.step()
        collector.collect(model)
    frame = collector.get_agent_vars_dataframe()
    assert frame.shape == (5 * 8, 2)
    last = frame.xs(5, level="Step")
    assert last["reputation"].tolist() == [agent.reputation for agent in model.agents]
    assert last["held"].tolist() == [len(agent.blacklist) for agent in model.agents]
    assert len(collector.get_model_vars_dataframe()) == 5


@pytest.mark.parametrize("with_agents", [False, True])
def test_closed_model_is_freed(make_config: Callable[..., Any], with_agents: bool):
    model = NetworkModel(make_config())
    model.step()
    if with_agents:
        assert len(model.agents) == 8
    gone = weakref.ref(model)
    arrays = weakref.ref(model.state.nodes.recent)
    assert (model in mesa.Agent._ids) is with_agents
    model.close()
    model.close()
    assert model not in mesa.Agent._ids
    del model
    gc.collect()
    assert gone() is None
    assert arrays() is None


def test_simulated_runs_leave_no_network_behind(make_spec: Callable[..., Any]):
    def networks() -> int:
        gc.collect()
        return sum(isinstance(thing, SimulatedNetwork) for thing in gc.get_objects())

    before = networks()
    list(simulate(make_spec()))
    next(iter(simulate(make_spec())))  # left before its end
    with pytest.raises(RunTimeout):
        list(simulate(replace(make_spec(), max_seconds=-1.0)))
    assert networks() == before


def test_network_without_mesa_makes_the_same_steps(make_config: Callable[..., Any]):
    config = make_config(**LIVELY)
    plain, view = SimulatedNetwork(config, seed=3), NetworkModel(config, seed=3)
    for _ in range(12):
        plain.step()
        view.step()
        assert plain.block == view.block
        assert plain.state.head == view.state.head
    view.close()


# --- neighbours, inboxes, alerts ----------------------------------------------------------


def test_agents_know_their_neighbours_and_where_they_are(make_model: MakeModel):
    alone = list(make_model().agents)
    assert alone[3].neighbours == (0, 1, 2, 4, 5, 6, 7)
    assert alone[3].position is None
    ring = list(make_model(topology={"kind": "ring"}).agents)
    assert ring[0].neighbours == (1, 7)
    cells = list(make_model(topology={"kind": "lattice", "width": 3}).agents)
    assert [agent.position for agent in cells[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert cells[0].neighbours == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("kind", ["ledger", "push", "flood"])
def test_an_inbox_holds_what_reached_the_node_in_the_last_step(make_model: MakeModel, kind: str):
    """A node may vote on a proposal from the step on in which it is in its inbox, no sooner."""
    model = make_model(dissemination={"kind": kind}, topology={"kind": "ring"}, **LIVELY)
    agents = list(model.agents)
    assert agents[0].inbox == ()
    arrived: dict[tuple[int, int], int] = {}
    decisions = 0
    for step in range(12):
        model.step()
        for agent in agents:
            for message in agent.inbox:
                if message.kind == "proposal":
                    assert (agent.node, message.proposal) not in arrived, "it came twice"
                    arrived[agent.node, message.proposal] = step
                else:
                    decisions += 1
        for vote in model.entries["vote"]:
            node, number = int(vote["node"]), int(vote["proposal"])
            if (node, number) in arrived:
                assert arrived[node, number] == step, "it votes when it learns"
    assert arrived
    assert decisions


def test_neighbours_are_told_of_alarms(make_model: MakeModel):
    model = make_model(topology={"kind": "ring"})
    agents = list(model.agents)
    assert agents[0].neighbour_alerts == {}
    seen = 0
    for _ in range(12):
        model.step()
        flagged = np.bincount(model.entries["alert"]["node"], minlength=8)
        for agent in agents:
            assert agent.alarms == flagged[agent.node]
            expected = {n: int(flagged[n]) for n in agent.neighbours if flagged[n]}
            assert agent.neighbour_alerts == expected
            seen += len(expected)
    assert seen


@pytest.mark.parametrize("activation", ["simultaneous", "random", "priority"])
def test_activation_orders_the_proposals_of_a_step(make_model: MakeModel, activation: str):
    model = make_model(
        simulation={"activation": activation, "nodes": 8},
        signature={"min_support": 1, "match_radius": 0.01, "cooldown_steps": 0},
        **{k: v for k, v in LIVELY.items() if k != "adversary"},
        adversary={"kind": "flipper", "share": 0.5},
    )
    orders = []
    model.state.reputation[:, 0] = [3, 1, 9, 2, 8, 5, 7, 4]
    for _ in range(12):
        mean = model.state.reputation[:, 0] / model.state.reputation.sum(axis=1)
        model.step()
        proposers = model.entries["proposal"]["proposer"].tolist()
        if activation == "priority":
            assert proposers == sorted(proposers, key=lambda node: (-mean[node], node))
        orders.append(proposers == sorted(proposers))
    assert all(orders) is (activation == "simultaneous")
