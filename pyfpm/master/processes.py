"""Our children as the kernel knows them: confirm, signal, reap. Never by a pid that somebody merely said.

Runs in: master.
Fails by: nothing; a process that is gone is no error here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal


def confirm_child(pid: int) -> int | None:
    """A pidfd for `pid`, if the kernel says that it is our own child; None otherwise."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        # WNOWAIT: only look. A process that is not our child is ECHILD.
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        os.close(pidfd)
        return None
    return pidfd


def is_stranger(pid: int) -> bool:
    """Whether `pid` runs and is no child of ours. One that has ended may have been ours, and is reaped already."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        return error.errno == errno.EINVAL  # pid 0: the kernel does not show us that process
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


def send_signal(pidfd: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def reap() -> list[tuple[int, int]]:
    """(pid, wait status) of every child that has ended since the last call, adopted orphans included."""
    ended = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, status))
    return ended


def describe_end(status: int) -> str:
    """How it ended, in PHP-FPM's words: "exited with code 1", "exited on signal 9 (SIGKILL)"."""
    if not os.WIFSIGNALED(status):
        return f"exited with code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal has a number and no name
        name = f"SIG{number}"
    core = " - core dumped" if os.WCOREDUMP(status) else ""
    return f"exited on signal {number} ({name}{core})"
