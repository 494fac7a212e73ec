"""The register of a pool's processes: pid, slot, generation, since when.

Runs in: master.   Pure: no system call, no clock, no log. It holds sockets and descriptors and touches none.
Fails by: KeyError for a slot twice taken, which would be our own bug.
"""

from __future__ import annotations

import abc
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyfpm.messages import Speaker

if TYPE_CHECKING:
    import socket

    from pyfpm.master.outputs import Output
    from pyfpm.master.reason import Reason


@dataclass(eq=False)
class Process(abc.ABC):
    """What the master holds of any process below it. Times are monotonic seconds."""

    channel: socket.socket
    since: float  # its start; from when it is ready, since then
    pid: int = 0  # 0 for a worker that is ordered and not yet born
    pidfd: int = -1
    pipes: tuple[int, ...] = ()  # of its stdout and stderr, until they are listened to
    outputs: list[Output] = field(default_factory=list)
    channel_ended: bool = False
    speaker: Speaker = Speaker.FAILED  # what it may say; each kind of process begins with its own
    ready: bool = False
    reason: Reason | None = None  # what it said of its own failure, or what it is killed for

    @abc.abstractmethod
    def label(self) -> str:
        """Its name in the log, behind that of the pool."""


@dataclass(eq=False)
class Template(Process):
    """The process that forks a pool's workers. `finished_since`: it has done its part, its end is no failure."""

    finished_since: float | None = None
    speaker: Speaker = Speaker.NEW_TEMPLATE

    def label(self) -> str:
        return f"template {self.pid}"


@dataclass(eq=False)
class Child(Process):
    """A worker as the master sees it, from the order to fork it until its burial."""

    slot: int = 0
    outlived: bool = False  # it has reached a limit and is let go when there is room, or a replacement
    leaving_since: float | None = None  # when it was asked to leave
    pressed: signal.Signals | None = None  # what it was last sent to make it leave
    access_log: int = 0  # which opening of the access log it writes to
    trace: int = -1  # the pipe of its stacks
    timed_out: bool = False  # it is killed because a request took too long, and did not end when told
    main_thread: int = 0  # as its stacks name it; 0: it must not be asked for them
    weighed: int = -1  # how many requests it had begun when its memory was weighed
    is_news: bool = False  # its birth is worth a line: it is none of the first
    speaker: Speaker = Speaker.ORDERED_WORKER

    def label(self) -> str:
        return f"child {self.pid}"


class Children:
    """The workers of one pool by slot."""

    def __init__(self, slots: int) -> None:
        self._by_slot: dict[int, Child] = {}
        self._slots = slots

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_slot.values()))

    def __len__(self) -> int:
        return len(self._by_slot)

    def free_slot(self) -> int | None:
        return next((slot for slot in range(self._slots) if slot not in self._by_slot), None)

    def add(self, child: Child) -> None:
        if child.slot in self._by_slot:
            raise KeyError(f"slot {child.slot} is taken: {self._by_slot}")
        self._by_slot[child.slot] = child

    def remove(self, child: Child) -> None:
        del self._by_slot[child.slot]

    def in_slot(self, slot: int) -> Child | None:
        return self._by_slot.get(slot)

    def with_pid(self, pid: int) -> Child | None:
        return next((child for child in self._by_slot.values() if child.pid == pid), None)

    def unready(self) -> list[Child]:
        return [child for child in self._by_slot.values() if not child.ready]

    def has_ready(self) -> bool:
        return any(child.ready for child in self._by_slot.values())
