"""How to count: one shared memory per generation, a slot per worker, a stage per slot.

Runs in: master (reads slots, writes weights and facts), workers (each writes its own slot), Python 3.9 and up.
Fails by: OSError when the memory cannot be made or mapped. A slot's content never fails a reader: it is gossip.

Nobody takes a lock. A slot is written by its worker alone; a reader may see a torn slot and must not mind. The memory
is a sealed memfd: a tenant cannot shrink it under the master's feet (that would be SIGBUS for root).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from os import close

from pyfpm.facts import SIZE as FACTS_SIZE
from pyfpm.facts import Facts
from pyfpm.histogram import CELLS, added

# Stages, in the order of a request's life. Plain integers: a worker stores one in a few nanoseconds.
FREE, CREATING, IDLE, READING, RUNNING, ENDING, FINISHING = range(7)
STAGE_NAMES = ("Free", "Creating", "Idle", "Reading headers", "Running", "Ending", "Finishing")

_AT_REST = bytes((FREE, CREATING, IDLE))
IN_REQUEST = (RUNNING, ENDING, FINISHING)  # somebody would miss the worker

SLOT_SIZE = 1344
URI_SIZE = 768
USER_SIZE = 32
_METHOD_AT = 96
_METHOD_SIZE = 16

# The memory begins with the alarm flag and the mark, then a byte a slot for its stage: so "how many are idle" is one
# look at a few bytes that lie side by side. The slots follow, each on cache lines of its own, then what the master
# writes: one slot more, in which the counts of workers that are gone are added up, a weight for each, and the facts.
_ALARM_AT = 0
_MARK_AT = 8
_STAGES_AT = 64

# Index of each 64-bit field within a slot.
SINCE, NUMBER, SERVED, PID, GENERATION, DURATION, BORN, LENGTH, CPU, MEMORY, DEADLINE, SHED = range(12)
RAISED = (1 << 64) - 1  # in place of a deadline: the exception has been raised, whoever waits for that can see it here
_NUMBERS = struct.Struct("<6Q")
_MORE_NUMBERS = struct.Struct("<4Q")
_ONE_NUMBER = struct.Struct("<Q")
_REQUEST = struct.Struct(f"<{_METHOD_SIZE}s{URI_SIZE}s{USER_SIZE}s")
_NUMBERS_AND_REQUEST = struct.Struct(f"<12Q{_REQUEST.format.lstrip('<')}")  # they lie side by side
_ORIGIN_AT = _METHOD_AT + _REQUEST.size
_HISTOGRAM = struct.Struct(f"<{CELLS}Q")
_ORIGIN = struct.Struct("<64s48s")  # script, client: a path loses its beginning, where paths are alike

_DURATIONS_AT = _ORIGIN_AT + _ORIGIN.size
_WAITS_AT = _DURATIONS_AT + 8 * CELLS
_LARGEST = (1 << 62) - 1  # of what is gossip: twice that still fits any field


def legible(text: bytes) -> str:
    """What a client has sent, for people: in UTF-8, with \\xNN for what is not, and for what a terminal would obey."""
    shown = text.rstrip(b"\0").decode("utf-8", "backslashreplace")
    if shown.isprintable():
        return shown
    return "".join([char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown])


class Reading:
    """What a slot said at one moment. `since` and `duration` are nanoseconds, `since` of CLOCK_MONOTONIC.

    `number` counts the connections taken up, once more for each request on a kept one; `served` the requests.
    """

    __slots__ = (
        "born", "cpu", "deadline", "duration", "generation", "length", "memory", "method", "number", "pid", "served",
        "shed", "since", "stage", "uri", "user", "weight",
    )  # fmt: skip

    def __init__(
        self, stage: int, since: int, number: int, served: int, pid: int, generation: int, duration: int
    ) -> None:
        self.stage = stage if stage <= FINISHING else RUNNING  # whoever writes nonsense counts as busy
        self.since = since
        self.number = number
        self.served = served
        self.pid = pid
        self.generation = generation
        self.duration = duration
        self.method = ""
        self.uri = ""
        self.user = ""
        self.born = 0  # nanoseconds, CLOCK_MONOTONIC
        self.length = 0  # of the request's body
        self.cpu = 0  # microseconds that the last request took; it and `memory` only where there is a status page
        self.memory = 0  # bytes, the worker's peak
        self.deadline = 0  # nanoseconds, CLOCK_MONOTONIC; only where requests have a time limit
        self.shed = 0  # requests that were refused because they had waited too long
        self.weight = 0  # bytes: its share of memory (PSS), as weighed by the master; 0 while it was not


class Scoreboard:
    """The memory of one generation of a pool, as the master sees it and as a template hands it on."""

    def __init__(self, descriptor: int, slots: int, access: int = mmap.PROT_READ | mmap.PROT_WRITE) -> None:
        self.descriptor = descriptor
        self.slots = slots
        self.memory = mmap.mmap(descriptor, _size(slots), mmap.MAP_SHARED, access)
        self._slots_at = _slots_at(slots)
        self._weights_at = _weights_at(slots)
        self.facts = Facts(self.memory, _facts_at(slots))

    @classmethod
    def create(cls, name: str, slots: int) -> Scoreboard:
        """A new scoreboard with all slots free; its descriptor can be sent to a template."""
        descriptor = os.memfd_create(f"pyfpm-{name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with contextlib.ExitStack() as undo:
            undo.callback(close, descriptor)
            os.fchmod(descriptor, 0o600)  # who gets it to read must not open it again to write
            os.ftruncate(descriptor, _size(slots))
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            made = cls(descriptor, slots)
            undo.pop_all()
        return made

    def stage(self, slot: int) -> int:
        """The stage of a slot alone."""
        stage = self.memory[_STAGES_AT + slot]
        return stage if stage <= FINISHING else RUNNING

    def has(self, stage: int) -> bool:
        """Whether any slot is at `stage`: one look, however many slots."""
        return self.memory.find(bytes((stage,)), _STAGES_AT, _STAGES_AT + self.slots) >= 0

    def read(self, slot: int) -> Reading:
        """The numbers of a slot, without its texts: this is what the master looks at every second."""
        return Reading(self.stage(slot), *_NUMBERS.unpack_from(self.memory, self._start(slot)))

    def read_whole(self, slot: int) -> Reading:
        """A slot with method and URI; the texts are as hostile as whoever sent them."""
        *numbers, method, uri, user = _NUMBERS_AND_REQUEST.unpack_from(self.memory, self._start(slot))
        reading = Reading(self.stage(slot), *numbers[: DURATION + 1])
        reading.born, reading.length, reading.cpu, reading.memory, _, reading.shed = numbers[BORN:]
        (reading.weight,) = _ONE_NUMBER.unpack_from(self.memory, self._weight_at(slot))
        reading.method, reading.uri, reading.user = legible(method), legible(uri), legible(user)
        return reading

    def read_numbers(self, slot: int) -> Reading:
        """All numbers of a slot, those included that only a status page shows."""
        reading = self.read(slot)
        memory, start = self.memory, self._start(slot)
        reading.born, reading.length, reading.cpu, reading.memory = _MORE_NUMBERS.unpack_from(memory, start + 8 * BORN)
        (reading.shed,) = _ONE_NUMBER.unpack_from(memory, start + 8 * SHED)
        (reading.weight,) = _ONE_NUMBER.unpack_from(memory, self._weight_at(slot))
        return reading

    def read_histograms(self, slot: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How long the requests of a slot's worker took, and how long they had waited before."""
        start = self._start(slot)
        durations = _HISTOGRAM.unpack_from(self.memory, start + _DURATIONS_AT)
        return durations, _HISTOGRAM.unpack_from(self.memory, start + _WAITS_AT)

    def read_timed(self, slot: int) -> Reading:
        """The numbers of a slot, and until when its request may take."""
        reading = self.read(slot)
        (reading.deadline,) = _ONE_NUMBER.unpack_from(self.memory, self._start(slot) + 8 * DEADLINE)
        return reading

    def read_origin(self, slot: int) -> tuple[str, str]:
        """Script and client of the request in a slot; empty where requests have no time limit."""
        script, client = _ORIGIN.unpack_from(self.memory, self._start(slot) + _ORIGIN_AT)
        return legible(script), legible(client)

    def read_gone(self) -> Reading:
        """The counts of workers that are gone, and the most memory that any of them had."""
        start = self._start(self.slots)
        reading = Reading(FREE, *_NUMBERS.unpack_from(self.memory, start))
        (reading.memory,) = _ONE_NUMBER.unpack_from(self.memory, start + 8 * MEMORY)
        (reading.shed,) = _ONE_NUMBER.unpack_from(self.memory, start + 8 * SHED)
        return reading

    @property
    def turn(self) -> int:
        """Odd while the counts of a worker move to those that are gone; whoever adds them up sees the same before and
        after, and even, or looks again."""
        return self._field(self.slots, SINCE)

    def histograms(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`read_histograms` of all workers together, those that are gone included."""
        durations, waits = zip(*map(self.read_histograms, [self.slots, *self.taken()]))
        return added(*durations), added(*waits)

    def count(self) -> tuple[int, int]:
        """(idle, active): one look at the stages. Whoever is not yet born, or being born, is neither."""
        stages = self.memory[_STAGES_AT : _STAGES_AT + self.slots]
        idle = stages.count(IDLE)
        return idle, self.slots - idle - stages.count(FREE) - stages.count(CREATING)

    def is_at_work(self) -> bool:
        """Whether any worker is neither idle nor being born: `count` without counting."""
        return bool(self.memory[_STAGES_AT : _STAGES_AT + self.slots].translate(None, _AT_REST))

    def weigh(self, slot: int, weight: int) -> None:
        """Master: note how much memory the worker of a slot has, in bytes."""
        _ONE_NUMBER.pack_into(self.memory, self._weight_at(slot), weight)

    def set_mark(self, mark: int) -> None:
        """Master: connections up to the `mark`-th have waited too long (see Slot.is_behind); 0 for none."""
        _ONE_NUMBER.pack_into(self.memory, _MARK_AT, min(mark, _LARGEST))

    def total(self, field: int) -> int:
        """A field's sum over the workers that have, or had, slots here. It never falls."""
        return min(sum([self._field(slot, field) for slot in (self.slots, *self.taken())]), _LARGEST)

    def begun(self) -> int:
        """How many connections have been taken up."""
        return self.total(NUMBER)

    def taken(self) -> list[int]:
        """The slots that have a worker."""
        stages = self.memory[_STAGES_AT : _STAGES_AT + self.slots]
        return [slot for slot, stage in enumerate(stages) if stage != FREE]

    def clear(self, slot: int) -> None:
        """Make a slot free again, after its worker has gone; what it has counted is kept."""
        start = self._start(slot)
        turn = self.turn & _LARGEST | 1
        self._set_field(self.slots, SINCE, turn)
        # Before the slot is free: whoever counts now may count too much, which is_behind does not mind, and never less.
        self._keep_counts(slot)
        self.memory[_STAGES_AT + slot] = FREE
        self.memory[start : start + SLOT_SIZE] = bytes(SLOT_SIZE)
        self.weigh(slot, 0)
        self._set_field(self.slots, SINCE, turn + 1)

    def _keep_counts(self, slot: int) -> None:
        gone = self.slots
        for field in (NUMBER, SERVED, SHED):
            self._set_field(gone, field, min(self._field(gone, field) + self._field(slot, field), _LARGEST))
        self._set_field(gone, MEMORY, max(self._field(gone, MEMORY), self._field(slot, MEMORY)))
        rows = zip((_DURATIONS_AT, _WAITS_AT), self.read_histograms(gone), self.read_histograms(slot))
        for at, before, more in rows:
            _HISTOGRAM.pack_into(self.memory, self._start(gone) + at, *added(before, more))

    def show(self, slot: int, stage: int) -> None:
        """Master: set the stage of a slot that has no worker of ours to do it."""
        self.memory[_STAGES_AT + slot] = stage

    def set_alarm(self) -> None:
        """Master: the next worker that finds too few idle ones is to ring."""
        self.memory[_ALARM_AT] = 1

    def close(self) -> None:
        self.memory.close()
        close(self.descriptor)

    def begun_in(self, slot: int) -> int:
        """How many connections the worker of a slot has taken up: its number, alone."""
        return self._field(slot, NUMBER)

    def _field(self, slot: int, field: int) -> int:
        return int(_ONE_NUMBER.unpack_from(self.memory, self._start(slot) + 8 * field)[0])

    def _set_field(self, slot: int, field: int, value: int) -> None:
        _ONE_NUMBER.pack_into(self.memory, self._start(slot) + 8 * field, value)

    def _start(self, slot: int) -> int:
        return self._slots_at + slot * SLOT_SIZE

    def _weight_at(self, slot: int) -> int:
        return self._weights_at + slot * _ONE_NUMBER.size


def _slots_at(slots: int) -> int:
    return _STAGES_AT + (slots + 63) // 64 * 64


def _weights_at(slots: int) -> int:
    return _slots_at(slots) + (slots + 1) * SLOT_SIZE


def _facts_at(slots: int) -> int:
    return _weights_at(slots) + slots * _ONE_NUMBER.size


def _size(slots: int) -> int:
    return _facts_at(slots) + FACTS_SIZE


class Slot:
    """A worker's own slot. `stages[own]` and `numbers[SINCE]`, …: a store costs 0.03 µs and no call."""

    def __init__(self, scoreboard: Scoreboard, slot: int) -> None:
        start = scoreboard._start(slot)
        whole = memoryview(scoreboard.memory)
        self.own = slot
        self.scoreboard = scoreboard
        self.numbers = whole[start : start + _METHOD_AT].cast("Q")
        self.stages = whole[_STAGES_AT : _STAGES_AT + scoreboard.slots]
        self.durations = whole[start + _DURATIONS_AT : start + _WAITS_AT].cast("Q")  # histograms of its requests
        self.waits = whole[start + _WAITS_AT : start + _WAITS_AT + 8 * CELLS].cast("Q")
        self._mark = whole[_MARK_AT : _MARK_AT + 8].cast("Q")
        self._texts = whole[start + _METHOD_AT : start + SLOT_SIZE]
        self._memory = scoreboard.memory
        self._stages_end = _STAGES_AT + scoreboard.slots

    def should_ring(self, alarm_below: int) -> bool:
        """Whether the master wants to know that fewer workers than `alarm_below` are idle; asked for once only.

        Two workers may both find the flag set, and both ring: that is harmless.
        """
        memory = self._memory
        if memory[_ALARM_AT] and memory[_STAGES_AT : self._stages_end].count(IDLE) < alarm_below:
            memory[_ALARM_AT] = 0
            return True
        return False

    def is_behind(self) -> bool:
        """Whether the connection just taken up has waited too long: it is one of those that the master has marked.

        Connections are taken up in the order of their coming, so the count of all taken up is this one's place. Another
        worker may have taken up an earlier one and not have counted it yet; it shows as idle for so long.
        """
        mark: int = self._mark[0]
        if not mark:
            return False
        idle = self._memory[_STAGES_AT : self._stages_end].count(IDLE)  # first: none of them can then be missed
        return idle + self.scoreboard.begun() <= mark and mark == self._mark[0]

    def show_request(self, method: str, uri: str, user: str | None) -> None:
        """Show which request is in hand; texts are cut, and latin-1 as everything in a WSGI environ."""
        _REQUEST.pack_into(
            self._texts,
            0,
            method.encode("latin-1", "replace"),
            uri.encode("latin-1", "replace"),
            user.encode("latin-1", "replace") if user else b"",
        )

    def show_origin(self, script: str, client: str) -> None:
        """Show where the request in hand goes and where it comes from, for the slow log."""
        _ORIGIN.pack_into(
            self._texts, _REQUEST.size, script.encode("latin-1", "replace")[-64:], client.encode("latin-1", "replace")
        )

    def request_line(self) -> str:
        method, uri, _ = _REQUEST.unpack_from(self._texts, 0)
        return f"{legible(method)} {legible(uri)}"
