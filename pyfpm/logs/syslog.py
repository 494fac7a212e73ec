"""The way to syslog: each line a datagram to /dev/log, and never in the way of who writes.

Runs in: master, as root.   Not pure: it connects and sends.
Fails by: nothing raises. Lines that nobody takes are counted in `lost`; each line tries to connect anew, so a syslog
that is restarted, or started late, is found. Not the C library's syslog(3): that waits when the socket's queue is full.
"""

from __future__ import annotations

import contextlib
import select
import socket

DEV_LOG = "/dev/log"
_PATIENCE_MS = 100


class Syslog:
    """A sink like `files.LogFile`. `is_stderr` is never true of it."""

    is_stderr = False

    def __init__(self, path: str = DEV_LOG) -> None:
        self.lost = 0
        self.reason = ""
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, line: bytes) -> bool:
        """Send one line. False: it was lost, and counted."""
        datagram = line.rstrip(b"\n").replace(b"\0", b"\\x00")
        try:
            try:
                self._send(datagram)
            except (ConnectionError, FileNotFoundError):  # the syslog that we were connected to is no more
                self.reopen()
                self._send(datagram)
        except OSError as error:
            self.lost += 1
            self.reason = f"{self._path}: {error.strerror or error}"
            return False
        return True

    def take_lost(self) -> tuple[int, str]:
        """How many lines were lost since the last call, and why the last one was."""
        lost, self.lost = self.lost, 0
        return lost, self.reason

    def reopen(self) -> None:
        """Connect anew with the next line."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self.reopen()

    def _send(self, datagram: bytes) -> None:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            with contextlib.ExitStack() as undo:
                undo.callback(fresh.close)
                fresh.setblocking(False)
                fresh.connect(self._path)
                undo.pop_all()
            self._socket = fresh
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            # A syslog that hangs gets a moment once, then none until it moves.
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            poll.poll(0 if self.lost else _PATIENCE_MS)
            self._socket.send(datagram)
