"""The simulated system: a network of nodes that detects, publishes, votes and learns.

Nothing in here knows Prefect, Ray, MLflow, Hydra or Great Expectations.
"""

import hashlib
import os
from pathlib import Path


def _name_compiled_code() -> None:
    """Let Numba keep compiled code under a name that changes with the source of any of it.

    Its own cache looks at the file of a function alone, and would go on using what was compiled from
    an older version of another file. A user's NUMBA_CACHE_DIR is respected.
    """
    package = Path(__file__).parent
    if "NUMBA_CACHE_DIR" in os.environ or not os.access(package, os.W_OK):
        return
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"njit" in source or path.name == "state.py":
            digest.update(source)
    folder = package / "__pycache__" / f"compiled-{digest.hexdigest()[:16]}"
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


_name_compiled_code()
