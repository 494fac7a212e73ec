"""What watching costs a request: scoreboard, access log, histograms; and a stack dump: python -m tests.bench.costs

Runs in: benchmarks.   Reads the clock.
Fails by: exit 1 when a cost is above its budget.

CPU time of this process, user and system. A machine's speed may double from second to second, and neighbours slow down
even that; so each round is divided by a reference loop that runs right before it, and the median of the rounds is given
in microseconds of a machine on which that loop takes what it took at best.

The scoreboard is counted by its steps: what it costs to have it cannot be told by leaving it out, because a store that
does nothing is a call, and costs more than the store. Each step below stands so in worker/main.py or worker/request.py.
Access log and stamps are the difference of the same request with and without, interleaved.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any

from pyfpm.gateway.body import received
from pyfpm.gateway.environ import base_environ
from pyfpm.histogram import observe
from pyfpm.protocols.fastcgi import decode
from pyfpm.scoreboard import (
    DURATION,
    ENDING,
    IDLE,
    LENGTH,
    NUMBER,
    READING,
    RUNNING,
    SERVED,
    SINCE,
    Scoreboard,
    Slot,
)
from pyfpm.worker.connection import Connection
from pyfpm.worker.request import Desk
from tests.bench import traffic
from tests.bench.codec import hello, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 20
CALLS = 2000
SLICE = 128  # requests; about as long as the reference, or the two would not meet the same machine
SCOREBOARD, ACCESS_LOG, HISTOGRAM = 2.0, 5.0, 1.0  # us a request
DUMP = 0.010  # seconds
EVERYTHING = '%R %u %t %T "%m %r%Q%q" %s %d %w %F %c %C %M %l %n %p %{HTTP_USER_AGENT}e %{Content-Type}o'
FORMATS = {"the default format": '%R - %u %t "%m %r" %s', "json": "json", "text, every figure": EVERYTHING}


class Ruler:
    """The reference loop, and how long it took at best."""

    best = float("inf")

    @classmethod
    def lay(cls) -> float:
        start = process_time()
        reference()
        took = process_time() - start
        cls.best = min(cls.best, took)
        return took


def microseconds(step: Callable[[int], object]) -> float:
    """The CPU time of one call, over a call that does nothing. It gets the number of the call."""

    def nothing(_: int) -> None:
        return None

    def once(what: Callable[[int], object]) -> float:
        start = process_time()
        for number in range(CALLS):
            what(number)
        return process_time() - start

    ratios = [(once(step) - once(nothing)) / Ruler.lay() for _ in range(ROUNDS)]
    return median(ratios) * Ruler.best / CALLS * 1e6


def steps(slot: Slot) -> dict[str, Callable[[int], object]]:
    numbers, stages, own = slot.numbers, slot.stages, slot.own
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/shop/list?page=1", "CONTENT_LENGTH": ""}

    def take_up(number: int) -> None:
        numbers[SINCE] = time.monotonic_ns()
        numbers[DURATION] = 0
        numbers[NUMBER] = number
        stages[own] = READING

    def show(_: int) -> None:
        slot.show_request("GET", environ.get("REQUEST_URI") or "", environ.get("REMOTE_USER"))
        length = environ.get("CONTENT_LENGTH")
        numbers[LENGTH] = int(length) if length else 0
        stages[own] = RUNNING

    def count(number: int) -> None:
        stages[own] = ENDING
        numbers[SERVED] = number
        numbers[DURATION] = time.monotonic_ns() - 5
        stages[own] = IDLE

    return {"take up": take_up, "show the request": show, "count": count}


class _Mailbox:
    """What a Desk needs of one, and the only thing here that is not the worker's own."""

    def __init__(self, access_log: int | None) -> None:
        self.access_log = access_log

    def error(self, text: str) -> None:
        raise RuntimeError(text)


def desk(slot: Slot, descriptor: int, access_log: int | None, access_format: str) -> Callable[[bytes], None]:
    """Answers one request as a worker does, from its bytes to the write; the answer goes to /dev/null."""
    connection = Connection(1, 5.0, 60.0, 60.0)
    settings = {
        "pool": "www", "mount": "", "app": "bench:hello", "access_format": access_format, "access_suppress_path": (),
        "pm_status_path": None, "ping_path": None, "ping_response": "pong", "timed": False, "measured": False,
        "request_terminate_timeout": 0.0, "request_queue_timeout": 0.0,
    }  # fmt: skip
    made = Desk(settings, hello, slot, connection, _Mailbox(access_log), lambda: None)  # type: ignore[arg-type]
    base = base_environ(sys.stderr)

    def serve(data: bytes) -> None:
        connection.open(descriptor)
        accepted = time.monotonic_ns()
        taken = decode(data, base)
        assert taken is not None
        environ, _, request_id, body = taken
        made.answer(environ, request_id, received(environ, body), "", accepted)

    return serve


def difference(one: Callable[[bytes], None], other: Callable[[bytes], None], requests: list[list[bytes]]) -> float:
    """How much more CPU time a request takes with `other`, us. `requests` has those of the one, and of the other."""

    def spent(serve: Callable[[bytes], None], these: list[bytes]) -> float:
        start = process_time()
        for data in these:
            serve(data)
        return (process_time() - start) / len(these) / Ruler.lay()

    ratios = []
    for turn in range(ROUNDS):
        for at in range(0, len(requests[0]), SLICE):
            pairs = [(one, requests[0][at : at + SLICE]), (other, requests[1][at : at + SLICE])]
            took = [spent(*pair) for pair in (pairs if turn % 2 else reversed(pairs))]
            ratios.append((took[1] - took[0]) * (1 if turn % 2 else -1))
    return median(ratios) * Ruler.best * 1e6


@contextlib.contextmanager
def traced() -> Iterator[tuple[int, int]]:
    """A process of eight threads, as deep as an application, that writes its stacks: (pid, the pipe's other end)."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = f"""
import threading, time
from pyfpm.worker.timelimits import offer_stacks
def deeper(levels):
    return deeper(levels - 1) if levels else time.sleep(600)
for _ in range(7):
    threading.Thread(target=deeper, args=(40,), daemon=True).start()
assert offer_stacks({writer}, {signal.SIGRTMIN + 8})
print("ready", flush=True)
deeper(40)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, pass_fds=[writer])
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid, reader
    finally:
        process.kill()
        process.communicate()
        os.close(reader)
        os.close(writer)


def dump(pid: int, reader: int) -> float:
    """Seconds from the signal until the last byte of the stacks was read."""
    begun = last = time.monotonic()
    os.kill(pid, signal.SIGRTMIN + 8)
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while poll.poll(100):
        assert os.read(reader, 65536)
        last = time.monotonic()
    return last - begun


def report(name: str, cost: float, budget: float | None = None) -> bool:
    allowed = "" if budget is None else f"  (at most {budget:g})"
    print(f"{name:58} {cost:7.2f} us{allowed}", flush=True)
    return budget is None or cost <= budget


def main() -> int:
    board = Scoreboard.create("bench", 4)
    slot = Slot(board, 0)
    good = True
    costs = {name: microseconds(step) for name, step in steps(slot).items()}
    for name, cost in costs.items():
        report(f"  scoreboard: {name}", cost)
    good &= report("scoreboard, access log off", sum(costs.values()), SCOREBOARD)
    good &= report("a histogram", microseconds(lambda number: observe(slot.durations, number * 1000)), HISTOGRAM)

    plain = [traffic.fastcgi(request) for request in traffic.requests()]
    stamp = {"X-Request-Start": f"t={time.time() - 0.01:.3f}"}
    stamped = [
        traffic.fastcgi(replace(request, headers={**request.headers, **stamp})) for request in traffic.requests()
    ]
    with tempfile.TemporaryFile() as file, open(os.devnull, "wb") as nowhere:
        os.set_blocking(nowhere.fileno(), True)
        without = desk(slot, nowhere.fileno(), None, "")
        for name, access_format in FORMATS.items():
            cost = difference(without, desk(slot, nowhere.fileno(), file.fileno(), access_format), [plain, plain])
            good &= report(
                f"access log, {name}", cost, ACCESS_LOG if access_format == FORMATS["the default format"] else None
            )
            file.truncate(0)
        report("a front server's time stamp, decoded, read, counted", difference(without, without, [plain, stamped]))
        report(
            "the whole request but for its two other system calls", difference(lambda _: None, without, [plain, plain])
        )
    report("the reference at best", Ruler.best * 1e6)
    with traced() as (pid, reader):
        took = median([dump(pid, reader) for _ in range(20)])
    print(f"{'a stack dump of eight threads, 40 calls deep':58} {took * 1e3:7.2f} ms  (at most {DUMP * 1e3:g})")
    return 0 if good and took <= DUMP else 1


if __name__ == "__main__":
    sys.exit(main())
