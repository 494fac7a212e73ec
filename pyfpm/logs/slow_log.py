"""One slow request, readable: what a worker wrote of its stacks, as an entry in PHP-FPM's form.

Runs in: master, as root; an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at. The text is the tenant's: it is bounded before it comes here, and escaped here.

    [21-Nov-2026 20:52:49]  [pool www] pid 912
    script_filename = mysite.wsgi:application
    request = "GET /report?year=2026"
    age = 5.003187
    client = 203.0.113.7
    thread 0x00007f1c3a013740 (main)
    [0x00007f1c3a013740] fetch() /srv/mysite/report.py:42

The line of a call is PHP-FPM's, so that what reads its slow log reads this; in the place of a frame's address, which
means nothing here, stands that of its thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pyfpm.logs.escapes import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_THREADS = 100  # as faulthandler
_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]{1,16})(?: \[(.{0,40})\])? \(most recent call first\):")
_CALL = re.compile(r'  File "(.*)", line (\d{1,9}|\?\?\?) in (.*)')


class SlowRequest(NamedTuple):
    """What is known of it when it was found."""

    when: str
    pool: str
    pid: int
    script: str
    request: str
    age: float
    client: str


@dataclass
class _Thread:
    """The calls of a thread, the most recent first. `number` is its identifier, as faulthandler has it."""

    number: int
    name: str
    calls: list[str]


def entry(slow: SlowRequest, stacks: Iterable[str]) -> bytes:
    """The entry for the slow log: an empty line, the head, the stacks."""
    lines = [
        "",
        f"[{slow.when}]  [pool {slow.pool}] pid {slow.pid}",
        f"script_filename = {slow.script}",
        f'request = "{slow.request}"',
        f"age = {slow.age:.6f}",
        f"client = {slow.client or '-'}",
        *stacks,
    ]
    return b"".join(escape_line(line) + b"\n" for line in lines)


def show_stacks(text: bytes, main_thread: int, depth: int, package: str) -> list[str]:
    """Lines for people from what faulthandler wrote: the main thread first, the most recent call of each first.

    The calls of pyfpm itself (`package` is its folder) below the application are left out; they are always the same.
    """
    threads = _parse(text.decode("utf-8", "replace"), package)
    threads.sort(key=lambda thread: thread.number != main_thread)
    lines = []
    for thread in threads:
        name = "main" if thread.number == main_thread else thread.name
        address = f"0x{thread.number:016x}"
        lines.append(f"thread {address}" + (f" ({name})" if name else ""))
        lines += [f"[{address}] {call}" for call in thread.calls[:depth]]
        if len(thread.calls) > depth:
            lines.append(f"[{address}] ... {len(thread.calls) - depth} more")
    return lines


def _parse(text: str, package: str) -> list[_Thread]:
    threads: list[_Thread] = []
    own: list[str] = []  # calls of pyfpm, shown if there is one of somebody else below them
    for line in text.split("\n"):
        if found := _THREAD.fullmatch(line):
            if len(threads) == MOST_THREADS:
                break
            threads.append(_Thread(int(found[1], 16), found[2] or "", []))
            own = []
        elif threads and (found := _CALL.fullmatch(line)):
            shown = f"{found[3]}() {found[1]}:{found[2]}"
            if package and found[1].startswith(package):
                own.append(shown)
            else:
                threads[-1].calls += [*own, shown]
                own = []
        elif threads and line.strip():
            threads[-1].calls.append(line.strip())
    return threads


def shorten(text: str, most: int = 200) -> str:
    """For a line that has more to say behind it."""
    return text if len(text) <= most else text[: most - 3] + "..."
