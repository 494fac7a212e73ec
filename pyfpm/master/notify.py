"""Tell the service manager how we are: sd_notify(3) without its library.

Runs in: master.
Fails by: nothing. No socket to notify, or nobody behind it, is no reason to stop serving.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Sends to $NOTIFY_SOCKET, which is taken out of the environment: a pool's processes must not speak for us."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._said = ""  # the last status

    def environment(self) -> dict[str, str]:
        """What a new image of this master must find in its environment to go on notifying."""
        return {"NOTIFY_SOCKET": self._address} if self._address else {}

    def ready(self, status: str) -> None:
        self._said = status
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self, monotonic_us: int) -> None:
        """A reload has begun; `ready` must follow, also when it is refused, or systemctl waits for ever."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Say how it is, if that is news."""
        if status != self._said:
            self._said = status
            self._send(f"STATUS={status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(text.encode("utf-8", "replace"), address)
