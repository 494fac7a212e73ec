"""What the master tells a command about pools, workers and their stacks: JSON, one line each.

Runs in: master (writes), an operator's shell (reads, and believes nothing).   Pure: no system call, no clock, no log.
Fails by: MessageError for a line that is no report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from math import isfinite
from types import NoneType
from typing import TYPE_CHECKING, TypeVar

from pyfpm.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_NOTE = 2000  # characters of a trouble; the log has the rest
LONGEST_LINE = 80_000  # it must fit in a message, see messages.LARGEST_TEXT
IDLE = "Idle"
# In these states a worker has nothing in hand.
_AT_REST = (IDLE, "Creating", "Free", "Unknown")
_KINDS = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "float": (float, int),
    "int | None": (int, NoneType),
    "str | None": (str, NoneType),
    "float | None": (float, int, NoneType),
}

as_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each line


@dataclass(frozen=True)
class Report:
    """What all of them have: a line there, and back."""

    pool: str

    def line(self) -> str:
        """The report as JSON on one line."""
        return as_json(self.members())

    def members(self) -> dict[str, object]:
        return {name: _shorten(value) if isinstance(value, str) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class PoolReport(Report):
    """One pool at one moment. None is what the system, or a master of another version, does not tell.

    `reload` is how the last one went, `trouble` why it cannot do what it wants to, `peak` the most workers that were
    seen at work. Durations are seconds, memory is bytes, the busy shares are of `max`.
    """

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
    uptime: float | None = None
    reload_time: int | None = None  # seconds since 1970
    queue_max: int | None = None
    queue_limit: int | None = None
    max_reached: int | None = None  # how often there were not enough workers
    timed_out: int | None = None  # requests
    shed: int | None = None
    busy_1m: float | None = None
    busy_5m: float | None = None
    busy_15m: float | None = None
    template: str | None = None
    template_pid: int | None = None
    memory_peak: int | None = None
    max_requests: int | None = None
    max_memory: int | None = None
    max_lifetime: float | None = None
    slow_after: float | None = None
    ended_after: float | None = None

    @property
    def died(self) -> int:
        """Workers that are gone for whatever reason but the pool's size."""
        return self.recycled + self.crashed + self.killed


@dataclass(frozen=True)
class WorkerReport(Report):
    """One worker at one moment; the request is the one in hand, or the last one."""

    pid: int
    state: str
    age: float
    generation: int
    requests: int
    elapsed: float  # seconds that the request takes, or took
    method: str = "-"
    uri: str = "-"
    leaving: bool = False
    cpu: float | None = None  # per cent of the last request's time; measured only where there is a status page
    pss: int | None = None
    peak: int | None = None

    @property
    def is_busy(self) -> bool:
        return self.state not in _AT_REST

    @property
    def request(self) -> str:
        """Method and URI; empty if there was none."""
        return "" if self.method == self.uri == "-" else f"{self.method} {self.uri}"


@dataclass(frozen=True)
class StackReport(WorkerReport):
    """What a worker wrote of its stacks: `text` is faulthandler's, or `note` says why there is none."""

    main_thread: int = 0
    depth: int = 0  # request_slowlog_trace_depth of its pool
    note: str = ""
    text: str = ""

    def line(self) -> str:
        """As JSON on one line, of which the end of the text is left out if that makes it too long."""
        members = self.members() | {"text": self.text}
        line = as_json(members)
        if len(line) > LONGEST_LINE:
            kept = self.text[: len(self.text) * LONGEST_LINE // len(line) // 2]
            line = as_json(members | {"text": f"{kept}\n[...]"})
        return line


AnyReport = TypeVar("AnyReport", bound=Report)


@cache
def _types(kind: type[Report]) -> dict[str, tuple[type, ...]]:
    return {field.name: _KINDS[str(field.type)] for field in fields(kind)}


def read_stack(line: str) -> StackReport:
    """The report that `line` is. What a newer master says beyond it is left out, here and below."""
    return _made(StackReport, _members(line), line)


def read_status(lines: Iterable[str]) -> tuple[list[PoolReport], list[WorkerReport]]:
    """The reports of pools and of workers among `lines`: the latter have a pid."""
    pools: list[PoolReport] = []
    workers: list[WorkerReport] = []
    for line in lines:
        members = _members(line)
        if "pid" in members:
            workers.append(_made(WorkerReport, members, line))
        else:
            pools.append(_made(PoolReport, members, line))
    return pools, workers


def _members(line: str) -> dict[str, object]:
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        raise MessageError(f"the master answered what is no JSON: {line[:80]!r}") from None
    if not isinstance(members, dict):
        raise MessageError(f"the master answered what is no report: {line[:80]!r}")
    return members


def _made(kind: type[AnyReport], members: dict[str, object], line: str) -> AnyReport:
    types: dict[str, tuple[type, ...]] = _types(kind)  # type: ignore[arg-type]  # a class is hashable
    for name, allowed in types.items():
        value = members.get(name)
        if type(value) not in allowed or (isinstance(value, float) and not isfinite(value)):
            raise MessageError(f"the master answered a report without a proper '{name}': {line[:80]!r}")
    return kind(**{name: members[name] for name in types if name in members})  # type: ignore[arg-type]


def printable(text: str) -> str:
    """`text` without what a terminal would obey: a trouble quotes the application."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else text[: LONGEST_NOTE - 5] + "[...]"
