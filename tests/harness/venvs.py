"""Virtual environments for sites: made once, with pip, and kept for the next run of the tests.

Runs in: tests.
Fails by: CalledProcessError with what pip said.

They are in the system's folder for temporary files, because a pool's user must be able to get there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.stage import open_to_all

if TYPE_CHECKING:
    from tests.harness.interpreters import Interpreter


def environment(one: Interpreter, *packages: str) -> Path:
    """A virtual environment of this interpreter with these packages."""
    name = hashlib.sha256(f"{one.path} {one.version} {packages}".encode()).hexdigest()[:12]
    made = _cache() / f"{one.name}-{name}"
    if not (made / "complete").exists():
        shutil.rmtree(made, ignore_errors=True)
        _run(one.path, "-m", "venv", "--without-pip", str(made))
        if packages:
            # Our own pip, for that of the new environment would take seconds to install.
            _run(
                sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"),
                "--disable-pip-version-check", "install", "--quiet", "--root-user-action=ignore", *packages,
            )  # fmt: skip
        open_to_all(made)
        (made / "complete").touch()
    return made


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"pyfpm-tests-venvs-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    folder.chmod(0o755)
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
