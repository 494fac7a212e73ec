"""The file of a socket: only what we have bound is changed and removed, and only what nobody serves is replaced."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pyfpm.master import socket_file
from pyfpm.master.socket_file import SocketFile


def bound(path: Path, mode: int = 0o660, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, SocketFile]:
    made = socket.socket(socket.AF_UNIX, kind)
    return made, socket_file.bind(made, str(path), mode)


def test_it_is_changed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made, file = bound(path)
    with made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        file.own(mode=0o600, owner=os.geteuid(), group=os.getegid())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert socket_file.adopt(str(path)) == file
        file.remove()
        assert not path.exists()
        file.remove()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "socket"])
def test_what_is_in_its_place_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    path, precious = tmp_path / "s", tmp_path / "precious"
    precious.write_text("precious")
    precious.chmod(0o640)
    made, file = bound(path)
    other = None
    with made:
        path.rename(tmp_path / "moved")
        if kind == "socket":
            other, _ = bound(path, 0o640)
        else:
            (os.symlink if kind == "symlink" else os.link)(precious, path)
        with pytest.raises(OSError, match=r"in its place"):
            file.own(mode=0o777, owner=os.geteuid())
        file.remove()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    if other is not None:
        other.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_stale_one_is_replaced_and_a_served_one_is_not(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "s"
    first, _ = bound(path, kind=kind)
    first.close()
    second, _ = bound(path, kind=kind)
    with second:
        second.listen()
        for other in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with (
                closing(socket.socket(socket.AF_UNIX, other)) as third,
                pytest.raises(OSError, match="another process listens"),
            ):
                socket_file.bind(third, str(path), 0o600)


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with closing(socket.socket(socket.AF_UNIX)) as made, pytest.raises(FileExistsError, match="not a socket"):
        socket_file.bind(made, str(tmp_path / "s"), 0o600)


def test_who_is_alive_is_not_looked_up_in_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's process is not to be seen there (hidepid, ProtectProc=)."""
    seen = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: not str(path).startswith("/proc") and seen(path))
    with closing(socket.socket(socket.AF_UNIX)) as served:
        served.bind(str(tmp_path / "s"))
        listener = "import os, signal, socket; socket.socket(fileno=0).listen(); print(flush=True); signal.pause()"
        with subprocess.Popen([sys.executable, "-c", listener], stdin=served.fileno(), stdout=subprocess.PIPE) as owner:
            assert owner.stdout
            owner.stdout.readline()
            with (
                closing(socket.socket(socket.AF_UNIX)) as made,
                pytest.raises(OSError, match="another process listens"),
            ):
                socket_file.bind(made, str(tmp_path / "s"), 0o600)
            owner.send_signal(signal.SIGKILL)
        # Somebody still has it open, as a worker that finishes: but its master is dead.
        replaced, _ = bound(tmp_path / "s")
        replaced.close()
