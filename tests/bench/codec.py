"""What codec and gateway cost, step by step: python -m tests.bench.codec

Runs in: benchmarks.   Reads the clock.
Fails by: nothing; it prints a table.

A machine's speed may double and halve from second to second, so no step has a time of its own: each slice is divided by
a reference loop that runs right before and after it, and given in microseconds of a machine on which that loop takes
what it took at best. Requests repeat ("fixed") or are 2,048 different ones ("varied"): the same bytes for ever flatter
any cache.
"""

from __future__ import annotations

import io
import sys
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pyfpm.gateway.body import received
from pyfpm.gateway.environ import base_environ, complete
from pyfpm.gateway.response import Response
from pyfpm.protocols import fastcgi
from tests.bench import traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 12
SLICE = 128  # requests; about as long as the reference, or the two would not meet the same machine

BASE = base_environ(io.StringIO())
TYPE = ("Content-Type", "text/html; charset=utf-8")
TWO_HEADERS = [TYPE, ("Content-Length", "12")]
EIGHT_HEADERS = [*TWO_HEADERS, *((f"X-Header-{number}", f"value {number}") for number in range(6))]


def hello(environ: dict[str, Any], start: Any) -> list[bytes]:
    del environ
    start("200 OK", [TYPE])
    return [b"Hello world\n"]


def streamed(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    del environ
    start("200 OK", TWO_HEADERS)
    yield b"Hello world\n"


def steps() -> dict[str, Callable[[bytes], object]]:
    head, _ = fastcgi.head("200 OK", TWO_HEADERS)
    response = Response(lambda data: None, fastcgi.head, fastcgi.whole, fastcgi.stdout, fastcgi.end)  # noqa: ARG005

    def decoder(data: bytes) -> object:
        return fastcgi.Decoder(BASE).feed(data)

    def in_pieces(data: bytes) -> object:
        decoder = fastcgi.Decoder(BASE)
        return [decoder.feed(data[at : at + 200]) for at in range(0, len(data), 200)]

    def request(application: Callable[..., Any]) -> Callable[[bytes], object]:
        def serve(data: bytes) -> None:
            taken = fastcgi.decode(data, BASE)
            assert taken is not None
            environ, _, request_id, body = taken
            response.begin(request_id, environ["REQUEST_METHOD"] == "HEAD")
            complete(environ, "", received(environ, body))
            response.run(application, environ)

        return serve

    return {
        "decode": lambda data: fastcgi.decode(data, BASE),
        "Decoder, one piece": decoder,
        "Decoder, pieces of 200 bytes": in_pieces,
        "head, 2 headers": lambda data: fastcgi.head("200 OK", TWO_HEADERS),  # noqa: ARG005
        "head, 8 headers": lambda data: fastcgi.head("200 OK", EIGHT_HEADERS),  # noqa: ARG005
        "whole": lambda data: fastcgi.whole(1, head, b"Hello world\n"),  # noqa: ARG005
        "accept to write, list of one": request(hello),
        "accept to write, generator": request(streamed),
    }


def completing() -> tuple[Callable[[dict[str, Any]], object], list[dict[str, Any]]]:
    """`complete` changes its environ, so it needs a new one each time; the copy is in the figure."""
    taken = fastcgi.decode(next(traffic.fastcgi(request) for request in traffic.requests()), BASE)
    assert taken is not None
    return (lambda environ: complete(environ.copy(), "", None)), [taken[0]] * traffic.COUNT


def reference() -> float:
    """A loop of the kind of work that the codec does."""
    text = "REQUEST_METHOD GET " * 40
    start = perf_counter()
    for _ in range(200):
        found = {}
        for at in range(0, 700, 19):
            found[text[at : at + 14]] = text[at + 15 : at + 18]
    return perf_counter() - start


def slice_of(step: Callable[[Any], object], given: list[Any]) -> float:
    """Seconds a call."""
    start = perf_counter()
    for data in given:
        step(data)
    return (perf_counter() - start) / len(given)


def measure(step: Callable[[Any], object], given: list[Any]) -> tuple[list[float], list[float]]:
    """(slices in units of the reference, the references)."""
    ratios, references = [], []
    before = reference()
    for at in list(range(0, len(given), SLICE)) * ROUNDS:
        took = slice_of(step, given[at : at + SLICE])
        after = reference()
        ratios.append(took / (before + after) * 2)
        references.append(after)
        before = after
    return ratios, references


def main() -> None:
    rows: list[tuple[str, str, list[float]]] = []
    best = 1.0
    different = [traffic.fastcgi(request) for request in traffic.requests()]
    loads = {"fixed": different[:1] * len(different), "varied": different}
    tasks: list[tuple[str, str, Callable[[Any], object], list[Any]]] = [
        (name, load, step, given) for name, step in steps().items() for load, given in loads.items()
    ]
    tasks.append(("complete, and a copy", "fixed", *completing()))
    for name, load, step, given in tasks:
        ratios, references = measure(step, given)
        best = min(best, *references)
        rows.append((name, load, ratios))
    print(f"CPython {sys.version.split()[0]}; {len(loads['varied'][0])} bytes a request; us: median (quartiles)")
    for name, load, ratios in rows:
        low, _, high = (value * best * 1e6 for value in quantiles(ratios, n=4))
        print(f"{name:30} {load:7} {median(ratios) * best * 1e6:6.2f} ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
