"""One request through the gateway: stages marked, application called, answer sent, line logged.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: PeerGone and PeerError go to the caller, when nobody is left to answer. Whatever the application raises ends
here, in the log, and for the client in a plain 500 or in an answer that is visibly cut.
"""

from __future__ import annotations

import os
import resource
import time

from pyfpm import catalogue
from pyfpm.errors import ApplicationError, PeerError, PeerGone, RequestTimeout
from pyfpm.gateway.environ import complete
from pyfpm.gateway.response import Response
from pyfpm.histogram import observe
from pyfpm.logs.access_log import Entry, compile_format, is_suppressed, wants_cpu, wants_memory
from pyfpm.protocols import fastcgi
from pyfpm.scoreboard import CPU, DEADLINE, DURATION, ENDING, FINISHING, LENGTH, MEMORY, RUNNING, SERVED
from pyfpm.worker.application import describe, format_traceback
from pyfpm.worker.pages import Pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyfpm.protocols.events import Environ
    from pyfpm.scoreboard import Slot
    from pyfpm.worker.connection import Connection
    from pyfpm.worker.mailbox import Mailbox


class Desk:
    """Where a worker's requests are answered, one after the other."""

    def __init__(
        self,
        settings: dict[str, Any],
        application: Callable[..., Any],
        slot: Slot,
        connection: Connection,
        mailbox: Mailbox,
        leave_if_forked: Callable[[], None],
    ) -> None:
        self._application = application
        self._mount: str = settings["mount"]
        self._slot = slot
        self._durations = slot.durations
        self._connection = connection
        self._mailbox = mailbox
        self._response = Response(connection.send, fastcgi.head, fastcgi.whole, fastcgi.stdout, fastcgi.end)
        self._leave_if_forked = leave_if_forked
        self.served = 0
        self._pages = Pages.of(settings, slot)
        self._measured = bool(settings["pm_status_path"] or settings["pm_status_listen"])
        self._spent = 0.0  # CPU seconds of this worker until the last request
        self._access_log = AccessLog(settings, mailbox) if mailbox.access_log is not None else None
        self._timed: bool = settings["timed"]
        self._limit = int(settings["request_terminate_timeout"] * 1e9)
        self._app: str = settings["app"]

    def answer(self, environ: Environ, request_id: int, stream: Any, peer: Any, accepted: int) -> bool:
        """Answer one request; whether the connection may be used further. `accepted` is monotonic nanoseconds."""
        slot = self._slot
        numbers = slot.numbers
        response = self._response
        log = self._access_log
        if log is not None:
            log.begin(environ)
        method = environ.get("REQUEST_METHOD", "")
        slot.show_request(method, environ.get("REQUEST_URI") or _uri_of(environ), environ.get("REMOTE_USER"))
        numbers[LENGTH] = int(environ.get("CONTENT_LENGTH") or 0)  # whoever made `stream` has checked it
        if self._timed:
            slot.show_origin(environ.get("SCRIPT_FILENAME") or self._app, environ.get("REMOTE_ADDR", ""))
            if self._limit:
                numbers[DEADLINE] = time.monotonic_ns() + self._limit
        slot.stages[slot.own] = RUNNING
        response.begin(request_id, method == "HEAD")
        try:
            try:
                if complete(environ, self._mount, stream):
                    application = self._application
                    if self._pages is not None:
                        application = self._pages.find(environ) or application
                    response.run(application, environ)
                elif self._pages is not None and (page := self._pages.find(environ)) is not None:
                    response.run(page, environ)  # which is outside the mount
                else:
                    response.plain_answer("404 Not Found")
            except PeerGone as error:
                self._refuse(response, error)
            except PeerError as error:
                self._mailbox.warn(catalogue.BAD_REQUEST, f"{self._named()}: {error}")
                self._refuse(response, error)
            except RequestTimeout:
                self._time_out(response)
            except BaseException as error:
                # sys.exit() in a view, too: a request may end itself, not the worker.
                self._report(response, error)
        finally:
            # A request counts and is logged also when nobody was left to answer.
            self._leave_if_forked()
            slot.stages[slot.own] = ENDING
            self.served = numbers[SERVED] = self.served + 1
            numbers[DURATION] = duration = time.monotonic_ns() - accepted
            observe(self._durations, duration)
            if self._measured:
                self._measure()
            if log is not None:
                log.write(environ, peer, response, duration / 1e9)
        if response.is_last:
            self._end_connection(response)
            return False
        return response.finished

    def finish_request(self) -> None:
        """environ["pyfpm.finish_request"]: the client has its answer with this, and the code goes on.

        The connection is given up, although the front server may have wanted to keep it: a next request on it would
        wait here for the code to end.
        """
        slot = self._slot
        if slot.stages[slot.own] == RUNNING and not self._response.is_last:
            self._response.finish()
            self._connection.hang_up()
            slot.stages[slot.own] = FINISHING

    def _end_connection(self, response: Response) -> None:
        if response.ignored:
            text = f"{self._named()}: {response.ignored} bytes came after pyfpm.finish_request, not sent"
            self._mailbox.warn(catalogue.SENT_TOO_LATE, text)
        self._connection.finish(False)

    def _time_out(self, response: Response) -> None:
        """The application was interrupted, and is through with its clean-up. The master has logged where it was."""
        self._leave_if_forked()
        self._slot.stages[self._slot.own] = ENDING
        if response.incomplete:
            if not self._connection.is_torn:
                self._connection.send(fastcgi.cut())
        elif not response.sent:
            response.plain_answer("504 Gateway Timeout")
        response.is_last = True
        response.ignored = 0

    def _measure(self) -> None:
        """Show what the request cost; one system call, and only where a status page could tell."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = used.ru_utime + used.ru_stime
        self._slot.numbers[CPU] = int((spent - self._spent) * 1e6)
        self._slot.numbers[MEMORY] = used.ru_maxrss * 1024
        self._spent = spent

    def _named(self) -> str:
        """The request line, for the log."""
        return f'"{self._slot.request_line().strip() or "(no method)"}"'

    def _refuse(self, response: Response, error: Exception) -> None:
        """The peer is at fault or has gone: tell it as far as that still makes sense, and give it up."""
        if response.sent:
            raise error
        response.plain_answer("400 Bad Request")

    def _report(self, response: Response, error: BaseException) -> None:
        when = "after a part of the answer was sent" if response.incomplete else ""
        where = f" {when}" if when else ""
        self._leave_if_forked()
        code = error.code if isinstance(error, ApplicationError) else catalogue.REQUEST_FAILED
        self._mailbox.error(code, f"{self._named()} failed{where}: {_tell(error)}")
        if response.incomplete:
            # nginx takes a closed connection for the end of an answer without Content-Length; not this.
            self._connection.send(fastcgi.cut())
        if response.sent:
            return
        hint = f"pyfpm: {type(error).__name__} in child {os.getpid()}, see the pool's error log\n"
        self._connection.send(fastcgi.stderr(response.request_id, hint.encode("utf-8", "replace"), last=True))
        response.plain_answer("500 Internal Server Error")


def _uri_of(environ: Environ) -> str:
    """What REQUEST_URI would say."""
    query = environ.get("QUERY_STRING")
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return f"{path}?{query}" if query else path


def _tell(error: BaseException) -> str:
    """What happened and where. The exception is the application's, and its methods and properties may raise."""
    try:
        text = describe(error)
        return text if isinstance(error, ApplicationError) else f"{text}\n{format_traceback(error)}"
    except BaseException as second:
        return f"{type(error).__name__} (which cannot be shown: {type(second).__name__})"


class AccessLog:
    """Writes a line for each request. Measures only what the format asks for: CPU time is a system call."""

    def __init__(self, settings: dict[str, Any], mailbox: Mailbox) -> None:
        text = settings["access_format"]
        self._mailbox = mailbox
        self._line = compile_format(text)
        self._entry = Entry(settings["pool"], os.getpid(), os.getppid())
        self._suppressed = frozenset(settings["access_suppress_path"])
        self._wants_cpu = wants_cpu(text)
        self._wants_memory = wants_memory(text)
        self._cpu = (0.0, 0.0)
        self._accepted = 0.0
        self._suppresses = False
        self._complained = False

    def begin(self, environ: Environ) -> None:
        """Note what the application can change: how a path is suppressed is decided by what the front server sent."""
        self._accepted = time.time()
        if self._wants_cpu:
            self._cpu = os.times()[:2]
        if self._suppressed:
            length = int(environ.get("CONTENT_LENGTH") or 0)  # body.content_length has looked at it
            self._suppresses = is_suppressed(environ, 200, length, self._suppressed)

    def write(self, environ: Environ, peer: Any, response: Response, duration: float) -> None:
        """Never fails: what it shows are an application's objects, and one request's line is not worth a worker."""
        try:
            self._write(environ, peer, response, duration)
        except BaseException as error:
            self._mailbox.error(catalogue.ACCESS_LINE_FAILED, f"cannot write to the access log: {_tell(error)}")

    def _write(self, environ: Environ, peer: Any, response: Response, duration: float) -> None:
        entry = self._entry
        if self._suppresses and 200 <= response.status < 300:
            return
        entry.environ = environ
        entry.peer = peer[0] if isinstance(peer, tuple) else "-"
        entry.status = response.status
        entry.headers = response.headers or []
        entry.accepted = self._accepted
        entry.logged = time.time()
        entry.duration = duration
        if self._wants_cpu:
            user, system = os.times()[:2]
            entry.cpu_user, entry.cpu_system = user - self._cpu[0], system - self._cpu[1]
        if self._wants_memory:
            entry.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._append(self._line(entry))

    def _append(self, line: bytes) -> None:
        assert self._mailbox.access_log is not None
        try:
            os.write(self._mailbox.access_log, line)
            self._complained = False
        except OSError as error:
            if not self._complained:  # a full disk: once is enough
                self._mailbox.error(catalogue.ACCESS_LOG_FAILED, f"cannot write the access log: {error}")
            self._complained = True
