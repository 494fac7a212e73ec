"""How to be born: the only file that names os.fork.

Runs in: master and template, Python 3.9 and up.
Fails by: OSError from fork(2) in the parent. In the child nothing is raised further: it ends in os._exit.

Two traps are closed here. signal.set_wakeup_fd survives fork, so a signal to a child would put its byte into the
parent's socket: signals are held back from before the fork until the child has forgotten it. And a child that
returns would run the parent's `finally` blocks: it never returns.

Functions are held by name here, and in all that runs in a template or a worker: gevent and eventlet replace them in
their modules when an application asks for it (monkey patching). Theirs wait in a loop of events that nobody runs;
os.close of gevent 25.8 and later closes nothing until then. tests/rules/test_originals.py has the list.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
from os import _exit, fork
from signal import signal as set_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h, what PHP-FPM's children end with when they fail to start


def fork_child(life: Callable[[], None], *, run_exit_functions: bool = False) -> int:
    """Fork; the child runs `life` and ends, the parent gets its pid.

    The child starts with default signal handlers. It exits 0 when `life` returns and 70 when it raises, having printed
    the traceback to its stderr. With `run_exit_functions` the child runs what was registered with atexit, as an
    interpreter does at its end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = fork()
        if pid == 0:
            _live(life, before, run_exit_functions)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _live(life: Callable[[], None], mask: set[int] | set[signal.Signals], run_exit_functions: bool) -> None:
    code = EXIT_INTERNAL
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            set_handler(number, signal.SIG_DFL)
        set_handler(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = _ending_of(life)
        if run_exit_functions:
            atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def _ending_of(life: Callable[[], None]) -> int:
    try:
        life()
    except SystemExit as end:
        if isinstance(end.code, int):
            return end.code & 0xFF
        return 0 if end.code is None else EXIT_INTERNAL
    return 0


def leave(code: int) -> NoReturn:
    """End this process now: the streams are flushed, threads and exit functions are not waited for."""
    flush_streams()
    _exit(code)


def flush_streams() -> None:
    """Write out what is in the buffers of stdout and stderr, which an application may have replaced by anything."""
    for name in ("stdout", "stderr"):
        with contextlib.suppress(BaseException):
            getattr(sys, name).flush()
