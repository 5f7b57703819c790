"""Files of checkpoints that nobody needs: what a killed process wrote, or did not get to remove."""

from __future__ import annotations

import re

from sqlalchemy import select

from sim_core.checkpoint import CheckpointFolder
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import CHECKPOINTS, EXPERIMENT_RUNS, RUNS

NAME = re.compile(r"\.?(?P<key>[0-9a-f]{24})-\d+-(?P<epoch>\d+)\.ckpt(\.tmp)?")


def remove_garbage(ledger: Ledger, folder: CheckpointFolder, experiment: str) -> list[str]:
    """Remove files of an experiment's runs that the ledger does not know; return their names.

    What the present owner of a run has written may be on its way into the ledger, and stays; who
    owned it before can enter nothing any more.
    """
    names = [match for name in folder.names() if (match := NAME.fullmatch(name))]  # before reading
    if not names:
        return []
    runs = (
        select(RUNS.c.id, RUNS.c.run_key, RUNS.c.epoch, RUNS.c.state)
        .join(EXPERIMENT_RUNS, EXPERIMENT_RUNS.c.run == RUNS.c.id)
        .where(EXPERIMENT_RUNS.c.experiment == experiment)
    )
    with ledger.reading() as connection:
        owners = {row.run_key[:24]: row for row in connection.execute(runs)}
        known = set(
            connection.execute(
                select(CHECKPOINTS.c.name)
                .join(EXPERIMENT_RUNS, EXPERIMENT_RUNS.c.run == CHECKPOINTS.c.run)
                .where(EXPERIMENT_RUNS.c.experiment == experiment)
            ).scalars()
        )
    removed = []
    for match in names:
        owner = owners.get(match["key"])
        if owner is None or match[0] in known:
            continue
        last_done = owner.epoch - 1 if owner.state == "running" else owner.epoch
        if int(match["epoch"]) <= last_done:
            folder.remove(match[0])
            removed.append(match[0])
    return removed
