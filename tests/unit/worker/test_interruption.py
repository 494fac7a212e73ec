"""Where RequestTimeout may be raised: asked at each step of real code, with the frames a signal would find there."""

from __future__ import annotations

import gc
import io
import itertools
import os
import re
import socket
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyfpm.errors import PeerGone, RequestTimeout
from pyfpm.gateway.body import Input
from pyfpm.gateway.response import FileWrapper, Response
from pyfpm.scoreboard import RUNNING
from pyfpm.worker.access_log import AccessLog
from pyfpm.worker.connection import Connection
from pyfpm.worker.request import Desk
from pyfpm.worker.timelimits import may_be_interrupted
from tests.harness.fcgi_client import get_parameters, request_bytes
from tests.unit.gateway.serving import response_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    Application = Callable[[Any, Any], Any]

SOME = b"x" * 65536
HTML = [("Content-Type", "text/html")]


class Verdicts:
    """Looks on while code runs: what `may_be_interrupted` says, by the function on top, at its calls.

    With `within`, only while that function is on the stack.
    """

    def __init__(self, within: Any = None) -> None:
        self._within = within
        self.files: set[str] = set()
        self.by_name: dict[str, set[bool]] = defaultdict(set)

    def run(self, response: Response, application: Application) -> None:
        response.begin(1, False)
        sys.setprofile(self._look)
        try:
            response.run(application, {})
        except PeerGone:
            pass  # it is impatient, so that no test waits
        finally:
            sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _: object) -> None:
        if self._within is not None and not is_within(self._within, frame):
            return
        if event in ("call", "c_call"):  # at entry, and with a call into C on top
            self.files.add(os.path.basename(frame.f_code.co_filename))
            self.by_name[frame.f_code.co_name].add(may_be_interrupted(frame))

    @property
    def allowed(self) -> set[str]:
        return {name for name, said in self.by_name.items() if said == {True}}

    @property
    def forbidden(self) -> set[str]:
        return {name for name, said in self.by_name.items() if said == {False}}


def is_within(function: Any, frame: FrameType) -> bool:
    at: FrameType | None = frame
    while at is not None and at.f_code is not function.__code__:
        at = at.f_back
    return at is not None


@pytest.fixture
def verdicts() -> Verdicts:
    return Verdicts()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def connection(ends: tuple[socket.socket, socket.socket]) -> Connection:
    """One that has no patience: where it would wait for the peer it gives up."""
    found = Connection(1, 5.0, 0.001, 0.001)
    found.open(ends[0].fileno())
    return found


def nothing(_: bytes) -> None:
    """Where an answer goes that nobody reads."""


# ── the application ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_application_and_what_it_calls(verdicts: Verdicts) -> None:
    def application(_: Any, start: Any) -> list[bytes]:
        re.sub("a", lambda _: str(os.getpid()), "aa")
        start("200 OK", HTML)
        return [b"all"]

    verdicts.run(response_to(nothing), application)
    assert verdicts.allowed >= {"application", "sub", "<lambda>"}
    assert verdicts.forbidden >= {"run", "start", "_run_one", "whole"}


def test_outside_a_request_and_without_a_frame() -> None:
    assert not may_be_interrupted(None)
    assert not may_be_interrupted(sys._getframe())


class Pipe(io.BytesIO):
    """A file whose `read` is in C."""


def with_wrapper(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return FileWrapper(Pipe(SOME))


def with_iterable(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return map(bytes.upper, [SOME, SOME])  # in C as a whole


class Closed:
    def __iter__(self) -> Iterator[bytes]:
        return iter([str(os.getpid()).encode()])

    def close(self) -> None:
        os.getpid()


def with_close(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return Closed()


@pytest.mark.parametrize(
    ("application", "places"),
    [(with_wrapper, {"__next__"}), (with_iterable, {"_run_blocks"}), (with_close, {"__iter__", "_iterator", "close"})],
)
def test_the_answer_while_it_comes(verdicts: Verdicts, application: Application, places: set[str]) -> None:
    verdicts.run(response_to(nothing), application)
    assert verdicts.allowed >= places
    assert verdicts.forbidden >= {"run", "_block", "_close"}


def test_what_is_on_top_of_our_bookkeeping(verdicts: Verdicts) -> None:
    """A signal handler or __del__ of the application: here it stands in for the codec, which is called from there."""

    def handler(_: bytes) -> None:
        str(os.getpid())

    verdicts.run(response_to(handler), with_iterable)
    assert "handler" in verdicts.forbidden


# ── the waits for the peer ──────────────────────────────────────────────────────────────────────────────────────────


def read_lines(body: Input) -> object:
    return [line for line in body]  # noqa: C416  not list(): its frame is the application's


@pytest.mark.parametrize("read", [Input.read, Input.readline, Input.readlines, read_lines])
def test_a_body_that_does_not_come(
    verdicts: Verdicts, connection: Connection, ends: Any, read: Callable[[Input], object]
) -> None:
    whole = request_bytes(get_parameters("/", REQUEST_METHOD="POST", CONTENT_LENGTH="99999"), b"x" * 99999)
    ends[1].sendall(whole[1:40000])
    assert connection.read_head(whole[:1]) is not None
    body = Input(b"", 99999, connection.more)

    verdicts.run(response_to(nothing), lambda *_: read(body))
    assert verdicts.by_name["_wait_for"] == {True}
    assert verdicts.forbidden >= {"more", "_receive", "_take", "_next", "_within"}


def blocks(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return itertools.repeat(SOME, 100)


def several(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return [SOME] * 100


def one(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return [SOME * 16]


def large(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", HTML)
    return [SOME * 100]


def written(_: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", [*HTML, ("Content-Length", str(len(SOME) * 16))])(SOME * 16)
    return []


@pytest.mark.parametrize("application", [blocks, several, one, large, written])
@pytest.mark.parametrize("is_watched", [False, True])
def test_an_answer_that_is_not_taken(
    verdicts: Verdicts, connection: Connection, application: Application, is_watched: bool
) -> None:
    settings: dict[str, Any] = {
        "access_format": "%F" if is_watched else "%s",
        "pool": "www",
        "access_suppress_path": [],
    }
    log = AccessLog(settings, SimpleNamespace())  # type: ignore[arg-type]
    verdicts.run(response_to(log.watched(connection.send)), application)
    assert verdicts.by_name["_wait_for"] == {True}
    assert verdicts.forbidden >= {"send", "_send_patiently", "_stop_blocking"}
    assert ("_note_and_send" in verdicts.forbidden) is is_watched


def test_an_end_that_is_not_taken(verdicts: Verdicts, connection: Connection) -> None:
    def application(_: Any, start: Any) -> Iterator[bytes]:
        write = start("200 OK", HTML)
        fill(connection.descriptor)
        connection._room = -1
        write(b"")
        yield b""

    verdicts.run(response_to(connection.send), application)
    assert verdicts.by_name["_wait_for"] == {True}
    assert verdicts.forbidden >= {"_send_end", "_close"}


def fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, SOME)
    except BlockingIOError:
        return


# ── finish_request ──────────────────────────────────────────────────────────────────────────────────────────────────


def desk_of(connection: Connection, response: Response) -> Desk:
    """As much of one as `finish_request` wants to see."""
    desk = object.__new__(Desk)
    desk._connection, desk._response = connection, response
    desk._slot = SimpleNamespace(stages=bytearray([RUNNING]), own=0)  # type: ignore[assignment]
    return desk


@pytest.mark.parametrize("is_full", [False, True])
def test_never_in_finish_request(connection: Connection, is_full: bool) -> None:
    """Not even in what it calls of the standard library, nor where it waits for the peer to take the end."""
    response = response_to(connection.send)
    desk = desk_of(connection, response)
    verdicts = Verdicts(within=Desk.finish_request)

    def application(_: Any, start: Any) -> list[bytes]:
        start("200 OK", HTML)
        if is_full:
            fill(connection.descriptor)
            connection._room = -1
        desk.finish_request()
        return []

    verdicts.run(response, application)
    assert verdicts.files >= {"request.py", "response.py", "connection.py"}
    assert ("_wait_for" in verdicts.by_name) is is_full
    assert ("socket.py" in verdicts.files) is not is_full
    assert verdicts.forbidden == set(verdicts.by_name)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the collector closes what is left
def test_hang_up_closes_nothing_but_what_is_its_own(connection: Connection, ends: Any) -> None:
    """Whatever is raised in it, and wherever: the number stays open, and is closed once, by its owner."""
    gc.freeze()  # what the other tests have left is none of this collector's business
    for step in itertools.count():
        left = iter(range(step))

        def interrupt(frame: FrameType, *_: object, left: Iterator[int] = left) -> None:
            if is_within(Connection.hang_up, frame) and next(left, None) is None:
                sys.setprofile(None)
                raise RequestTimeout("now")

        sys.setprofile(interrupt)
        try:
            connection.hang_up()
        except RequestTimeout:
            pass
        else:
            break  # there is no step after that
        finally:
            sys.setprofile(None)
        gc.collect()
        os.fstat(ends[0].fileno())
    assert step > 5
    assert ends[1].recv(1) == b"", "and it has hung up"
    ends[1].sendall(b"we still read")
    assert ends[0].recv(100) == b"we still read"
