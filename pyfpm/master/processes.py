"""Our children as the kernel knows them: hold, signal, reap. Never by a pid that somebody merely said.

Runs in: master.
Fails by: nothing; a process that is gone is no error here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.master.oom import OomKills


def hold_child(pid: int) -> int | None:
    """A pidfd for `pid`, if the kernel says that it is our own child; None otherwise.

    OSError if there is none to be had. The child is killed then: nobody could look after it.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):  # pid 0: the kernel does not show us that process
            return None
        _kill_child(pid)
        raise
    try:
        # WNOWAIT: only look. A process that is not our child is ECHILD.
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        os.close(pidfd)
        return None
    return pidfd


def _kill_child(pid: int) -> None:
    """Without a pidfd. Only we reap: as long as the kernel calls it our child, the pid is nobody else's."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(pid, signal.SIGKILL)


def is_stranger(pid: int) -> bool:
    """Whether `pid` runs and is no child of ours. One that has ended may have been ours, and is reaped already."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        return error.errno == errno.EINVAL  # pid 0
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if poll.poll(0):
            return False
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return True
    finally:
        os.close(pidfd)
    return False


def send_signal(pidfd: int, number: int) -> None:
    """A process that has gone is past being told. A real-time signal has a number and no name."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def catches(pid: int, number: int) -> bool:
    """Whether a child of ours, not yet reaped, handles this signal; one that does not would die of it."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith(b"SigCgt:")]
    except (OSError, ValueError, IndexError):
        return False
    return any(mask >> (number - 1) & 1 for mask in masks)


def state_of(pid: int) -> str:
    """The letter that proc_pid_stat(5) has for what a child of ours, not yet reaped, is doing; "" if it cannot tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b") ")[2][:1].decode("latin-1")
    except OSError:
        return ""


class End(NamedTuple):
    """How a child has ended. `peak` is the most memory it had, in bytes, or that of a child it waited for."""

    pid: int
    status: int  # as wait(2) has it
    peak: int = 0
    oom: str = ""  # the cgroup, if the kernel killed it for lack of memory

    @property
    def by(self) -> int:
        """The signal it died of; 0 if it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0


def reap(oom_kills: OomKills, now: float, before: Callable[[int], None]) -> list[End]:
    """Every child that has ended since the last call, adopted orphans included.

    `before` is called with the pid of each while it is a zombie, and can still be confirmed.
    """
    ended = []
    with contextlib.suppress(ChildProcessError):
        while (zombie := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            before(zombie.si_pid)
            pid, status, usage = os.wait4(zombie.si_pid, 0)
            end = End(pid, status, usage.ru_maxrss * 1024)
            ended.append(end._replace(oom=oom_kills.take(now)) if end.by == signal.SIGKILL else end)
    return ended


def describe_crash(end: End) -> str:
    """What is known of a child that died of a signal, to follow `describe_end`; empty for one that exited."""
    if not end.by:
        return ""
    why = f", killed by the kernel for lack of memory (cgroup {end.oom})" if end.oom else ""
    return f"{why}, peak {end.peak / 2**20:.0f} MiB"


def describe_end(end: End) -> str:
    """How it ended, in PHP-FPM's words: "exited with code 1", "exited on signal 9 (SIGKILL)"."""
    status = end.status
    if not end.by:
        return f"exited with code {os.waitstatus_to_exitcode(status)}"
    number = end.by
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal has a number and no name
        name = f"SIG{number}"
    core = " - core dumped" if os.WCOREDUMP(status) else ""
    return f"exited on signal {number} ({name}{core})"
