"""Our own files are known as the workers name them, whichever way led to the master's."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pyfpm

if TYPE_CHECKING:
    from pathlib import Path

ASK = "import pyfpm, pyfpm.installed as it; print(pyfpm.__file__, it.OWN_FILES, it.BOOTSTRAP)"


def test_below_a_link_it_is_where_the_link_leads(tmp_path: Path) -> None:
    real = os.path.dirname(os.path.realpath(pyfpm.__file__))
    link = tmp_path / "pyfpm"
    link.symlink_to(real)
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == [f"{link}/__init__.py", f"{real}/", f"{real}/bootstrap.py"]
