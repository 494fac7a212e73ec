"""Go to the background, and let the one in the foreground end with what became of it.

Runs in: master; its parent stays in the foreground until it hears the outcome.
Fails by: exit code 70 in the parent when the child ends without a word.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from pyfpm.fork import EXIT_INTERNAL, fork_child, leave

Announce = Callable[[int], None]


def in_foreground(life: Callable[[Announce], int]) -> int:
    """Live here; whoever started us sees for himself what becomes of it."""
    _close_standard_input()
    return life(lambda _code: None)


def in_background(life: Callable[[Announce], int]) -> int:
    """Live in a child with a session of its own; return the exit code that it announces, or that it ended with."""
    reader, writer = os.pipe()

    def child() -> None:
        os.close(reader)
        os.setsid()
        _close_standard_input()
        leave(life(lambda code: _announce(writer, code)))

    pid = fork_child(child)
    os.close(writer)
    # Ctrl-C while waiting: the child is in another session and would not hear of it.
    signal.signal(signal.SIGINT, lambda *_: os.kill(pid, signal.SIGTERM))
    answer = os.read(reader, 1)
    if answer:
        return answer[0]
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        sys.stderr.write(f"pyfpm: the master was killed by signal {-code} while it started\n")
    return code if code > 0 else EXIT_INTERNAL


def _announce(writer: int, code: int) -> None:
    """Tell the parent, and let go of its terminal: from now on there is only the log."""
    with contextlib.suppress(BrokenPipeError):  # who started us has not waited for it
        os.write(writer, bytes([code]))
    os.close(writer)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)


def _close_standard_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
