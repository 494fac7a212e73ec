"""What the monitor of a master that is root may do: nothing but read scoreboards, and not be looked at itself."""

from __future__ import annotations

import ctypes
import mmap
import os
import pwd
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness.interpreters import AS_ROOT
from tests.process.test_monitor import own, status, wait_monitor, watched_pool

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

pytestmark = pytest.mark.skipif(not AS_ROOT, reason="needs root")
SYS_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def told_of(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def board_of(pid: int) -> int:
    """A descriptor that the monitor has of a scoreboard, as it has it: not opened anew."""
    number = next(name for name in os.listdir(f"/proc/{pid}/fd") if "memfd" in os.readlink(f"/proc/{pid}/fd/{name}"))
    pidfd = os.pidfd_open(pid)
    taken: int = _libc.syscall(SYS_PIDFD_GETFD, pidfd, int(number), 0)
    os.close(pidfd)
    assert taken >= 0, os.strerror(ctypes.get_errno())
    return taken


def as_user(user: str, source: str, descriptor: int) -> str:
    """What a program of `user` prints that has inherited a descriptor, by the name that is its argument."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", source, str(descriptor)],
        user=user,
        extra_groups=[],
        pass_fds=[descriptor],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )
    return done.stdout + done.stderr


@pytest.fixture
def pid(daemon: Daemon) -> int:
    watched_pool(daemon)
    daemon.start()
    found = wait_monitor(daemon)
    assert status(own(daemon))["pool"] == "www"
    return found


def test_it_has_no_rights(pid: int) -> None:
    told = told_of(pid)
    nobody = pwd.getpwnam("nobody")
    assert told["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert told["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert told["Groups"].strip() == ""
    assert told["NoNewPrivs"] == "1"
    assert [int(told[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
    assert limits["Max processes"] == limits["Max file size"] == limits["Max core file size"] == ["0", "0"]
    with open(f"/proc/{pid}/environ", "rb") as environ:
        assert environ.read() == b"", "nothing of the master's"


def test_it_cannot_write_a_scoreboard(pid: int) -> None:
    board = board_of(pid)
    size = os.fstat(board).st_size
    mmap.mmap(board, size, mmap.MAP_SHARED, mmap.PROT_READ).close()
    with pytest.raises(PermissionError):
        mmap.mmap(board, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    again = "import os, sys; os.open('/proc/self/fd/' + sys.argv[1], os.O_RDWR)"
    assert "PermissionError" in as_user("nobody", again, board), "nor open it again to write"
    os.close(board)


def test_others_do_not_see_into_it(pid: int) -> None:
    source = f"import os; print(os.listdir('/proc/{pid}/fd'))"
    null = os.open(os.devnull, os.O_RDONLY)
    for user in ("nobody", "www-data"):
        assert "PermissionError" in as_user(user, source, null), user
    os.close(null)


def test_another_user_is_taken_with_a_reload(daemon: Daemon, pid: int) -> None:
    daemon.set_global({"status_user": "daemon"})
    assert daemon.run("reload").returncode == 0
    after = wait_monitor(daemon, pid)
    assert status(own(daemon))["pool"] == "www"
    assert told_of(after)["Uid"].split()[0] == str(pwd.getpwnam("daemon").pw_uid)


@pytest.mark.parametrize(("user", "words"), [("root", "must not run as root"), ("no-such-user", "cannot get uid")])
def test_a_user_that_it_cannot_be(daemon: Daemon, user: str, words: str) -> None:
    watched_pool(daemon)
    daemon.set_global({"status_user": user})
    done = daemon.run("-t")
    assert done.returncode == 78
    assert words in done.stderr


def test_its_interpreter_is_the_masters_and_may_be_roots_alone(daemon: Daemon) -> None:
    """Its modules are loaded before it drops: what it needs, nobody else has to be able to read."""
    watched_pool(daemon)
    daemon.start()
    assert os.readlink(f"/proc/{wait_monitor(daemon)}/exe") == os.path.realpath(sys.executable)
