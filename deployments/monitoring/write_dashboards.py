"""Write Grafana's dashboards: simulation, Ray, database.

    .venv/bin/python deployments/monitoring/write_dashboards.py

Each panel is a title, a unit, and queries with what their curves are called.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "grafana"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, COLUMNS = 12, 8, 2
CACHE = "quorumlab_cache_requests_total"
SECONDS, SHARE, MEGABYTES, PER_SECOND, NUMBER = "s", "percent", "decmbytes", "ops", "short"


@dataclass(frozen=True)
class Panel:
    """A plot: its title, the unit of its axis, and (query, name of the curves)."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def quantile(operation: str, q: str) -> str:
    """Return the query of an operation's quantile."""
    return f'quorumlab_operation_seconds{{operation=~"{operation}",quantile="{q}"}}'


def resource(name: str) -> str:
    """Return the query of a sample's figure."""
    return f'quorumlab_resource{{name="{name}"}}'


DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "simulation": (
        "quorumlab: simulation",
        (
            Panel("Experiment", NUMBER, (("quorumlab_experiment_info", "{{experiment}}"),), "stat"),
            Panel("Runs", NUMBER, (("quorumlab_runs", "{{state}}"),)),
            Panel("Steps", PER_SECOND, (("rate(quorumlab_steps_total[1m])", "steps"),)),
            Panel(
                "Node-steps", PER_SECOND, (("rate(quorumlab_node_steps_total[1m])", "node-steps"),)
            ),
            Panel(
                "Time of a step",
                SECONDS,
                ((quantile("step", "0.5"), "p50"), (quantile("step", "0.99"), "p99")),
            ),
            Panel(
                "Waiting for a worker",
                SECONDS,
                (
                    (quantile("executor.wait", "0.5"), "p50"),
                    (quantile("executor.wait", "0.99"), "p99"),
                ),
            ),
            Panel(
                "Operations at work", NUMBER, (("quorumlab_operation_in_flight", "{{operation}}"),)
            ),
            Panel(
                "Errors",
                PER_SECOND,
                (("rate(quorumlab_operation_errors_total[5m])", "{{operation}}"),),
            ),
            Panel(
                "Processors in use",
                SHARE,
                (
                    (resource("cpu_utilization_percentage"), "machine"),
                    (resource("other_programs_cpu_percentage"), "other programs"),
                ),
            ),
            Panel(
                "Resident memory",
                MEGABYTES,
                (
                    (resource("driver_rss_megabytes"), "driver"),
                    (resource("workers_rss_megabytes"), "workers"),
                ),
            ),
            Panel("Issues", NUMBER, (("quorumlab_issues_total", "{{severity}}: {{kind}}"),)),
            Panel("Messages to people", NUMBER, (("quorumlab_alerts_total", "{{outcome}}"),)),
        ),
    ),
    "database": (
        "quorumlab: ledger and caches",
        (
            Panel("Transactions, p95", SECONDS, ((quantile("ledger.commit", "0.95"), "commit"),)),
            Panel(
                "Queries, p95",
                SECONDS,
                ((quantile("ledger.(read|write)", "0.95"), "{{operation}}"),),
            ),
            Panel(
                "Checkpoints, p95", SECONDS, ((quantile("checkpoint.*", "0.95"), "{{operation}}"),)
            ),
            Panel(
                "Queries",
                PER_SECOND,
                (
                    (
                        'rate(quorumlab_operation_seconds_count{operation=~"ledger.*"}[1m])',
                        "{{operation}}",
                    ),
                ),
            ),
            Panel(
                "Queues",
                PER_SECOND,
                (("rate(quorumlab_queue_items_total[1m])", "{{queue}} {{outcome}}"),),
            ),
            Panel(
                "Cache hits",
                SHARE,
                (
                    (
                        f"100 * sum by (cache) (rate({CACHE}{{outcome='hits'}}[5m])) / sum by (cache) (rate({CACHE}[5m]))",
                        "{{cache}}",
                    ),
                ),
            ),
            Panel("Caches", MEGABYTES, (("quorumlab_cache_megabytes", "{{cache}}"),)),
            Panel(
                "Disk",
                MEGABYTES,
                (
                    (resource("disk_read_megabytes"), "read"),
                    (resource("disk_write_megabytes"), "written"),
                ),
            ),
        ),
    ),
    "ray": (
        "quorumlab: Ray",
        (
            Panel("Nodes", NUMBER, (("ray_cluster_active_nodes", "{{node_type}}"),)),
            Panel("Tasks", NUMBER, (("sum by (State) (ray_tasks)", "{{State}}"),)),
            Panel("Processors in use", SHARE, (("ray_node_cpu_utilization", "{{instance}}"),)),
            Panel(
                "Memory in use",
                SHARE,
                (("100 * ray_node_mem_used / ray_node_mem_total", "{{instance}}"),),
            ),
            Panel(
                "Object store",
                "decbytes",
                (
                    ("ray_object_store_used_memory", "used, {{instance}}"),
                    ("ray_object_store_available_memory", "free, {{instance}}"),
                ),
            ),
            Panel(
                "Spilled objects", "decbytes", (("ray_spill_manager_objects_bytes", "{{State}}"),)
            ),
            Panel(
                "Placing a task, p95",
                "ms",
                (("ray_scheduler_placement_time_ms_p95", "{{instance}}"),),
            ),
            Panel(
                "Experiment's share",
                NUMBER,
                (
                    (resource("ray_cpus_in_use"), "processors in use"),
                    (resource("ray_nodes"), "nodes"),
                ),
            ),
        ),
    ),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"quorumlab-{name}",
        "title": title,
        "tags": ["quorumlab"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(index, panel) for index, panel in enumerate(panels)],
    }


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(index, COLUMNS)
    return {
        "id": index + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": WIDTH * column, "y": HEIGHT * row, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"textMode": "name"} if panel.kind == "stat" else {},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for n, (expr, legend) in enumerate(panel.queries)
        ],
    }


def main() -> None:
    """Write all of them."""
    for name in DASHBOARDS:
        text = json.dumps(dashboard(name), indent=1) + "\n"
        (FOLDER / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
