"""How a process test waits: for an event, with one deadline, and never for a while.

Runs in: tests.
Fails by: WaitTimeout (an AssertionError) that says what was awaited and for how long.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import socket
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.harness.family import title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 40.0  # seconds; only a defect takes that long, so it costs nothing to be generous
PAUSE = 0.02  # seconds


class WaitTimeout(AssertionError):
    """What was awaited did not come."""


class Deadline:
    """A moment in the future; every wait has exactly one."""

    def __init__(self, seconds: float, awaited: str) -> None:
        self._seconds = seconds
        self._awaited = awaited
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left; WaitTimeout when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"not in {self._seconds:g} seconds: {self._awaited}")
        return left

    def pause(self) -> None:
        """For a loop that has to ask, as there is no event: those who are awaited need the processor, too."""
        time.sleep(min(PAUSE, self.left()))  # the state of another process, which tells nobody


def wait_readable(descriptor: int, deadline: Deadline) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll(deadline.left() * 1000):
        pass


def wait_for(what: Callable[[], object], awaited: str) -> None:
    """Ask until it is so: for what only /proc or a page shows, of which there is no event."""
    deadline = Deadline(PATIENCE, awaited)
    while not what():
        deadline.pause()


# ── how long something took ─────────────────────────────────────────────────────────────────────────────────────────


def stalled() -> float:
    """Seconds in which somebody on this machine had to wait for a processor or a disk (Documentation/accounting/psi).

    What lasted longer by as much says nothing of pyfpm. Where the kernel does not tell, each second counts as a minute.
    """
    total = 0.0
    for resource in ("cpu", "io"):
        try:
            with open(f"/proc/pressure/{resource}", encoding="ascii") as file:
                total += int(file.readline().rpartition("total=")[2]) / 1e6
        except OSError:
            return time.monotonic() * 60
    return total


class Stopwatch:
    """How long something took. `fair` leaves out what the machine lost meanwhile: upper limits are for that."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), stalled()

    @property
    def elapsed(self) -> float:
        """Seconds on the clock."""
        return time.monotonic() - self._began

    @property
    def lost(self) -> float:
        """Seconds in which the machine kept somebody waiting."""
        return stalled() - self._before

    @property
    def fair(self) -> float:
        """Seconds that count."""
        return self.elapsed - self.lost


# ── a process is gone ───────────────────────────────────────────────────────────────────────────────────────────────


class Watched:
    """A process that is held by a pidfd from now on: its pid cannot come to mean another one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    def wait_exit(self, seconds: float = PATIENCE) -> float:
        """Wait until the process has ended; how long that took."""
        begun = time.monotonic()
        wait_readable(self.pidfd, Deadline(seconds, f"the end of process {self.pid} ({title_of(self.pid)})"))
        return time.monotonic() - begun

    def ends_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def is_alive(self) -> bool:
        return not self.ends_within(0.0)

    def close(self) -> None:
        os.close(self.pidfd)


@contextmanager
def watching(*pids: int) -> Iterator[list[Watched]]:
    """Hold these processes, but for those that have ended already: among all that a master has, some live for no time.

    (A worker is forked by a process that ends at once.)
    """
    watched = []
    for pid in pids:
        with suppress(ProcessLookupError):
            watched.append(Watched(pid))
    try:
        yield watched
    finally:
        for process in watched:
            process.close()


def wait_exit(pid: int, seconds: float = PATIENCE) -> float:
    """Wait until `pid` has ended; how long that took."""
    with watching(pid) as processes:
        return sum(process.wait_exit(seconds) for process in processes)


# ── something was said: files that grow ─────────────────────────────────────────────────────────────────────────────

_IN_MODIFY, _IN_MOVED, _IN_CREATE = 0x2, 0xC0, 0x100
_libc = ctypes.CDLL(None, use_errno=True)


class Folder:
    """inotify(7) on a folder: something in it was written, made or renamed."""

    def __init__(self, path: Path) -> None:
        self._descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = _IN_MODIFY | _IN_MOVED | _IN_CREATE
        if self._descriptor < 0 or _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))

    def wait_until(self, condition: Callable[[], bool], deadline: Deadline) -> None:
        """Until `condition`, which is asked now and after each change in the folder."""
        while not condition():
            wait_readable(self._descriptor, deadline)
            os.read(self._descriptor, 1 << 16)

    def close(self) -> None:
        os.close(self._descriptor)


class Followed:
    """A text file that grows: what was written to it since we look, rotation or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = ""
        self._folder = Folder(path.parent)
        self._inode = -1
        self._file: int | None = None

    def read(self) -> str:
        """All that was written so far. After a rename the old file is read to its end, then the new one."""
        if self._file is not None:
            self._take()
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            return self.text
        if inode != self._inode:
            if self._file is not None:
                self._take()
                os.close(self._file)
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self._inode = inode
            self._take()
        return self.text

    def _take(self) -> None:
        """As much as there is now: a file that grows while it is read must not keep us for ever."""
        assert self._file is not None
        left = os.fstat(self._file).st_size - os.lseek(self._file, 0, os.SEEK_CUR)
        while left > 0 and (piece := os.read(self._file, min(left, 1 << 20))):
            self.text += piece.decode("utf-8", "replace")
            left -= len(piece)

    def wait(self, pattern: str, seconds: float = PATIENCE, start: int = 0) -> re.Match[str]:
        """Wait for `pattern` in a line that is whole; looking from the character at `start`."""
        sought = re.compile(pattern)
        found: re.Match[str] | None = None

        def is_there() -> bool:
            nonlocal found
            text = self.read()
            found = sought.search(text, start, text.rfind("\n") + 1)
            return found is not None

        self._folder.wait_until(is_there, Deadline(seconds, f"{pattern!r} in {self.path.name}"))
        assert found is not None
        return found

    def close(self) -> None:
        self._folder.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


# ── the daemon is up: what systemd would be told ────────────────────────────────────────────────────────────────────


class Notices:
    """A $NOTIFY_SOCKET of our own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait(self, word: str, seconds: float, others: dict[int, Callable[[], None]] | None = None) -> None:
        """Wait for a notice with the line `word`. What `others` name is called when its descriptor is readable."""
        deadline = Deadline(seconds, f"the notice {word!r}")
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        for descriptor in others or {}:
            poll.register(descriptor, select.POLLIN)
        while True:
            for ready, _ in poll.poll(deadline.left() * 1000):
                if ready != self._socket.fileno():
                    assert others is not None
                    others[ready]()
                    continue
                self.heard.append(self._socket.recv(65536).decode())
                if word in self.heard[-1].splitlines():
                    return

    def drain(self) -> None:
        """Take what is there."""
        with suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(65536, socket.MSG_DONTWAIT).decode())

    def close(self) -> None:
        self._socket.close()


# ── a request is inside the application ─────────────────────────────────────────────────────────────────────────────


class Gate:
    """A rendezvous with applications: each says its pid when it is inside, and waits there to be let go.

    Two FIFOs in a folder of their own, see `_block` in apps.py. Both are open for reading and writing here, so nobody
    waits in open(2), and what was said stays until it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        folder.chmod(0o755)
        self._descriptors = []
        for name in ("inside", "leave"):
            os.mkfifo(folder / name)
            (folder / name).chmod(0o666)
            self._descriptors.append(os.open(folder / name, os.O_RDWR | os.O_CLOEXEC))
        self._inside, self._leave = self._descriptors

    def wait_inside(self, count: int = 1, seconds: float = PATIENCE) -> list[int]:
        """The pids of `count` processes that have come inside."""
        deadline = Deadline(seconds, f"{count} requests inside the application")
        pids = []
        for _ in range(count):
            wait_readable(self._inside, deadline)
            pids.append(struct.unpack("i", os.read(self._inside, 4))[0])
        return pids

    def release(self, count: int = 1) -> None:
        os.write(self._leave, b"." * count)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
