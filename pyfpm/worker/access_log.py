"""The access log of one worker: measures what access.format asks for, and writes a line for each request.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: nothing; what cannot be shown or written is said to the master, and a request goes on.
"""

from __future__ import annotations

import os
import resource
import time
from os import write

from pyfpm import catalogue
from pyfpm.logs.access_log import Entry, compile_format, is_suppressed, measures
from pyfpm.worker.application import tell
from pyfpm.worker.connection import address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyfpm.gateway.response import Response
    from pyfpm.protocols.events import Environ
    from pyfpm.worker.mailbox import Mailbox

    Send = Callable[[bytes], None]


class AccessLog:
    """Measures only what the format asks for: CPU time is a system call."""

    def __init__(self, settings: dict[str, Any], mailbox: Mailbox) -> None:
        text = settings["access_format"]
        wanted = measures(text)
        self._mailbox = mailbox
        self._line = compile_format(text)
        self._entry = Entry(settings["pool"], os.getpid(), os.getppid())
        self._suppressed = frozenset(settings["access_suppress_path"])
        self._wants_first_byte = "first_byte" in wanted
        self._wants_cpu = "cpu" in wanted
        self._wants_memory = "memory" in wanted
        self.has_to_begin = self._wants_cpu or self._wants_first_byte or bool(self._suppressed)
        self._cpu = (0.0, 0.0)
        self._send: Send  # where `watched` has it pass on
        self._first_byte = 0  # monotonic nanoseconds; 0 while nothing was sent
        self._suppresses = False
        self._complained = False

    def watched(self, send: Send) -> Send:
        """`send`, or a function in its place that notes when the first byte of an answer goes out."""
        if not self._wants_first_byte:
            return send
        self._send = send
        return self._note_and_send

    def _note_and_send(self, data: bytes) -> None:
        if not self._first_byte:
            self._first_byte = time.monotonic_ns()
        self._send(data)

    def begin(self, environ: Environ) -> None:
        """Note what the application can change: how a path is suppressed is decided by what the front server sent."""
        self._first_byte = 0
        if self._wants_cpu:
            self._cpu = _cpu()
        if self._suppressed:
            length = int(environ.get("CONTENT_LENGTH") or 0)  # body.content_length has looked at it
            self._suppresses = is_suppressed(environ, 200, length, self._suppressed)

    def write(
        self, environ: Environ, peer: Any, response: Response, accepted: int, duration: int, waited: float | None
    ) -> None:
        """Never fails: what it shows are an application's objects, and one request's line is not worth a worker.

        `accepted` and `duration` are nanoseconds, `accepted` of CLOCK_MONOTONIC; `waited` is seconds.
        """
        if self._suppresses and 200 <= response.status < 300:
            return
        try:
            entry = self._entry
            entry.environ = environ
            entry.peer = address_of(peer) if isinstance(peer, tuple) else "-"
            entry.status = response.status
            entry.headers = response.headers or []
            entry.logged = now = time.time()
            entry.duration = seconds = duration / 1e9
            entry.accepted = now - seconds
            entry.waited = waited
            if self._wants_first_byte:
                entry.first_byte = (self._first_byte - accepted) / 1e9 if self._first_byte else None
            if self._wants_cpu:
                user, system = _cpu()
                entry.cpu_user, entry.cpu_system = user - self._cpu[0], system - self._cpu[1]
            if self._wants_memory:
                entry.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            line = self._line(entry)
            try:
                write(self._mailbox.access_log, line)  # type: ignore[arg-type]  # it is there, or nobody would be here
                self._complained = False
            except OSError as error:
                self._complain(error)
        except BaseException as error:
            self._mailbox.error(catalogue.ACCESS_LINE_FAILED, f"cannot write to the access log: {tell(error)}")

    def _complain(self, error: OSError) -> None:
        if not self._complained:  # a full disk: once is enough
            self._mailbox.error(catalogue.ACCESS_LOG_FAILED, f"cannot write the access log: {error}")
        self._complained = True


def _cpu() -> tuple[float, float]:
    """User and system seconds of this worker so far. Not os.times(), which counts in hundredths."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime
