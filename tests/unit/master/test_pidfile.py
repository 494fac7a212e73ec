"""Who holds a pid file: told without touching its lock, and never by a number alone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pyfpm.errors import StartError
from pyfpm.master.pidfile import find_holder, hold_pid_file


def test_a_master_is_found_for_as_long_as_it_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "p.pid")
    assert find_holder(path) is None
    with hold_pid_file(path):
        assert find_holder(path) == os.getpid()
        with pytest.raises(StartError, match=f"pid {os.getpid()}"), hold_pid_file(path):
            pass
    assert find_holder(path) is None


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "99999999", "1", str(os.getppid())])
def test_a_number_alone_is_no_proof(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.pid"
    path.write_text(content)
    assert find_holder(str(path)) is None


def test_asking_does_not_take_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    path.write_text(f"{os.getpid()}\n")
    with path.open() as held:
        assert find_holder(str(path)) == os.getpid()
        with path.open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert find_holder(str(path)) == os.getpid()
        assert held.read()
