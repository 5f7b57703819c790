"""The ways into MLflow's pages: where its server is, and where it shows an experiment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from flows.service import MLFLOW, address_of
from sim_core.config import TrackingConfig
from sim_core.errors import ConfigurationError, Unavailable
from tasks.mlflow_places import Published, published_of
from tasks.mlflow_rows import Place

PAGES = "MLFLOW_UI_URL"
"""Where people reach MLflow, if that is another address than programs use."""
MOST_COMPARED = 30
"""Runs that MLflow is to show side by side; of more, the first replicates of each point."""
ONLY_TRAINING = "workflowType=machine_learning"
"""Without it MLflow's menu is that for language models."""


def tracking_here() -> TrackingConfig:
    """Return which MLflow whoever looks at a workspace means: a server that is named, or the workspace's own."""
    named = os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))
    return TrackingConfig(kind="mlflow_server" if named else "mlflow_local")


def pages_address(workspace: Path) -> str | None:
    """Return where MLflow's pages are; None where no server shows them."""
    named = os.environ.get(PAGES) or os.environ.get("MLFLOW_TRACKING_URI", "")
    if named.startswith(("http://", "https://")):
        return named.rstrip("/")
    return address_of(workspace, MLFLOW)


def mlflow_links(name: str, tracking: TrackingConfig, workspace: Path) -> dict[str, str]:
    """Return the pages of an experiment in MLflow, by what they show.

    Nothing where `quorumlab up` has not started its server, or where it is not published.
    """
    server = address_of(workspace, MLFLOW)
    if server is None:
        return {}
    try:
        return links_to(name, published_of(name, tracking, workspace), server)
    except (Unavailable, ConfigurationError):
        return {}


def links_to(name: str, published: Published, server: str) -> dict[str, str]:
    """Return the pages of an experiment on a server, by what they show; none where it has no run there."""
    if not published.places:
        return {}
    number = published.places[0].experiment_id
    wanted = quote(f"tags.\"quorumlab.experiment\" = '{name}'")
    runs = quote(json.dumps([place.run for place in compared_places(published.places)]))
    return {
        "All runs in MLflow": (
            f"{server}/#/experiments/{number}/runs?{ONLY_TRAINING}&searchFilter={wanted}"
        ),
        "Runs side by side in MLflow": (
            f"{server}/#/compare-runs?runs={runs}"  # MLflow looks for them at the beginning only
            f"&experiments={quote(json.dumps([number]))}&{ONLY_TRAINING}"
        ),
    }


def compared_places(places: Sequence[Place]) -> list[Place]:
    """Return as many replicates of each point as MLflow can show side by side, the same of each.

    >>> a, b = (Place("1", run, run, 0) for run in "ab")
    >>> [place.run for place in compared_places([b, a])]
    ['a', 'b']
    >>> many = [Place("1", f"{i}", f"{i % 4}", i // 4) for i in range(100)]
    >>> chosen = compared_places(many)
    >>> len(chosen), {place.replicate for place in chosen} == set(range(7))
    (28, True)
    """
    each = max(1, MOST_COMPARED // len({place.point for place in places}))
    chosen = [place for place in places if place.replicate < each]
    return sorted(chosen, key=lambda place: (place.point, place.replicate))[:MOST_COMPARED]
