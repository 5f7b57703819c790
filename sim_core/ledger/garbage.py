"""Files of checkpoints that nobody needs: what a killed process wrote, or did not get to remove."""

from __future__ import annotations

import re

from sqlalchemy import select

from sim_core.checkpoint import CheckpointFolder
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import CHECKPOINTS, EXPERIMENT_RUNS, RUNS

NAME = re.compile(r"\.?(?P<key>[0-9a-f]{24})-\d+-(?P<epoch>\d+)\.ckpt(\.tmp)?")


def find_garbage(
    ledger: Ledger, folder: CheckpointFolder, experiment: str | None = None
) -> list[str]:
    """Return the names of files that the ledger does not know.

    What the present owner of a run has written may be on its way into the ledger, and is none; who
    owned it before can enter nothing any more.

    Args:
        ledger: What knows files, and who owns which run.
        folder: Where the files are.
        experiment: Look at files of its runs only; None: of all runs, and of those that are gone.
    """
    names = [match for name in folder.names() if (match := NAME.fullmatch(name))]  # before reading
    if not names:
        return []
    runs = select(RUNS.c.run_key, RUNS.c.epoch, RUNS.c.state)
    files = select(CHECKPOINTS.c.name)
    if experiment is not None:
        mine = select(EXPERIMENT_RUNS.c.run).where(EXPERIMENT_RUNS.c.experiment == experiment)
        runs, files = runs.where(RUNS.c.id.in_(mine)), files.where(CHECKPOINTS.c.run.in_(mine))
    with ledger.reading() as connection:
        owners = {row.run_key[:24]: row for row in connection.execute(runs)}
        known = set(connection.execute(files).scalars())
    found = []
    for match in names:
        owner = owners.get(match["key"])
        if match[0] in known or (owner is None and experiment is not None):
            continue
        if owner is not None:
            last_done = owner.epoch - 1 if owner.state == "running" else owner.epoch
            if int(match["epoch"]) > last_done:
                continue
        found.append(match[0])
    return found


def remove_garbage(ledger: Ledger, folder: CheckpointFolder, experiment: str) -> list[str]:
    """Remove files of an experiment's runs that the ledger does not know; return their names."""
    found = find_garbage(ledger, folder, experiment)
    for name in found:
        folder.remove(name)
    return found
