"""Faults at random for as long as one likes: what was injected, what was lost or doubled.

    python -m tests.faults.soak --minutes 10 --database both --seed 1

Each round disturbs one experiment again and again, lets it finish, and compares it with an
undisturbed one. A round can be repeated: it depends on its seed alone.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.faults.experiment import End, command, end_of, is_stopped, leftovers
from tests.postgres import HOW_TO_INSTALL, find_programs, postgres_server
from tests.program import Program

KILLED_DRIVER = [
    ("claim.commit", 1),
    ("checkpoint.open", 6),
    ("checkpoint.write", 6),
    ("checkpoint.fsync", 6),
    ("checkpoint.rename", 6),
    ("checkpoint.settle", 6),
    ("commit.begin", 6),
    ("commit.rows", 6),
    ("commit.commit", 6),
    ("commit.after", 6),
]
"""Points at which a driver dies, and the latest of their calls that is chosen."""
OUTSIDE = [point for point in KILLED_DRIVER if point[0].startswith("checkpoint")]
"""Points outside of transactions: who stands still inside of one keeps SQLite's only writer."""
FAULTS = ("kill driver", "kill worker", "stop driver", "disk full", "disk broken")
WORDS = ("orchestrator=none", "validation.engine=sql", "output.plots=false", "simulation.steps=200")
STEPS_OF_A_WORKER = 60
MOST_ENDINGS = 4
"""Commands until an experiment must have finished once nothing disturbs it."""


@dataclass
class Tally:
    """What happened in a soak."""

    rounds: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def disturb(program: Program, random_numbers: random.Random, kinds: tuple[str, ...]) -> str | None:
    """Start the experiment with a random fault; return its kind, or None if it did not strike."""
    kind = random_numbers.choice(kinds)
    once = program.folder / f"fault-{random_numbers.getrandbits(64):x}"
    point, latest = random_numbers.choice(OUTSIDE if kind == "stop driver" else KILLED_DRIVER)
    call = random_numbers.randint(1, latest)
    action = {"kill driver": "kill", "stop driver": "stop"}.get(kind)
    if kind == "kill worker":
        point, call, action = "step", random_numbers.randint(1, STEPS_OF_A_WORKER), "kill"
    elif kind in ("disk full", "disk broken"):
        point = random_numbers.choice(["checkpoint.write", "checkpoint.fsync", "checkpoint.rename"])
        call = random_numbers.randint(1, 6)
        action = kind.split()[1]
    program.environment["QUORUMLAB_FAULT"] = f"{point}:{call}:{action}:{once}"
    try:
        process = program.start(*command(program), *WORDS)
    finally:
        del program.environment["QUORUMLAB_FAULT"]
    if kind == "stop driver":
        while process.poll() is None and not is_stopped(process):
            time.sleep(0.01)  # between two looks
        if process.poll() is None:
            program.run(*command(program), *WORDS)
            process.send_signal(signal.SIGCONT)
    process.communicate(timeout=1_000)
    return kind if once.exists() else None


def finish(program: Program) -> str | None:
    """Let the experiment finish; return what is wrong if it does not."""
    for _ in range(MOST_ENDINGS):
        done = program.run(*command(program), *WORDS)
        if done.returncode == 0:
            return None
    return f"does not finish: {done.stderr}"


def differences(program: Program, undisturbed: End) -> list[str]:
    """Return in what an experiment differs from an undisturbed one."""
    found = end_of(program)
    wrong = [
        f"{part} differ"
        for part in ("heads", "states")
        if getattr(found, part) != getattr(undisturbed, part)
    ]
    for table, expected in undisturbed.rows.items():
        rows = found.rows[table]
        lost = Counter(map(str, expected)) - Counter(map(str, rows))
        doubled = Counter(map(str, rows)) - Counter(map(str, expected))
        if lost or doubled:
            wrong.append(f"{table}: {lost.total()} rows lost, {doubled.total()} too many")
    if found.published != undisturbed.published:
        wrong.append("MLflow's runs or histories differ")
    if left := leftovers(program):
        wrong.append(f"{len(left)} files of checkpoints left over")
    return wrong


@contextmanager
def databases(which: str) -> Iterator[dict[str, object]]:
    """Give what makes ledgers: None for SQLite, a server for PostgreSQL."""
    if which == "sqlite":
        yield {"sqlite": None}
        return
    programs = find_programs()
    if programs is None:
        raise SystemExit(HOW_TO_INSTALL)
    with postgres_server(programs) as server:
        yield (
            {"postgresql": server}
            if which == "postgresql"
            else {"sqlite": None, "postgresql": server}
        )


def make_program(folder: Path, server: object) -> Program:
    """Return the program with a ledger of its own."""
    folder.mkdir(parents=True)
    if server is None:
        return Program(folder)
    create = getattr(server, "create")  # noqa: B009
    return Program(folder, {"QUORUMLAB_LEDGER_URL": create()})


def soak(minutes: float, which: str, seed: int, folder: Path, console: Console) -> Tally:
    """Disturb experiments until the time is over; return what happened."""
    tally = Tally()
    end = time.monotonic() + 60 * minutes
    with databases(which) as servers:
        undisturbed: dict[str, End] = {}
        for name, server in servers.items():
            program = make_program(folder / f"undisturbed-{name}", server)
            assert (wrong := finish(program)) is None, wrong
            undisturbed[name] = end_of(program)
        while time.monotonic() < end:
            for name, server in servers.items():
                number = seed + tally.rounds
                program = make_program(folder / f"{name}-{number}", server)
                random_numbers = random.Random(number)
                struck = [
                    kind
                    for _ in range(random_numbers.randint(1, 6))
                    if (kind := disturb(program, random_numbers, FAULTS)) is not None
                ]
                wrong = [w] if (w := finish(program)) else differences(program, undisturbed[name])
                tally.injected.update(struck)
                tally.wrong += [f"{name}, seed {number}: {text}" for text in wrong]
                tally.rounds += 1
                verdict = "[red]" + "; ".join(wrong) if wrong else "[green]as if undisturbed"
                console.print(f"{name}, seed {number}: {', '.join(struck) or 'nothing'}: {verdict}")
    return tally


def main() -> None:
    """Soak, and print what happened; exit code 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        tally = soak(chosen.minutes, chosen.database, chosen.seed, Path(folder), console)
    table = Table(title="faults injected", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("fault")
    table.add_column("times", justify="right")
    for kind, n in sorted(tally.injected.items()):
        table.add_row(kind, str(n))
    table.add_row("all", str(tally.injected.total()))
    console.print(table)
    console.print(f"{tally.rounds} experiments, {len(tally.wrong)} with something lost or doubled")
    for text in tally.wrong:
        console.print(f"[red]{text}")
    sys.exit(bool(tally.wrong))


if __name__ == "__main__":
    main()
