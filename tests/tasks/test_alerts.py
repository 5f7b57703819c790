"""Telling people: what arrives at a real receiver, once, and not too often."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from sim_core.config import AlertsConfig
from sim_core.errors import ConfigurationError
from tasks.alerts import Alerts, channels
from tasks.issues import Issue
from tests.ports import free_port
from tests.receivers import Receiver, receiving

FULL = Issue("memory", "critical", "95 % of the machine's memory is in use", "end other programs")
BUSY = Issue("cpu", "high", "other programs take 90 % of the processors", "see what else runs")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_slack_and_pagerduty_get_what_they_understand(receiver: Receiver) -> None:
    ways = channels(
        {
            "QUORUMLAB_ALERT_WEBHOOK": f"{receiver.address}/services/T0/B0/secret",
            "QUORUMLAB_PAGERDUTY_KEY": "0123",
            "QUORUMLAB_PAGERDUTY_URL": f"{receiver.address}/v2/enqueue",
        }
    )
    shown: list[str] = []
    alerts = Alerts("quorum-1", AlertsConfig(), ways, tell=shown.append)
    alerts.raise_all([FULL])
    slack, event = map(json.loads, receiver.bodies)
    assert [path for _, path, _ in receiver.received] == ["/services/T0/B0/secret", "/v2/enqueue"]
    assert slack == {
        "text": "*critical* quorum-1: 95 % of the machine's memory is in use. end other programs"
    }
    assert event["routing_key"] == "0123"
    assert event["event_action"] == "trigger"
    assert event["dedup_key"] == "quorumlab/quorum-1/memory"
    assert event["payload"]["severity"] == "critical"
    assert {"summary", "source", "severity"} <= set(event["payload"])
    assert shown == ["critical: 95 % of the machine's memory is in use; end other programs"]
    assert (alerts.counts.sent, alerts.counts.failed) == (2, 0)


def test_an_issue_is_told_again_when_it_is_worse_or_long_ago(receiver: Receiver) -> None:
    clock, shown = Clock(), list[str]()
    ways = channels({"QUORUMLAB_ALERT_WEBHOOK": receiver.address})
    alerts = Alerts("e", AlertsConfig(repeat_seconds=600), ways, tell=shown.append, clock=clock)
    spike = Issue("cpu", "medium", "other programs take 40 %", "see what else runs")
    for now, issue in ((0, spike), (30, spike), (60, BUSY), (90, spike), (659, BUSY), (660, BUSY)):
        clock.now = now
        alerts.raise_all([issue])
    assert [round(at) for at, _ in alerts.history] == [0, 60, 660]
    assert len(receiver.received) == len(shown) == 3
    assert alerts.counts.repeated == 3
    assert [row["after_seconds"] for row in alerts.report()] == [0, 60, 660]


def test_no_more_messages_leave_than_an_hour_may_have(receiver: Receiver) -> None:
    clock, shown = Clock(), list[str]()
    ways = channels({"QUORUMLAB_ALERT_WEBHOOK": receiver.address})
    alerts = Alerts("e", AlertsConfig(most_per_hour=2), ways, tell=shown.append, clock=clock)
    for number in range(5):
        alerts.raise_all([Issue(f"kind {number}", "low", "text", "advice")])
    assert (len(receiver.received), alerts.counts.withheld, len(shown)) == (2, 3, 5)
    clock.now = 3_600.0
    alerts.raise_all([FULL])
    assert len(receiver.received) == 3


@pytest.mark.parametrize("status", [404, 500, None])
def test_a_receiver_that_fails_is_named_without_its_address(
    receiver: Receiver, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    address = receiver.address if status else f"http://127.0.0.1:{free_port()}"
    receiver.status = status or 200
    ways = channels({"QUORUMLAB_ALERT_WEBHOOK": f"{address}/services/secret"})
    alerts = Alerts("e", AlertsConfig(), ways, tell=list[str]().append)
    with caplog.at_level(logging.WARNING, "quorumlab.alerts"):
        alerts.raise_all([FULL, BUSY])
    assert alerts.counts.failed == 2
    assert "webhook took no message" in caplog.text
    assert "secret" not in caplog.text
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize("address", ["file:///etc/passwd", "gopher://x", "127.0.0.1:80"])
def test_other_addresses_than_those_of_the_web_are_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="QUORUMLAB_ALERT_WEBHOOK must be an address"):
        channels({"QUORUMLAB_ALERT_WEBHOOK": address})
    with pytest.raises(ConfigurationError, match="QUORUMLAB_PAGERDUTY_URL"):
        channels({"QUORUMLAB_PAGERDUTY_KEY": "k", "QUORUMLAB_PAGERDUTY_URL": address})
