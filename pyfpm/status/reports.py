"""What `pyfpm status` tells about a pool: one line of JSON from the master, a row of a table for people.

Runs in: master (writes), an operator's shell (reads, and believes nothing).   Pure: no system call, no clock, no log.
Fails by: MessageError for a line that is no report.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from types import NoneType

from pyfpm.errors import MessageError

LONGEST_NOTE = 2000  # characters of a trouble; the log has the rest


@dataclass(frozen=True)
class PoolReport:
    """One pool at one moment. `reload` is how the last one went, `trouble` why it cannot do what it wants to.

    `queue` is None where the system does not tell; `peak` is the most workers that were seen at work.
    """

    pool: str
    pm: str
    state: str
    generation: int
    idle: int
    busy: int
    total: int
    max: int
    requests: int
    queue: int | None = None
    peak: int = 0
    slow: int = 0
    recycled: int = 0
    crashed: int = 0
    killed: int = 0
    reload: str = ""
    trouble: str = ""

    def line(self) -> str:
        """The report as JSON on one line."""
        members = {name: _shorten(value) if isinstance(value, str) else value for name, value in asdict(self).items()}
        return json.dumps(members, separators=(",", ":"))


_KINDS = {"int": (int,), "str": (str,), "int | None": (int, NoneType)}
_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(PoolReport)}


def read_report(line: str) -> PoolReport:
    """The report that `line` is. What a newer master says beyond it is left out."""
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        raise MessageError(f"the master answered what is no JSON: {line[:80]!r}") from None
    if not isinstance(members, dict):
        raise MessageError(f"the master answered what is no report: {line[:80]!r}")
    for name, kinds in _TYPES.items():
        if type(members.get(name)) not in kinds:
            raise MessageError(f"the master answered a report without a proper '{name}': {line[:80]!r}")
    return PoolReport(**{name: members[name] for name in _TYPES if name in members})


_COLUMNS = (
    "POOL", "PM", "STATE", "GEN", "IDLE", "BUSY", "TOTAL", "MAX", "PEAK", "QUEUE",
    "REQUESTS", "SLOW", "RESTARTS", "NOTE",
)  # fmt: skip
_NUMBERS = range(3, 13)
UNKNOWN = "?"


def table(reports: list[PoolReport]) -> list[str]:
    """The lines of a table, its head first. Only the first line of a trouble is in it, made fit for a terminal."""
    rows = [_COLUMNS, *map(_row, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "  ".join(
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(report: PoolReport) -> tuple[str, ...]:
    numbers = (
        report.generation,
        report.idle,
        report.busy,
        report.total,
        report.max,
        report.peak,
        UNKNOWN if report.queue is None else report.queue,
        report.requests,
        report.slow,
        report.recycled + report.crashed + report.killed,
    )
    note = report.trouble or report.reload
    return (
        *(printable(text) for text in (report.pool, report.pm, report.state)),
        *map(str, numbers),
        printable(note.partition("\n")[0]),
    )


def printable(text: str) -> str:
    """`text` without what a terminal would obey: a trouble quotes the application."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 5] + "[...]"
