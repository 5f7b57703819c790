"""What the Prefect server of a workspace asks for before it obeys.

Whoever may talk to it can have code run as whoever has started it, and so could every user of this
machine: the loopback is theirs too.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sim_core.errors import UserError

FILE = "prefect.password"
SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
"""Names under which Prefect's server and its clients are told."""
N_BYTES = 24


def password_of(folder: Path) -> str | None:
    """Return what the server of a workspace asks for, NAME:PASSWORD; None where there is none yet.

    Raises:
        UserError: it cannot be read, by this user at least.
    """
    try:
        return (folder / FILE).read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / FILE} cannot be read: {error}. Remove it, and quorumlab up makes another"
        ) from error


def new_password(folder: Path) -> str:
    """Return a new one, and leave it in a file that its owner alone can read."""
    text = f"quorumlab:{secrets.token_urlsafe(N_BYTES)}"
    descriptor = os.open(folder / FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    return text
