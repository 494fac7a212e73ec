"""What is known of a pool beyond its workers' slots: numbers, a note, two histograms, and the last ten minutes.

Runs in: master, which writes it; whoever answers a status request reads it, Python 3.9 and up.
Fails by: nothing. The pool's processes can write here too, so whatever is read is gossip, and the master reads nothing.

It is the last part of a scoreboard. A count at its beginning is odd while it is being written: nobody takes a lock.
"""

from __future__ import annotations

import struct
from collections import namedtuple

from pyfpm.histogram import CELLS, EMPTY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence

NAMES = (
    "start_time",  # of the pool: seconds since 1970, and nanoseconds of CLOCK_MONOTONIC
    "started",
    "generation",
    "accepted_elsewhere",  # by workers of other generations; the same for those below
    "idle_elsewhere",
    "active_elsewhere",
    "queue",  # connections that wait now, at most so far, and how many may
    "queue_max",
    "queue_limit",
    "max_active",
    "max_children_reached",
    "slow",
    "timed_out",
    "shed_elsewhere",  # answered 503 because they had waited too long
    "recycled",
    "crashed",
    "killed",
    "memory_peak",  # of workers of generations that are gone, bytes
    "busy_1",  # share of pm.max_children at work over 1, 5 and 15 minutes, in millionths
    "busy_5",
    "busy_15",
    "manager",  # index in MANAGERS
    "template",  # index in TEMPLATES
    "max_children",
    "max_requests",
    "max_memory",  # bytes
    "max_lifetime",  # milliseconds
    "quiet",  # the step after which nothing went on, while that is so: the history is not written then
    "reload_time",  # when the last reload ended, seconds since 1970
)
MANAGERS = ("static", "dynamic", "ondemand")
TEMPLATES = ("none", "loading", "ready", "failed")
UNKNOWN = -1

STEP = 5  # seconds
STEPS = 120
# A step of the past: its number (CLOCK_MONOTONIC by STEP, so that what is missing can be told), the requests begun in
# it, connections that waited at its end, and the share of pm.max_children then at work, in millionths.
Step = namedtuple("Step", ("number", "requests", "queue", "busy"))

_NOTE_SIZE = 256
_SEQUENCE = struct.Struct("<Q")
_NUMBERS = struct.Struct(f"<{len(NAMES)}q")
_HISTOGRAM = struct.Struct(f"<{CELLS}Q")
_STEP = struct.Struct("<4q")
_NUMBERS_AT = _SEQUENCE.size
_DURATIONS_AT = _NUMBERS_AT + _NUMBERS.size
_WAITS_AT = _DURATIONS_AT + _HISTOGRAM.size
_NOTE_AT = _WAITS_AT + _HISTOGRAM.size
_HISTORY_AT = _NOTE_AT + _NOTE_SIZE
SIZE = _HISTORY_AT + STEPS * _STEP.size
_LARGEST = (1 << 63) - 1
_TRIES = 100  # to read what nobody is writing; a master that died in the middle must not hold a reader up

Known = namedtuple("Known", ("numbers", "note", "durations", "waits"))
Known.__doc__ = "`numbers` by NAMES, UNKNOWN where the master has not said; histograms of other generations."


class Facts:
    """The facts in `memory` from `start` on."""

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._start = start

    def write(
        self, numbers: Mapping[str, int], note: str, durations: Sequence[int] = EMPTY, waits: Sequence[int] = EMPTY
    ) -> None:
        """Master: all but the history. What a number cannot hold is cut."""
        memory, at = self._memory, self._start
        (before,) = _SEQUENCE.unpack_from(memory, at)
        sequence = (before | 1) & 0xFFFFFFFF
        _SEQUENCE.pack_into(memory, at, sequence)
        kept = [min(max(numbers.get(name, UNKNOWN), UNKNOWN), _LARGEST) for name in NAMES]
        _NUMBERS.pack_into(memory, at + _NUMBERS_AT, *kept)
        _HISTOGRAM.pack_into(memory, at + _DURATIONS_AT, *durations)
        _HISTOGRAM.pack_into(memory, at + _WAITS_AT, *waits)
        text = note.encode("utf-8", "replace")[:_NOTE_SIZE]
        memory[at + _NOTE_AT : at + _HISTORY_AT] = text.ljust(_NOTE_SIZE, b"\0")
        _SEQUENCE.pack_into(memory, at, sequence + 1)

    def read(self) -> Known:
        """What the master has written last; all of it unknown until it has."""
        for _ in range(_TRIES):
            whole = self._memory[self._start : self._start + _HISTORY_AT]
            (sequence,) = _SEQUENCE.unpack_from(whole)
            if sequence % 2 == 0 and (sequence,) == _SEQUENCE.unpack_from(self._memory, self._start):
                break
        numbers = _NUMBERS.unpack_from(whole, _NUMBERS_AT) if sequence else (UNKNOWN,) * len(NAMES)
        note = whole[_NOTE_AT:].rstrip(b"\0").decode("utf-8", "replace")
        durations, waits = _HISTOGRAM.unpack_from(whole, _DURATIONS_AT), _HISTOGRAM.unpack_from(whole, _WAITS_AT)
        return Known(dict(zip(NAMES, numbers)), note, durations, waits)

    def write_history(self, history: bytes) -> None:
        """Master: the steps of the past, as `History` has them."""
        at = self._start + _HISTORY_AT
        self._memory[at : at + len(history)] = history

    def read_history(self) -> dict[int, Step]:
        """The steps of the past by their numbers, in no order; a step may be torn."""
        at = self._start + _HISTORY_AT
        steps = [Step._make(one) for one in _STEP.iter_unpack(self._memory[at : at + STEPS * _STEP.size])]
        return {step.number: step for step in steps if step.number > 0}


class History:
    """The last steps of a pool, as the master keeps them: a ring in which each number has its place."""

    def __init__(self) -> None:
        self._ring = bytearray(STEPS * _STEP.size)

    def put(self, number: int, requests: int, queue: int, busy: int) -> None:
        """Add a step; -1 for what is unknown."""
        _STEP.pack_into(self._ring, number % STEPS * _STEP.size, number, min(requests, _LARGEST), queue, busy)

    def __bytes__(self) -> bytes:
        return bytes(self._ring)
