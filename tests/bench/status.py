"""What the status page costs, and what it costs those who do not ask for it: python -m tests.bench.status

Runs in: benchmarks.   Reads the clock.
Fails by: exit 1 when a page of 1,000 workers takes longer than its budget.

The steps of a request are given beside `reference`, a loop of the same kind of work measured in the same run.
"""

from __future__ import annotations

import sys
from statistics import median
from time import process_time
from typing import TYPE_CHECKING

from pyfpm.gateway.environ import base_environ
from pyfpm.scoreboard import IDLE, LENGTH, RUNNING, Scoreboard, Slot
from pyfpm.status.formats import is_full, render
from pyfpm.status.snapshot import take
from pyfpm.worker.pages import Pages
from tests.bench.codec import reference
from tests.unit.status.boards import FACTS, NOW, WALL, seat

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 1000
BUDGET = 0.050  # seconds
ROUNDS = 15
CALLS = 20_000
QUERIES = (
    "",
    "full",
    "html",
    "xml&full",
    "json&full&history",
    "openmetrics&full",
    "openmetrics&full&compat=phpfpm",
)


def seconds(call: Callable[[], object], calls: int = 1) -> float:
    """The median of some rounds, a call."""
    took = []
    for _ in range(ROUNDS):
        start = process_time()  # neighbours do not count
        for _ in range(calls):
            call()
        took.append((process_time() - start) / calls)
    return median(took)


def pages() -> bool:
    """Print what each page takes; whether all are within the budget."""
    board = Scoreboard.create("bench", WORKERS)
    board.facts.write(FACTS, "ok")
    for own in range(WORKERS):
        seat(board, own, RUNNING if own % 3 else IDLE, f"/shop/{own}?page=<{own}>&q=caf\u00c3\u00a9" * 4, "anna")
    good = True
    for query in QUERIES:

        def page(query: str = query) -> bytes:
            return render([take(board, "www", "site.wsgi:application", WALL, NOW, is_full(query))], query)[1]

        took = seconds(page)
        good = good and took < BUDGET
        print(f"{WORKERS} workers, ?{query:32} {took * 1e3:6.1f} ms  {len(page()) >> 10:5} KiB")
    board.close()
    return good


def steps() -> None:
    """Print what is added to a request."""
    board = Scoreboard.create("bench", 4)
    slot = Slot(board, 0)
    environ = {
        **base_environ(sys.stderr),
        "SCRIPT_NAME": "",
        "PATH_INFO": "/shop/list",
        "REQUEST_URI": "/shop/list?a=1",
    }
    settings = {"pool": "www", "app": "a:b", "pm_status_path": "/status", "ping_path": "/ping", "ping_response": "pong"}
    found = Pages.of(settings, slot)
    assert found is not None
    numbers = slot.numbers

    def length() -> None:
        numbers[LENGTH] = int(environ.get("CONTENT_LENGTH") or 0)

    table: dict[str, Callable[[], object]] = {
        "an empty call": lambda: None,
        "show the request, with its user": lambda: slot.show_request(
            "GET", "/shop/list?a=1", environ.get("REMOTE_USER")
        ),
        "show the length of its body": length,
        "look for a page (if one is configured)": lambda: found.find(environ),
    }
    for name, step in table.items():
        print(f"{name:40} {seconds(step, CALLS) * 1e6:6.2f} us")
    print(f"{'reference':40} {seconds(reference) * 1e6:6.0f} us")


if __name__ == "__main__":
    within = pages()
    steps()
    sys.exit(not within)
