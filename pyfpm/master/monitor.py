"""The monitor as the master sees it: started if somebody is to be answered, shown what there is, replaced if it dies.

Runs in: master; between fork and exec in the new process.
Fails by: nothing; a monitor that cannot be started is logged, and tried again with patience. The pools do without.

The monitor is told of changes only, as differences between what is and what it has been shown: a turn in which nothing
has changed costs one comparison. It has no way to be heard: nothing is ever read from its channel.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import catalogue, kernel, messages, packets
from pyfpm.errors import StartError
from pyfpm.fork import fork_child
from pyfpm.installed import BOOTSTRAP
from pyfpm.master import processes
from pyfpm.master.accounts import primary_group_of, uid_of
from pyfpm.master.backoff import Streak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.pools import Pool

YOUNG = 5.0  # seconds; one that has lived longer did start
SEND_AGAIN = 0.05  # seconds; the channel holds some hundred messages, a monitor takes thousands a second
LAST_WORDS = 4000  # bytes of a traceback
_KEPT = ("LD_LIBRARY_PATH", "TZ")  # of the environment: what our interpreter may need, and what dates are shown in
_EVERYBODY = 0  # as ShowListener.pool


class _Process(NamedTuple):
    pid: int
    pidfd: int
    channel: socket.socket
    stderr: int
    user: str
    since: float

    def close(self) -> None:
        self.channel.close()
        os.close(self.stderr)
        os.close(self.pidfd)


class Monitor:
    """At most one process for the whole daemon."""

    def __init__(self, log: ErrorLog) -> None:
        self._log = log
        self._process: _Process | None = None
        self._streak = Streak()
        self._is_dismissed = False  # it has been told to go
        self._seen: tuple[object, ...] = ()
        self._numbers: dict[object, int] = {}  # of all that it has been shown, or is to be shown
        self._last_number = 0
        self._shown: dict[int, object] = {}  # what it has been told of each number
        self._is_behind = False  # it has not yet been told everything,
        self._is_full = False  # for its channel was full
        self._is_blind = False  # it was said that it cannot be shown something

    def reconcile(self, pools: list[Pool], listener: socket.socket | None, user: str, now: float) -> None:
        """Have one where there is anything to answer; show it what has changed. `listener` is the one for all pools."""
        is_wanted = listener is not None or any(pool.resources.status_listener for pool in pools)
        if self._process is None:
            if is_wanted and self._streak.allows(now):
                self._start(user, now)
        elif not is_wanted or self._process.user != user:
            self._dismiss(self._process)
        if self._process is not None and not self._is_dismissed:
            self._show(self._process, pools, listener)

    def next_due(self, now: float) -> float:
        """When something is to be done that no event will remind of."""
        return now + SEND_AGAIN if self._is_full else math.inf

    def bury(self, end: processes.End, now: float) -> bool:
        """It has ended; False if it was another process."""
        process = self._process
        if process is None or process.pid != end.pid:
            return False
        how = f"the monitor, pid {end.pid}, {processes.describe_end(end)}{processes.describe_crash(end)}"
        if self._is_dismissed:
            self._log.debug(how)
        else:
            before = Streak() if now - process.since > YOUNG else self._streak
            self._streak = before.after_failure(now)
            self._log.warning(
                catalogue.MONITOR_DIED, f"{how}; another one is started", detail=_last_words(process.stderr)
            )
        self._forget(process)
        return True

    def close(self) -> None:
        """End it, and wait until it has: what follows may be the end of this process, or another image of it."""
        if self._process is not None:
            processes.send_signal(self._process.pidfd, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._process.pidfd, os.WEXITED)
            self._forget(self._process)

    # ── its process ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, user: str, now: float) -> None:
        try:
            self._process = _spawn(user, now)
        except (OSError, StartError) as error:
            self._streak = self._streak.after_failure(now)
            self._log.error(catalogue.CANNOT_START_MONITOR, f"cannot start the monitor: {error}")
            return
        self._log.debug(f"the monitor, pid {self._process.pid}, started")

    def _dismiss(self, process: _Process) -> None:
        if not self._is_dismissed:
            self._is_dismissed = True
            processes.send_signal(process.pidfd, signal.SIGKILL)  # it has nothing in hand that could be lost

    def _forget(self, process: _Process) -> None:
        process.close()
        self._process = None
        self._is_dismissed = self._is_behind = self._is_full = self._is_blind = False
        self._seen = ()
        self._shown.clear()
        self._numbers.clear()

    # ── what it is shown ────────────────────────────────────────────────────────────────────────────────────────────

    def _show(self, process: _Process, pools: list[Pool], listener: socket.socket | None) -> None:
        seen = (listener, *(fact for pool in pools for fact in _facts_of(pool)))
        if seen == self._seen and not self._is_behind:
            return
        self._seen = seen
        self._is_behind, self._is_full = True, False
        try:
            self._tell(process.channel, pools, listener)
            self._is_behind = False
        except BlockingIOError:
            self._is_full = True
        except OSError as error:  # short of something. Or it has closed the channel: then it will be buried
            if error.errno not in (errno.EPIPE, errno.ECONNRESET) and not self._is_blind:
                self._is_blind = True
                text = f"the monitor cannot be shown what has changed: {error}; tried again each second"
                self._log.error(catalogue.MONITOR_BLIND, text)

    def _tell(self, channel: socket.socket, pools: list[Pool], listener: socket.socket | None) -> None:
        """Send whatever differs from what it has been told; boards first, for pools name them, and listeners last."""
        kept: set[object] = set()
        for key, message in self._everything(pools, listener):
            kept.add(key)
            number = self._number_of(key)
            essence = (message.numbers, message.text)
            if self._shown.get(number) != essence:
                _send(channel, message)
                self._shown[number] = essence
        for key, number in [one for one in self._numbers.items() if one[0] not in kept]:
            packets.send(channel, messages.Forget(number))
            del self._numbers[key]
            self._shown.pop(number, None)

    def _everything(
        self, pools: list[Pool], listener: socket.socket | None
    ) -> Iterator[tuple[object, messages.Message]]:
        """All that there is to be shown, each with what it is known by."""
        for pool in pools:
            for generation in pool.generations():
                board = generation.scoreboard
                app, descriptors = generation.settings.app, (board.descriptor,)
                yield board, messages.ShowBoard(self._number_of(board), board.slots, text=app, descriptors=descriptors)
        for pool in pools:
            boards = [self._number_of(generation.scoreboard) for generation in pool.generations()]
            yield pool, messages.ShowPool(self._number_of(pool), text=_describe(pool, boards))
        for pool in pools:
            if pool.resources.status_listener is not None:
                own = pool.resources.status_listener.socket
                numbers = self._number_of(own), self._number_of(pool)
                yield own, messages.ShowListener(*numbers, descriptors=(own.fileno(),))
        if listener is not None:
            numbers = self._number_of(listener), _EVERYBODY
            yield listener, messages.ShowListener(*numbers, descriptors=(listener.fileno(),))

    def _number_of(self, key: object) -> int:
        if key not in self._numbers:
            self._last_number += 1
            self._numbers[key] = self._last_number
        return self._numbers[key]


def _facts_of(pool: Pool) -> tuple[object, ...]:
    """What of a pool the monitor would have to be told if it changed."""
    return pool, pool.settings, pool.resources.status_listener, *pool.generations()


def _describe(pool: Pool, boards: list[int]) -> str:
    """See monitor/shown.py."""
    settings = pool.settings
    return json.dumps(
        {
            "name": pool.name,
            "boards": boards,
            "status_path": settings.pm_status_path,
            "ping_path": settings.ping_path,
            "ping_response": settings.ping_response,
            "allowed_clients": list(settings.listen_allowed_clients),
        }
    )


def _send(channel: socket.socket, message: messages.Message) -> None:
    """Send a message; a scoreboard as a descriptor of its own that can only read."""
    if not isinstance(message, messages.ShowBoard):
        packets.send(channel, message)
        return
    reader = os.open(f"/proc/self/fd/{message.descriptors[0]}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        packets.send(channel, messages.ShowBoard(*message.numbers, text=message.text, descriptors=(reader,)))
    finally:
        os.close(reader)


def _spawn(user: str, now: float) -> _Process:
    """Fork and exec our own interpreter. It drops to `user` itself, when it has loaded its modules."""
    uid, gid = (uid_of(user), primary_group_of(user)) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    with contextlib.ExitStack() as undo:
        ours, theirs = packets.socket_pair()
        undo.callback(ours.close)
        # Neither end may wait: the monitor not for us to read, and we not for it.
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        undo.callback(os.close, reader)
        arguments = ["monitor", str(theirs.fileno()), str(os.getpid()), str(uid), str(gid), kernel.TITLE_FILLER]
        try:
            pid = fork_child(lambda: _become_monitor(arguments, theirs.fileno(), writer))
        finally:
            theirs.close()
            os.close(writer)
        pidfd = os.pidfd_open(pid)
        undo.pop_all()
    return _Process(pid, pidfd, ours, reader, user, now)


def _become_monitor(arguments: list[str], channel: int, stderr: int) -> None:
    """In the new process: nothing is inherited but the channel and the way to say last words."""
    os.setsid()  # Ctrl-C at the master's terminal is for the master alone
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(stderr, 2)
    os.set_inheritable(channel, True)
    os.chdir("/")
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    os.execve(sys.executable, [sys.executable, "-I", BOOTSTRAP, *arguments], environment)


def _last_words(stderr: int) -> str:
    said = b""
    with contextlib.suppress(OSError):
        while piece := os.read(stderr, 65536):
            said = (said + piece)[-LAST_WORDS:]
    return said.decode("utf-8", "replace").strip()
