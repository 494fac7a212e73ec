"""How to be woken: a handler does nothing, the interpreter writes a byte, the loop reads which signal it was.

Runs in: master.
Fails by: nothing; a signal too many for the socket is one that is already in it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator

WATCHED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


def _nothing(_number: int, _frame: object) -> None:
    """Being installed is enough: the C handler writes the number to the wakeup descriptor."""


@contextlib.contextmanager
def watch_signals() -> Iterator[socket.socket]:
    """Watch WATCHED for as long as the context lasts; the socket becomes readable, see `read_signals`."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    previous = {number: signal.signal(number, _nothing) for number in WATCHED}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def read_signals(reader: socket.socket) -> list[signal.Signals]:
    """The signals that came since the last look, each once, in the order of their first coming."""
    try:
        numbers = reader.recv(4096)
    except BlockingIOError:
        return []
    return [signal.Signals(number) for number in dict.fromkeys(numbers) if number in WATCHED]
