"""How to count: one shared memory per pool, a slot per worker, a stage per slot.

Runs in: master (reads), workers (each writes its own slot), Python 3.9 and up.
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

# Stages, in the order of a request's life. Plain integers: a worker stores one in a few nanoseconds.
FREE, CREATING, IDLE, READING, RUNNING, ENDING, FINISHING = range(7)
STAGE_NAMES = ("Free", "Creating", "Idle", "Reading headers", "Running", "Ending", "Finishing")

IN_REQUEST = (RUNNING, ENDING, FINISHING)  # somebody would miss the worker

SLOT_SIZE = 1024
URI_SIZE = 768
_METHOD_AT = 96
_METHOD_SIZE = 16
_URI_AT = _METHOD_AT + _METHOD_SIZE

# The memory begins with the alarm flag, then a byte a slot for its stage: so "how many are idle" is one look at a few
# bytes that lie side by side. The slots follow, each on cache lines of its own.
_ALARM_AT = 0
_STAGES_AT = 64

# Index of each 64-bit field within a slot.
SINCE, NUMBER, SERVED, PID, GENERATION, DURATION = range(6)
_NUMBERS = struct.Struct("<6Q")
_REQUEST = struct.Struct(f"<{_METHOD_SIZE}s{URI_SIZE}s")


class Reading:
    """What a slot said at one moment. `since` and `duration` are nanoseconds, `since` of CLOCK_MONOTONIC.

    `number` counts the connections taken up, once more for each request on a kept one; `served` the requests.
    """

    __slots__ = ("duration", "generation", "method", "number", "pid", "served", "since", "stage", "uri")

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


class Scoreboard:
    """The memory of one generation of a pool, as the master sees it and as a template hands it on."""

    def __init__(self, descriptor: int, slots: int) -> None:
        self.descriptor = descriptor
        self.slots = slots
        self.memory = mmap.mmap(descriptor, _size(slots), mmap.MAP_SHARED)

    @classmethod
    def create(cls, name: str, slots: int) -> Scoreboard:
        """A new scoreboard with all slots free; its descriptor can be sent to a template."""
        descriptor = os.memfd_create(f"pyfpm-{name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
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
        reading = self.read(slot)
        method, uri = _REQUEST.unpack_from(self.memory, self._start(slot) + _METHOD_AT)
        reading.method = method.rstrip(b"\0").decode("latin-1")
        reading.uri = uri.rstrip(b"\0").decode("latin-1")
        return reading

    def clear(self, slot: int) -> None:
        """Make a slot free again, after its worker has gone."""
        start = self._start(slot)
        self.memory[_STAGES_AT + slot] = FREE
        self.memory[start : start + SLOT_SIZE] = bytes(SLOT_SIZE)

    def show(self, slot: int, stage: int) -> None:
        """Master: set the stage of a slot that has no worker of ours to do it."""
        self.memory[_STAGES_AT + slot] = stage

    def set_alarm(self) -> None:
        """Master: the next worker that finds too few idle ones is to ring."""
        self.memory[_ALARM_AT] = 1

    def close(self) -> None:
        self.memory.close()
        os.close(self.descriptor)

    def _start(self, slot: int) -> int:
        return _slots_at(self.slots) + slot * SLOT_SIZE


def _slots_at(slots: int) -> int:
    return _STAGES_AT + (slots + 63) // 64 * 64


def _size(slots: int) -> int:
    return _slots_at(slots) + slots * SLOT_SIZE


class Slot:
    """A worker's own slot. `stages[own]` and `numbers[SINCE]`, …: a store costs 0.03 µs and no call."""

    def __init__(self, scoreboard: Scoreboard, slot: int) -> None:
        start = scoreboard._start(slot)
        whole = memoryview(scoreboard.memory)
        self.own = slot
        self.numbers = whole[start : start + _METHOD_AT].cast("Q")
        self.stages = whole[_STAGES_AT : _STAGES_AT + scoreboard.slots]
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

    def show_request(self, method: str, uri: str) -> None:
        """Show which request is in hand; both are cut, and latin-1 as everything in a WSGI environ."""
        _REQUEST.pack_into(self._texts, 0, method.encode("latin-1", "replace"), uri.encode("latin-1", "replace"))

    def request_line(self) -> str:
        method, uri = _REQUEST.unpack_from(self._texts, 0)
        return f"{method.rstrip(bytes(1)).decode('latin-1')} {uri.rstrip(bytes(1)).decode('latin-1')}"
