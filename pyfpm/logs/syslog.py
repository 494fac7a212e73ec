"""The way to syslog: each line a datagram to /dev/log, and never in the way of who writes.

Runs in: master, as root.   Not pure: it connects and sends.
Fails by: nothing raises. Lines that nobody takes are counted in `lost`; each line tries to connect anew, so a syslog
that is restarted, or started late, is found. Not the C library's syslog(3): that waits when the socket's queue is full.
"""

from __future__ import annotations

import contextlib
import errno
import socket

from pyfpm.logs.patience import Patience

DEV_LOG = "/dev/log"


class Syslog:
    """A sink like `files.LogFile`. `is_stderr` is never true of it."""

    is_stderr = False

    def __init__(self, path: str = DEV_LOG) -> None:
        self.lost = 0
        self.reason = ""
        self._path = path
        self._patience = Patience()
        self._socket: socket.socket | None = None

    def write(self, lines: bytes) -> bool:
        """Send whole lines, one or more, each by itself. False: some were lost, and counted."""
        whole = lines.replace(b"\0", b"\\x00").removesuffix(b"\n").split(b"\n")
        before = self.lost
        for done, line in enumerate(whole):
            try:
                self._send_somehow(line)
            except OSError as error:
                self.reason = f"{self._path}: {error.strerror or error}"
                if error.errno != errno.EMSGSIZE:  # whoever does not take this one takes none of the others
                    self.lost += len(whole) - done
                    break
                self.lost += 1
        return self.lost == before

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

    def _send_somehow(self, datagram: bytes) -> None:
        try:
            self._send(datagram)
        except (ConnectionError, FileNotFoundError):  # the syslog that we were connected to is no more
            self.reopen()
            self._send(datagram)

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
            self._patience.wait(self._socket.fileno(), is_stuck=self.lost > 0)
            self._socket.send(datagram)
