"""What an experiment takes and what is wrong with it, while it is at work and afterwards: from files in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from tasks.issues import Issue
from tasks.live_history import live_files, read_live
from tasks.resource_history import TIME, seen_history
from tasks.sample_resources import STEPS

COMMITTED = STEPS.removeprefix("system/")
ALL, OTHERS = "cpu_utilization_percentage", "other_programs_cpu_percentage"
RATE = "steps_per_minute"
OURS = "cpu_percentage_of_all"
"""Processor time of the experiment, as that of all programs is given: 100 is all processors."""
RATE_SECONDS = 10.0
"""Over which throughput is taken at least: steps are committed many at once."""
NEWEST = {
    "Its processors": ("process_tree_cpu_percentage", "{:,.0f} %", "100 %: one of them"),
    "Other programs": ("other_programs_cpu_percentage", "{:,.0f} %", "of all processors"),
    "Its memory": ("process_tree_rss_megabytes", "{:,.0f} MB", "driver and workers"),
    "Steps committed": (COMMITTED, "{:,.0f}", "by this command"),
    "Ray nodes": ("ray_nodes", "{:,.0f}", "at work for it"),
    "Ray processors": ("ray_cpus_in_use", "{:,.0f}", "in use"),
    "Ray objects": ("ray_object_store_megabytes_in_use", "{:,.1f} MB", "in its store"),
}
"""Title, and of what: the column, how it is written, and what there is to say about it."""


@dataclass(frozen=True)
class Found:
    """An issue, and when it was found."""

    at: datetime
    issue: Issue


def resource_table(folder: Path, most: int) -> pd.DataFrame:
    """Return samples of an experiment's resources, evenly thinned to so many; empty without any.

    The newest is always among them. `steps_per_minute` is what was committed since the sample before.
    """
    frame = seen_history(folder)
    if frame.empty:
        return frame
    every = max(1, -(-len(frame) // most))
    newest = (len(frame) - 1) % every
    return with_share(with_rate(frame)).iloc[newest::every].reset_index(drop=True)


def with_share(frame: pd.DataFrame) -> pd.DataFrame:
    """Return samples with the experiment's part of all processor time, where what others take is known.

    >>> frame = pd.DataFrame({"cpu_utilization_percentage": [80.0], "other_programs_cpu_percentage": [30.0]})
    >>> with_share(frame)[OURS].tolist()
    [50.0]
    """
    if not {ALL, OTHERS} <= set(frame.columns):
        return frame
    return frame.assign(**{OURS: frame[ALL] - frame[OTHERS]})


def with_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return samples with throughput; unknown where a command begins, and in tables without steps."""
    if COMMITTED not in frame:
        return frame
    every = frame["seconds"].diff().median()
    n = max(1, round(RATE_SECONDS / every)) if every > 0 else 1
    steps, seconds = frame[COMMITTED].diff(n), frame["seconds"].diff(n)
    is_one = (seconds > 0) & (steps >= 0)  # of the same command
    return frame.assign(**{RATE: (60 * steps / seconds).where(is_one)})


def newest_figures(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return title, figure and what there is to say of the newest sample; what it has not is left out."""
    last = frame.iloc[-1].dropna()
    return [
        (title, form.format(last[column]), words)
        for title, (column, form, words) in NEWEST.items()
        if column in last.index
    ]


def live_issues(folder: Path) -> list[Found]:
    """Return issues that commands have noted which are at work on an experiment or were killed, newest first."""
    found = [
        Found(datetime.fromtimestamp(at / 1e3, UTC), issue)
        for file in live_files(folder)
        for at, issue in read_live(file).issues
    ]
    return sorted(found, key=lambda each: each.at, reverse=True)


def newest_time(frame: pd.DataFrame) -> float:
    """Return when the newest sample was taken, in seconds since 1970."""
    return float(frame[TIME].iloc[-1].timestamp())
