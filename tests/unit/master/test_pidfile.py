"""Who holds a pid file: told without touching its lock, and never by a number alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
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


def test_a_fifo_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.pid")
    assert find_holder(str(tmp_path / "p.pid")) is None


def test_asking_does_not_take_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    path.write_text(f"{os.getpid()}\n")
    with path.open() as held:
        assert find_holder(str(path)) == os.getpid()
        with path.open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert find_holder(str(path)) == os.getpid()
        assert held.read()


# ── the lock ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stranger_with_the_lock_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    path.write_text("")
    with path.open() as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        with hold_pid_file(str(path)) as held:
            assert held is not None
            assert os.fstat(held).st_ino == path.stat().st_ino != os.fstat(stranger.fileno()).st_ino
            assert stat.S_IMODE(path.stat().st_mode) == 0o644
            with path.open() as again, pytest.raises(BlockingIOError):
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert os.listdir(tmp_path) == ["p.pid"]
        assert os.listdir(tmp_path) == []


def test_only_ones_own_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    with hold_pid_file(str(path)):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


@pytest.mark.parametrize("kind", ["fifo", "second name"])
def test_what_is_no_ordinary_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.pid"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        (tmp_path / "precious").write_text("precious")
        os.link(tmp_path / "precious", path)
    with pytest.raises(StartError, match="no ordinary file"), hold_pid_file(str(path)):
        pass
    assert kind == "fifo" or path.read_text() == "precious"


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for it: the file can be made, and not be written."""
    script = (
        "import resource, signal, sys; from pyfpm.master.pidfile import hold_pid_file as hold; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
        "hold(sys.argv[1]).__enter__()"
    )
    path = tmp_path / "p.pid"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False, timeout=60)
    assert f"StartError: Unable to create the PID file ({path}).: File too large (27)" in done.stderr
    assert not path.exists()


_STARTER = """
import sys
from pyfpm.errors import StartError
from pyfpm.master.pidfile import hold_pid_file
sys.stdin.readline()
try:
    with hold_pid_file(sys.argv[1]):
        print("runs", flush=True)
        sys.stdin.readline()
except StartError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("is_locked", [False, True])
def test_of_many_simultaneous_starts_one_runs(tmp_path: Path, is_locked: bool) -> None:
    path = tmp_path / "p.pid"
    path.write_text("")
    command = [sys.executable, "-c", _STARTER, str(path)]
    with path.open() as stranger, contextlib.ExitStack() as stack:
        if is_locked:
            fcntl.flock(stranger, fcntl.LOCK_EX)
        starters = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(6)
        ]
        for one in starters:
            assert one.stdin
            one.stdin.write("go\n")
            one.stdin.flush()
        answers = [one.stdout.readline() for one in starters if one.stdout]
        winners = [one.pid for one, said in zip(starters, answers, strict=True) if said == "runs\n"]
        assert len(winners) == 1, answers
        assert path.read_text() == f"{winners[0]}\n"
        assert [said for said in answers if f"pid {winners[0]}" not in said] == ["runs\n"]
        for one in starters:
            one.communicate("end\n", timeout=10)
    assert os.listdir(tmp_path) == []
