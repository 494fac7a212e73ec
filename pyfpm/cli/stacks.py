"""What `pyfpm stack` prints of a worker: who it is, what it does, and where each of its threads is.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing. The text is the worker's own, and as hostile as that may be; it is made fit for a terminal here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfpm.cli.units import show_seconds
from pyfpm.installed import OWN_FILES
from pyfpm.logs.slow_log import show_stacks
from pyfpm.status.reports import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.status.reports import StackReport

ANY_DEPTH = 10_000  # calls: more than faulthandler writes
NOTHING_OF_OTHERS = "    in pyfpm itself: no call of the application"
MOST_NAMED = 20  # idle workers, in a line


def show_all(reports: Iterable[StackReport], *, all_frames: bool = False) -> list[str]:
    """Those in a request first, the longest at the top; who is idle, and was not to be asked, in one line."""
    resting: dict[str, list[int]] = {}
    blocks = []
    for report in sorted(reports, key=lambda one: (not one.is_busy, -one.elapsed * one.is_busy, one.pid)):
        if report.note and report.note == report.state.lower():
            resting.setdefault(report.pool, []).append(report.pid)
        else:
            blocks.append(describe(report, all_frames=all_frames))
    blocks += [[printable(_idle(pool, pids))] for pool, pids in resting.items()]
    blocks = blocks or [["no worker is there"]]
    return [line for block in blocks for line in (*block, "")][:-1]


def describe(report: StackReport, *, all_frames: bool = False) -> list[str]:
    """A worker and its stacks, without the calls of pyfpm itself that are always the same, unless `all_frames`."""
    package, depth = ("", ANY_DEPTH) if all_frames else (OWN_FILES, report.depth or ANY_DEPTH)
    lines = [head_of(report)]
    if report.note:
        lines.append(f"  no stacks: {report.note}")
    is_thread = False
    for line in show_stacks(report.text.encode("utf-8", "replace"), report.main_thread, depth, package):
        if line.startswith("thread "):
            lines += [NOTHING_OF_OTHERS] * is_thread
            _, address, *name = line.split(" ", 2)
            lines.append(f"  thread {name[0][1:-1] if name else address}")
        else:
            lines.append(f"    {line.partition('] ')[2]}")
        is_thread = line.startswith("thread ")
    lines += [NOTHING_OF_OTHERS] * is_thread
    return [printable(line) for line in lines]


def head_of(report: StackReport) -> str:
    """The worker in a line."""
    doing = f"{report.state} for {show_seconds(report.elapsed)}" if report.is_busy else report.state
    request = f": {report.request}" if report.is_busy and report.request else ""
    return f"pool {report.pool}, worker {report.pid}, {doing}{request}"


def _idle(pool: str, pids: list[int]) -> str:
    more = f" and {len(pids) - MOST_NAMED} more" if len(pids) > MOST_NAMED else ""
    return f"pool {pool}, idle: {', '.join(map(str, pids[:MOST_NAMED]))}{more}"
