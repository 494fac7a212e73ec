"""The application of the tests of time limits: each path is stuck in its own way.

Runs in: a pool, on its interpreter; standard library only, Python 3.9 and up. A copy of this file is what is served.
Fails by: being stuck.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import select
import signal
import socket
import threading
import time
from urllib.parse import parse_qs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Environ = dict[str, Any]
    Start = Callable[..., Callable[[bytes], object]]

LONG = 60.0  # seconds; no test waits for it
NEVER = threading.Lock()
NEVER.acquire()


def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    question = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    name = environ["PATH_INFO"].strip("/").replace("-", "_")
    return globals().get("do_" + name, do_pid)(environ, start_response, question)  # type: ignore[no-any-return]


def answer(start_response: Start, text: object) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(text).encode()]


def mark(text: str) -> None:
    with open(os.path.join(os.environ["MARKS"]), "a") as marks:
        marks.write(text + "\n")


def do_pid(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    return answer(start_response, os.getpid())


def do_block(environ: Environ, start_response: Start, _: dict[str, str]) -> Iterable[bytes]:
    """What `Daemon.engage` asks for; the other application is beside this one."""
    import apps  # type: ignore[import-not-found]

    return apps.application(environ, start_response)  # type: ignore[no-any-return]


def do_sleep(_: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    try:
        time.sleep(float(question.get("seconds", LONG)))  # stuck: sleep
    finally:
        mark("finally")
    return answer(start_response, os.getpid())


def do_c(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1 << 30)  # stuck: c
    return answer(start_response, "never")


def do_lock(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    NEVER.acquire()  # stuck: lock
    return answer(start_response, "never")


def do_swallow(_: Environ, __: Start, ___: dict[str, str]) -> Iterable[bytes]:
    while True:
        try:
            time.sleep(LONG)
        except BaseException as error:
            mark(type(error).__name__)


def do_deaf(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(LONG)
    return answer(start_response, "never")


def do_catch(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    import pyfpm

    try:
        time.sleep(LONG)
    except pyfpm.RequestTimeout as error:
        return answer(start_response, f"caught {error}")
    return answer(start_response, "never")


def do_late(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"a beginning"
    time.sleep(LONG)


def do_flood(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (bytes(65536) for _ in range(1 << 20))


def do_stubborn(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Write much to a client who takes nothing, be interrupted in the midst, and go on when the gate opens."""
    import apps

    import pyfpm

    write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for number in range(64):
        try:
            write(bytes((number,)) * 65536)
        except pyfpm.RequestTimeout:
            apps.enter_and_wait()
    return [b"the end"]


def do_regex(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """In C, but in a loop that looks for signals."""
    re.match(r"(a+)+$", "a" * 40 + "b")  # stuck: regex
    return answer(start_response, "never")


def do_sum(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    sum(range(1 << 40))  # stuck: sum
    return answer(start_response, "never")


def do_generator(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Stuck before the first block of an iterable that must be closed."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        time.sleep(LONG)  # stuck: generator
        yield b"never"
    finally:
        mark("closed")


class Pipe(io.FileIO):
    """A pipe into which nobody writes."""

    def __init__(self) -> None:
        end, self.other = os.pipe()
        super().__init__(end)

    def close(self) -> None:
        if not self.closed:
            os.close(self.other)
            mark("closed")
        super().close()


def do_wrapper(environ: Environ, start_response: Start, _: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](Pipe())  # type: ignore[no-any-return]


def do_file(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Stuck in C, with no frame of its own."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Pipe()


def do_body(environ: Environ, start_response: Start, _: dict[str, str]) -> Iterable[bytes]:
    return answer(start_response, len(environ["wsgi.input"].read()))


def do_threads(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    threading.Thread(target=idle_thread, daemon=True).start()
    time.sleep(1.0)  # slow enough for the slow log, with the other thread in sight
    return answer(start_response, os.getpid())


def idle_thread() -> None:
    time.sleep(1.5)  # outlives the request


def do_deep(_: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    return answer(start_response, deeper(int(question["depth"])))


def deeper(levels: int) -> int:
    if levels == 0:
        time.sleep(1.0)
        return 0
    return deeper(levels - 1)


def do_calls(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """System calls that a signal interrupts, one after the other; how long each took, or how it failed."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0.4)
    took = []
    calls: list[Callable[[], object]] = [
        lambda: time.sleep(0.4),
        lambda: select.select([ours], [], [], 0.4),
        lambda: NEVER.acquire(timeout=0.4),
        lambda: expect_timeout(ours),
    ]
    for call in calls:
        began = time.monotonic()
        call()
        took.append(time.monotonic() - began >= 0.39)
    theirs.close()
    return answer(start_response, took)


def expect_timeout(sock: socket.socket) -> None:
    try:
        sock.recv(1)
    except socket.timeout:  # noqa: UP041  its name on Python 3.9
        return
    raise AssertionError("nobody sent anything")


def do_extend(environ: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    environ["pyfpm.deadline"].extend(float(question["by"]))
    time.sleep(float(question["sleep"]))
    return answer(start_response, environ["pyfpm.deadline"].remaining > 0)


def do_finish(environ: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"all there is"
    environ["pyfpm.finish_request"]()
    try:
        if "seconds" in question:
            time.sleep(float(question["seconds"]))
        else:
            leave = os.open(os.path.join(os.environ["GATE"], "leave"), os.O_RDWR)
            os.read(leave, 1)
            os.close(leave)
    finally:
        mark("went on")
    yield b"too late"
