"""What a plug-in adds to the keys of the runs that use it: its code, as the model's own does."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from sim_core.config import ModelConfig
from sim_core.errors import ConfigurationError
from sim_core.plugins.loading import built_in, load
from sim_core.plugins.offers import ENTRY_POINTS
from sim_core.syntax import syntax_without_docstrings


def plugins_of(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Return what the results of a configuration depend on beyond the program, by `GROUP=KIND`.

    Empty where it uses no plug-in, whichever are installed.

    Raises:
        ConfigurationError: one that is used cannot be.
    """
    used = [(group, getattr(config, group)) for group in ENTRY_POINTS]
    used.append(("adversary", config.intervention.adversary))
    return {
        f"{group}={settings.kind}": identity_of(group, settings.kind)
        for group, settings in used
        if settings is not None and settings.kind not in built_in(group)
    }


@cache
def identity_of(group: str, kind: str) -> dict[str, Any]:
    """Return what names a plug-in's code: package, entry point, hash of sources, versions of libraries.

    Raises:
        ConfigurationError: it cannot be used, or its sources cannot be read.
    """
    offer = load(group, kind).offer
    try:
        code = code_hash(package_folder(offer.entry.module))
    except (OSError, SyntaxError, UnicodeError) as error:
        raise ConfigurationError(
            f"{offer}: its sources cannot be read, so that its runs could have no key: {error}. "
            "Install it as files, not as an archive"
        ) from error
    return {
        "distribution": offer.distribution,
        "entry_point": offer.entry.value,
        "code": code,
        "libraries": libraries(offer.entry.dist),
    }


def package_folder(module: str) -> Path:
    """Return folder or file of the package that a loaded module lies in.

    Its topmost one; below a namespace that packages share, the topmost that is the package's own.

    Raises:
        OSError: it is no file.
    """
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        file = getattr(sys.modules.get(".".join(parts[:depth])), "__file__", None)
        if file is not None:
            path = Path(file)
            return path.parent if path.name == "__init__.py" else path
    raise OSError(f"no file of module {module}")


def code_hash(package: Path) -> str:
    """Return the SHA-256 of a package: syntax trees of its modules, content of its other files.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for name, path in _files(package):
        content = path.read_bytes()
        if path.suffix == ".py":
            content = syntax_without_docstrings(content.decode("utf-8")).encode()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _files(package: Path) -> Iterator[tuple[str, Path]]:
    if package.is_file():
        yield package.name, package
        return
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(package).as_posix(), path


def libraries(dist: Any) -> dict[str, str]:
    """Return the versions of the libraries that a package says it needs, this program aside."""
    found = {}
    for text in (dist.requires if dist is not None else None) or ():
        wanted = Requirement(text)
        if wanted.name == "quorumlab" or (
            wanted.marker and not wanted.marker.evaluate({"extra": ""})
        ):
            continue
        try:
            found[wanted.name] = version(wanted.name)
        except PackageNotFoundError:
            found[wanted.name] = "missing"
    return found
