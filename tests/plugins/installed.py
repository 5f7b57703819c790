"""A folder of installed packages, and programs that find them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).resolve().parent / "example_package"


@dataclass(frozen=True)
class Installed:
    """A folder that Python imports from."""

    folder: Path
    copied_from: Path

    def __post_init__(self) -> None:
        shutil.copytree(self.copied_from, self.folder)

    @property
    def path(self) -> str:
        """The value of PYTHONPATH with which packages in it are found."""
        others = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        return os.pathsep.join([str(self.folder), *filter(None, others)])

    def add(self, name: str, group: str, kind: str, source: str) -> None:
        """Install a package of one module, with real metadata, which declares a plug-in."""
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[quorumlab.{group}]\n{kind} = {module}:PLUGIN\n")

    def change(self, file: str, old: str, new: str) -> None:
        """Change the code of the example package."""
        path = self.folder / "quorumlab_example" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python where these packages are installed."""
        environment = {**os.environ, "PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, *words],
            env=environment,
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
        )

    def answer(self, code: str) -> Any:
        """Return what code leaves in `found`, by way of JSON."""
        done = self.python("-c", f"import json\n{code}\nprint(json.dumps(found))")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
