"""How to count: one shared memory per pool, a slot per worker, a stage per slot.

Runs in: master (reads slots, writes the facts), workers (each writes its own slot), Python 3.9 and up.
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
USER_SIZE = 32
_METHOD_AT = 96
_METHOD_SIZE = 16

# The memory begins with the alarm flag, then a byte a slot for its stage: so "how many are idle" is one look at a few
# bytes that lie side by side. The slots follow, each on cache lines of its own, and last come the facts.
_ALARM_AT = 0
_STAGES_AT = 64

# Index of each 64-bit field within a slot.
SINCE, NUMBER, SERVED, PID, GENERATION, DURATION, BORN, LENGTH, CPU, MEMORY, DEADLINE = range(11)
_NUMBERS = struct.Struct("<6Q")
_MORE_NUMBERS = struct.Struct("<4Q")
_DEADLINE = struct.Struct("<Q")
_REQUEST = struct.Struct(f"<{_METHOD_SIZE}s{URI_SIZE}s{USER_SIZE}s")
_ORIGIN_AT = _METHOD_AT + _REQUEST.size
_ORIGIN = struct.Struct("<64s48s")  # script, client: a path loses its beginning, where paths are alike

# The facts: what is known of the pool beyond this memory's slots, in the order of their places. The master writes them
# for whoever answers a status request; it never reads them again, for the pool's processes can write here too.
FACTS = (
    "start_time",  # of the pool: seconds since 1970, and nanoseconds of CLOCK_MONOTONIC
    "started",
    "generation",
    "accepted_elsewhere",  # by workers that are gone, or of another generation; the same for those below
    "idle_elsewhere",
    "active_elsewhere",
    "queue",  # connections that wait now, at most so far, and how many may
    "queue_max",
    "queue_limit",
    "max_active",
    "max_children_reached",
    "slow",
    "recycled",
    "crashed",
    "killed",
    "memory_peak",  # of workers that are gone, bytes
    "busy_1",  # share of pm.max_children at work over 1, 5 and 15 minutes, in millionths
    "busy_5",
    "busy_15",
    "manager",  # index in MANAGERS
    "max_children",
    "max_requests",
    "max_memory",  # bytes
    "max_lifetime",  # milliseconds
    "reload_time",  # when the last reload ended, seconds since 1970
)
MANAGERS = ("static", "dynamic", "ondemand")
UNKNOWN = -1
_FACTS = struct.Struct(f"<Q{len(FACTS)}q256s")  # first a count that is odd while they are being written
_FACTS_SIZE = 512
_SEQUENCE = struct.Struct("<Q")
_LARGEST = (1 << 63) - 1
_TRIES = 100  # to read facts that nobody is writing; a master that died in the middle must not hold a reader up


class Reading:
    """What a slot said at one moment. `since` and `duration` are nanoseconds, `since` of CLOCK_MONOTONIC.

    `number` counts the connections taken up, once more for each request on a kept one; `served` the requests.
    """

    __slots__ = (
        "born", "cpu", "deadline", "duration", "generation", "length", "memory", "method", "number", "pid", "served",
        "since", "stage", "uri", "user",
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
        reading = self.read_numbers(slot)
        start = self._start(slot)
        method, uri, user = _REQUEST.unpack_from(self.memory, start + _METHOD_AT)
        reading.method = method.rstrip(b"\0").decode("latin-1")
        reading.uri = uri.rstrip(b"\0").decode("latin-1")
        reading.user = user.rstrip(b"\0").decode("latin-1")
        return reading

    def read_numbers(self, slot: int) -> Reading:
        """All numbers of a slot, those included that only a status page shows."""
        reading = self.read(slot)
        start = self._start(slot)
        reading.born, reading.length, reading.cpu, reading.memory = _MORE_NUMBERS.unpack_from(
            self.memory, start + 8 * BORN
        )
        return reading

    def read_timed(self, slot: int) -> Reading:
        """The numbers of a slot, and until when its request may take."""
        reading = self.read(slot)
        (reading.deadline,) = _DEADLINE.unpack_from(self.memory, self._start(slot) + 8 * DEADLINE)
        return reading

    def read_origin(self, slot: int) -> tuple[str, str]:
        """Script and client of the request in a slot; empty where requests have no time limit."""
        script, client = _ORIGIN.unpack_from(self.memory, self._start(slot) + _ORIGIN_AT)
        return script.rstrip(b"\0").decode("latin-1"), client.rstrip(b"\0").decode("latin-1")

    def count(self) -> tuple[int, int]:
        """(idle, active): one look at the stages. Whoever is not yet born, or being born, is neither."""
        stages = self.memory[_STAGES_AT : _STAGES_AT + self.slots]
        idle = stages.count(IDLE)
        return idle, self.slots - idle - stages.count(FREE) - stages.count(CREATING)

    def write_facts(self, facts: dict[str, int], note: str) -> None:
        """Master: the facts, and how the last reload went. What a number cannot hold is cut."""
        at = self._facts_at()
        (before,) = _SEQUENCE.unpack_from(self.memory, at)
        sequence = (before | 1) & 0xFFFFFFFF
        _SEQUENCE.pack_into(self.memory, at, sequence)
        numbers = [min(max(facts.get(name, UNKNOWN), UNKNOWN), _LARGEST) for name in FACTS]
        _FACTS.pack_into(self.memory, at, sequence, *numbers, note.encode("utf-8", "replace"))
        _SEQUENCE.pack_into(self.memory, at, sequence + 1)

    def read_facts(self) -> tuple[dict[str, int], str]:
        """The facts and the note; all of them unknown until the master has written any."""
        for _ in range(_TRIES):
            sequence, *numbers, note = _FACTS.unpack_from(self.memory, self._facts_at())
            if sequence % 2 == 0 and (sequence,) == _SEQUENCE.unpack_from(self.memory, self._facts_at()):
                break
        if not sequence:
            numbers = [UNKNOWN] * len(FACTS)
        return dict(zip(FACTS, numbers)), note.rstrip(b"\0").decode("utf-8", "replace")

    def _facts_at(self) -> int:
        return _slots_at(self.slots) + self.slots * SLOT_SIZE

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
    return _slots_at(slots) + slots * SLOT_SIZE + _FACTS_SIZE


class Slot:
    """A worker's own slot. `stages[own]` and `numbers[SINCE]`, …: a store costs 0.03 µs and no call."""

    def __init__(self, scoreboard: Scoreboard, slot: int) -> None:
        start = scoreboard._start(slot)
        whole = memoryview(scoreboard.memory)
        self.own = slot
        self.scoreboard = scoreboard
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
        return f"{method.rstrip(bytes(1)).decode('latin-1')} {uri.rstrip(bytes(1)).decode('latin-1')}"
