"""Telling people about issues: each once, not too many, and never at the cost of the experiment.

Where to is said by the environment alone: addresses and keys of alerts are secrets, and whoever
configures an experiment must not be able to make this process call an address of their choice.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from sim_core.config import AlertsConfig
from sim_core.errors import ConfigurationError
from tasks.issues import Issue

WEBHOOK = "QUORUMLAB_ALERT_WEBHOOK"
"""Address that takes messages in Slack's format."""
PAGERDUTY_KEY = "QUORUMLAB_PAGERDUTY_KEY"
"""Integration key of a service of PagerDuty (Events API v2)."""
PAGERDUTY_URL = "QUORUMLAB_PAGERDUTY_URL"
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
PAGERDUTY_SEVERITIES = {"low": "info", "medium": "warning", "high": "error", "critical": "critical"}
SEND_SECONDS = 5.0
HOUR = 3600.0
LOG = logging.getLogger("quorumlab.alerts")


class Channel(Protocol):
    """A way to people."""

    name: str

    def send(self, experiment: str, issue: Issue) -> None:
        """Deliver a message; raises OSError, with no address in it, where that fails."""


@dataclass(frozen=True)
class Slack:
    """A webhook that takes Slack's format."""

    url: str
    name = "webhook"

    def send(self, experiment: str, issue: Issue) -> None:
        """Post the message."""
        text = f"*{issue.severity}* {experiment}: {issue.text}. {issue.advice}"
        _post(self.url, {"text": text})


@dataclass(frozen=True)
class PagerDuty:
    """A service of PagerDuty; an issue of the same kind joins the incident that it has opened."""

    key: str
    url: str = PAGERDUTY
    name = "pagerduty"

    def send(self, experiment: str, issue: Issue) -> None:
        """Trigger an event."""
        payload = {
            "summary": f"{experiment}: {issue.text}",
            "source": platform.node() or "quorumlab",
            "severity": PAGERDUTY_SEVERITIES[issue.severity],
            "component": "quorumlab",
            "group": experiment,
            "class": issue.kind,
            "custom_details": {"advice": issue.advice},
        }
        event = {
            "routing_key": self.key,
            "event_action": "trigger",
            "dedup_key": f"quorumlab/{experiment}/{issue.kind}",
            "payload": payload,
        }
        _post(self.url, event)


def _post(url: str, body: dict[str, Any]) -> None:
    import httpx

    try:
        answer = httpx.post(url, json=body, timeout=SEND_SECONDS)
    except httpx.HTTPError as error:
        raise OSError(type(error).__name__) from None  # its text may hold the address
    if answer.is_error:
        raise OSError(f"answered {answer.status_code}")


def channels(environment: Mapping[str, str] = os.environ) -> list[Channel]:
    """Return the ways to people that the environment names.

    Raises:
        ConfigurationError: an address is none of the web.
    """
    found: list[Channel] = []
    if url := environment.get(WEBHOOK):
        found.append(Slack(_checked(url, WEBHOOK)))
    if key := environment.get(PAGERDUTY_KEY):
        url = environment.get(PAGERDUTY_URL, PAGERDUTY)
        found.append(PagerDuty(key, _checked(url, PAGERDUTY_URL)))
    return found


def _checked(url: str, variable: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ConfigurationError(
            f"{variable} must be an address that begins with https:// or http://"
        )
    return url


@dataclass
class AlertCounts:
    """What became of messages."""

    told: int = 0
    """Issues that were new, or had become worse, or were told long ago."""
    sent: int = 0
    failed: int = 0
    repeated: int = 0
    """Issues that had been told already."""
    withheld: int = 0
    """Messages beyond the most of an hour."""


class Alerts:
    """Tells about issues."""

    def __init__(
        self,
        experiment: str,
        config: AlertsConfig,
        ways: Sequence[Channel],
        *,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know of no issue yet; `tell` shows one to whoever follows the experiment."""
        self.counts = AlertCounts()
        self.history: list[tuple[float, Issue]] = []
        """Issues that were told, and when (of the clock)."""
        self._experiment, self._config, self._ways = experiment, config, ways
        self._tell, self._clock = tell, clock
        self._began = clock()
        self._told: dict[str, tuple[float, int]] = {}
        self._sent: deque[float] = deque()

    def raise_all(self, issues: Sequence[Issue]) -> list[Issue]:
        """Tell about those issues that were not told already, and return them."""
        new = []
        for issue in issues:
            if self._is_known(issue):
                self.counts.repeated += 1
                continue
            self._told[issue.kind] = (self._clock(), issue.rank)
            self.history.append((self._clock(), issue))
            new.append(issue)
            self.counts.told += 1
            LOG.warning("issue, %s: %s; %s", issue.severity, issue.text, issue.advice)
            self._tell(f"{issue.severity}: {issue.text}; {issue.advice}")
            for way in self._ways:
                self._send(way, issue)
        return new

    def report(self) -> list[dict[str, Any]]:
        """Return the issues that were told, and after how many seconds."""
        return [
            {"after_seconds": round(at - self._began, 3), **asdict(issue)}
            for at, issue in self.history
        ]

    def _is_known(self, issue: Issue) -> bool:
        told = self._told.get(issue.kind)
        if told is None:
            return False
        at, rank = told
        return issue.rank <= rank and self._clock() - at < self._config.repeat_seconds

    def _send(self, way: Channel, issue: Issue) -> None:
        now = self._clock()
        while self._sent and now - self._sent[0] >= HOUR:
            self._sent.popleft()
        if len(self._sent) >= self._config.most_per_hour:
            self.counts.withheld += 1
            return
        self._sent.append(now)
        try:
            way.send(self._experiment, issue)
        except OSError as error:
            self.counts.failed += 1
            LOG.warning("%s took no message: %s", way.name, error)
        else:
            self.counts.sent += 1
