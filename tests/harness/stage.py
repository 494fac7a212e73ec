"""Where process tests live: a copy of the package that every user can read, and folders beside it.

Runs in: tests.
Fails by: OSError.

The checkout may be in a folder that a pool's user cannot enter (a home, a CI's workspace), and pyfpm rightly refuses to
start such a pool. So a copy is what runs, in the system's folder for temporary files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.interpreters import usual

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
# sys.path and not PYTHONPATH: the daemon's environment should be what a shell would give it.
_COMMAND = """#!{python}
import sys
sys.path[0] = {library!r}
from pyfpm.cli.main import main
main()
"""


class Stage:
    """One for a whole test run. `command` starts pyfpm from the copy."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pyfpm-tests-"))
        self.root.chmod(0o755)
        self.library = self.root / "library"
        self.package = self.library / "pyfpm"
        shutil.copytree(CHECKOUT / "pyfpm", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        open_to_all(self.library)
        # As pip would have: the pools' user cannot write the bytecode, and would compile at every start.
        subprocess.run([usual().path, "-m", "compileall", "-q", str(self.package)], check=False, capture_output=True)
        open_to_all(self.library)
        self.command = self.root / "pyfpm"
        self.command.write_text(_COMMAND.format(python=sys.executable, library=str(self.library)))
        self.command.chmod(0o755)
        self._folders = 0

    def folder(self, name: str = "d") -> Path:
        """A new folder that everybody can enter. The names are short: a socket's path has 107 bytes."""
        self._folders += 1
        made = self.root / f"{name}{self._folders}"
        made.mkdir()
        made.chmod(0o755)
        return made

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def open_to_all(folder: Path) -> None:
    """Readable by everybody, whatever the umask was."""
    for path in _everything(folder):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _everything(folder: Path) -> Iterator[Path]:
    yield folder
    for path in folder.rglob("*"):
        if not path.is_symlink():
            yield path
