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
from pyfpm.gateway import unavailable
from pyfpm.gateway.arrival import came_at
from pyfpm.gateway.environ import complete
from pyfpm.gateway.response import Response
from pyfpm.histogram import observe
from pyfpm.protocols import fastcgi
from pyfpm.scoreboard import CPU, DEADLINE, DURATION, ENDING, FINISHING, LENGTH, MEMORY, RUNNING, SERVED, SHED
from pyfpm.worker.access_log import AccessLog
from pyfpm.worker.application import tell
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
        self._access_log = log = AccessLog(settings, mailbox) if mailbox.access_log is not None else None
        send = connection.send if log is None else log.watched(connection.send)
        self._response = Response(send, fastcgi.head, fastcgi.whole, fastcgi.stdout, fastcgi.end)
        self._leave_if_forked = leave_if_forked
        self.served = 0
        self.is_behind = False  # the connection in hand has waited too long, as the listen queue tells
        self._queue_limit: float = settings["request_queue_timeout"]
        self._pages = Pages.of(settings, slot)
        self._has_others = self._pages is not None or self._queue_limit > 0  # than the application, to answer
        self._measured: bool = settings["measured"]
        self._spent = _spent(resource.getrusage(resource.RUSAGE_SELF))  # CPU seconds until the last request
        self._timed: bool = settings["timed"]
        self._limit = int(settings["request_terminate_timeout"] * 1e9)
        self._app: str = settings["app"]

    def answer(self, environ: Environ, request_id: int, stream: Any, peer: Any, accepted: int) -> bool:
        """Answer one request; whether the connection may be used further. `accepted` is monotonic nanoseconds."""
        slot = self._slot
        numbers = slot.numbers
        response = self._response
        log = self._access_log
        if log is not None and log.has_to_begin:
            log.begin(environ)
        stamp = environ.get("REQUEST_START") or environ.get("HTTP_X_REQUEST_START")
        waited = None if stamp is None else self._waited(stamp, accepted)
        method = environ.get("REQUEST_METHOD", "")
        slot.show_request(method, environ.get("REQUEST_URI") or _uri_of(environ), environ.get("REMOTE_USER"))
        # Whoever made `stream` has checked it.
        numbers[LENGTH] = int(length) if (length := environ.get("CONTENT_LENGTH")) else 0
        if self._timed:
            self._begin_time(environ)
        slot.stages[slot.own] = RUNNING
        response.begin(request_id, method == "HEAD")
        try:
            try:
                if complete(environ, self._mount, stream):
                    application = self._application
                    if self._has_others:
                        application = self._choose(environ, waited)
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
                log.write(environ, peer, response, accepted, duration, waited)
        if response.is_last:
            self._end_connection(response)
            return False
        return response.finished

    def _begin_time(self, environ: Environ) -> None:
        """The time of the request's limits begins; the slow log wants to know whose it is."""
        slot = self._slot
        slot.show_origin(environ.get("SCRIPT_FILENAME") or self._app, environ.get("REMOTE_ADDR", ""))
        if self._limit:
            slot.numbers[DEADLINE] = time.monotonic_ns() + self._limit

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

    def _choose(self, environ: Environ, waited: float | None) -> Callable[..., Any]:
        """Who answers: a page of ours, however long the request has waited, or a refusal, or the application."""
        if self._pages is not None and (page := self._pages.find(environ)) is not None:
            return page
        limit = self._queue_limit
        is_late = limit and (self.is_behind or (waited is not None and waited > limit))
        return self._shed if is_late else self._application

    def _waited(self, stamp: str, accepted: int) -> float | None:
        """Seconds from the front server's time stamp until the request was taken up; None if it is none."""
        now = time.time()
        came = came_at(stamp, now)
        if came is None:
            return None
        waited = max(0.0, now - came - (time.monotonic_ns() - accepted) / 1e9)
        observe(self._slot.waits, int(waited * 1e9))
        return waited

    def _shed(self, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        """Answer in place of the application: the request has waited too long for it."""
        self._slot.numbers[SHED] += 1
        return unavailable.application(environ, start_response)

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
            self._connection.cut(fastcgi.cut())
        elif not response.sent:
            response.plain_answer("504 Gateway Timeout")
        response.is_last = True
        response.ignored = 0

    def _measure(self) -> None:
        """Show what the request cost; one system call, and only where a status page could tell."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = _spent(used)
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
        self._mailbox.error(code, f"{self._named()} failed{where}: {tell(error)}")
        if response.incomplete:
            # nginx takes a closed connection for the end of an answer without Content-Length; not this.
            self._connection.cut(fastcgi.cut())
        if response.sent:
            return
        hint = f"pyfpm: {type(error).__name__} in child {os.getpid()}, see the pool's error log\n"
        self._connection.send(fastcgi.stderr(response.request_id, hint.encode("utf-8", "replace"), last=True))
        response.plain_answer("500 Internal Server Error")


def _spent(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _uri_of(environ: Environ) -> str:
    """What REQUEST_URI would say."""
    query = environ.get("QUERY_STRING")
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return f"{path}?{query}" if query else path
