"""A frozen copy of what a scoreboard says: a pool and its workers at one moment, made fit to be shown.

Runs in: worker asked for its status, monitor, master, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing. Slots and facts are gossip, and their texts as hostile as whoever sent the request: numbers are taken
as they are, and no character that is not printable gets through.
"""

from __future__ import annotations

from collections import namedtuple

from pyfpm.facts import MANAGERS, STEP, STEPS, TEMPLATES, Step
from pyfpm.histogram import added
from pyfpm.scoreboard import CREATING, FREE, IDLE, STAGE_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from pyfpm.scoreboard import Reading, Scoreboard

    Known = Optional[int]  # None where it is unknown, which is never shown as 0

NANOSECONDS = 10**9
MOST = (1 << 63) - 1  # a tenant's slot may say more, and one reader of all pools' JSON would refuse the whole of it
TRIES = 5  # to see a scoreboard between two deaths; where they are as frequent as that, a count may be a moment early
RELOADED, NOT_RELOADED = "ok", "none"  # how the last reload went, where nobody refused it
LATEST_TIME = 253_402_300_799  # the last second of the year 9999: no calendar goes further


# Plain named tuples: `typing` and `dataclasses` would cost the worker a megabyte.
Process = namedtuple(
    "Process",
    (
        "pid",
        "state",
        "start_time",  # seconds since 1970
        "start_since",
        "requests",
        "request_duration",  # microseconds
        "request_method",
        "request_uri",
        "content_length",
        "user",
        "script",
        "last_request_cpu",  # per cent
        "last_request_memory",  # bytes
        # Ours:
        "generation",
        "pss",  # bytes of memory, its share of what is shared included
    ),
)
Process.__doc__ = "One worker: PHP-FPM's fields in its order, then ours."

Snapshot = namedtuple(
    "Snapshot",
    (
        "pool",
        "process_manager",
        "start_time",
        "start_since",
        "accepted_conn",
        "listen_queue",
        "max_listen_queue",
        "listen_queue_len",
        "idle_processes",
        "active_processes",
        "total_processes",
        "max_active_processes",
        "max_children_reached",
        "slow_requests",
        "memory_peak",
        # Ours:
        "max_children",
        "max_requests",
        "max_memory",
        "max_lifetime",
        "generation",
        "last_reload",
        "last_reload_time",
        "recycled_processes",
        "crashed_processes",
        "killed_processes",
        "timed_out_requests",
        "shed_requests",
        "template",
        "memory",  # bytes: what its workers weigh
        "busy_share_1m",
        "busy_share_5m",
        "busy_share_15m",
        # And what is no field of a page, but lies behind some:
        "durations",  # histograms, see pyfpm/histogram.py
        "waits",
        "history",  # of the last ten minutes: a facts.Step for each step, None for those that nobody has kept
        "processes",
    ),
)
Snapshot.__doc__ = "A pool: PHP-FPM's fields in its order, then ours, and what is behind them. None is what is unknown."
FIELDS = Snapshot._fields[: Snapshot._fields.index("durations")]


def take(scoreboard: Scoreboard, pool: str, app: str, wall: float, now: int, full: bool = True) -> Snapshot:
    """What `scoreboard` says at `now` (nanoseconds, CLOCK_MONOTONIC), which is `wall` seconds since 1970.

    The processes are left out unless it is to be `full`.
    """
    clean_app = clean(app)
    known = scoreboard.facts.read()
    facts = {name: value if value >= 0 else None for name, value in known.numbers.items()}
    readings, gone, durations, waits = _read(scoreboard, full)
    idle = sum(reading.stage == IDLE for reading in readings)
    active = sum(reading.stage not in (FREE, CREATING, IDLE) for reading in readings)
    idle += facts["idle_elsewhere"] or 0
    active += facts["active_elsewhere"] or 0
    started = facts["started"]
    peak = max([reading.memory for reading in (gone, *readings)] + [facts["memory_peak"] or 0])
    lifetime = facts["max_lifetime"]
    shares = [None if share is None else share / 1e6 for share in (facts["busy_1"], facts["busy_5"], facts["busy_15"])]
    return Snapshot(
        pool=clean(pool),
        process_manager=_word(MANAGERS, facts["manager"]) or "unknown",
        start_time=_date(facts["start_time"]),
        start_since=None if started is None else max(0, now - started) // NANOSECONDS,
        accepted_conn=_sum([reading.number for reading in (gone, *readings)], facts["accepted_elsewhere"]),
        listen_queue=facts["queue"],
        max_listen_queue=facts["queue_max"],
        listen_queue_len=facts["queue_limit"],
        idle_processes=idle,
        active_processes=active,
        total_processes=idle + active,
        max_active_processes=max(active, facts["max_active"] or 0),
        max_children_reached=facts["max_children_reached"],
        slow_requests=facts["slow"],
        memory_peak=min(peak, MOST) or None,
        max_children=facts["max_children"],
        max_requests=facts["max_requests"],
        max_memory=facts["max_memory"],
        max_lifetime=None if lifetime is None else lifetime / 1000,
        generation=facts["generation"],
        last_reload=clean(known.note) if facts["reload_time"] is not None else NOT_RELOADED,
        last_reload_time=_date(facts["reload_time"]),
        recycled_processes=facts["recycled"],
        crashed_processes=facts["crashed"],
        killed_processes=facts["killed"],
        timed_out_requests=facts["timed_out"],
        shed_requests=_sum([reading.shed for reading in (gone, *readings)], facts["shed_elsewhere"]),
        template=_word(TEMPLATES, facts["template"]),
        memory=_sum([reading.weight for reading in readings]) or None,
        busy_share_1m=shares[0],
        busy_share_5m=shares[1],
        busy_share_15m=shares[2],
        durations=added(known.durations, durations),
        waits=added(known.waits, waits),
        history=_history(scoreboard, now, facts["quiet"]),
        processes=tuple([process(reading, clean_app, wall, now) for reading in readings]) if full else (),
    )


def _read(scoreboard: Scoreboard, full: bool) -> tuple[list[Reading], Reading, tuple[int, ...], tuple[int, ...]]:
    """The workers, the counts of those that are gone, and the histograms of both: a worker is among one of them."""
    read = scoreboard.read_whole if full else scoreboard.read_numbers
    for _ in range(TRIES):
        turn = scoreboard.turn
        readings = [read(slot) for slot in scoreboard.taken()]
        gone = scoreboard.read_gone()
        durations, waits = scoreboard.histograms()
        if turn == scoreboard.turn and not turn % 2:
            break
    return readings, gone, durations, waits


def _sum(counts: list[int], elsewhere: Known = None) -> int:
    return min(sum(counts) + (elsewhere or 0), MOST)


def _word(words: tuple[str, ...], index: Known) -> str | None:
    return words[index] if index is not None and index < len(words) else None


def _history(scoreboard: Scoreboard, now: int, quiet: Known) -> tuple[Step | None, ...]:
    """The last steps, the oldest first."""
    steps = scoreboard.facts.read_history()
    last = now // (STEP * NANOSECONDS)
    if quiet is not None:
        for number in range(max(quiet + 1, last - STEPS), last + 1):
            steps.setdefault(number, Step(number, 0, 0, 0))
    return tuple([steps.get(number) for number in range(last - STEPS + 1, last + 1)])


def _date(seconds: Known) -> Known:
    return None if seconds is None else min(seconds, LATEST_TIME)


def process(reading: Reading, app: str, wall: float, now: int) -> Process:
    """What a slot said, fit to be shown; `app` is taken as it is."""
    idle = reading.stage == IDLE
    duration = reading.duration if idle else max(0, now - reading.since)
    age = max(0, now - reading.born) // NANOSECONDS if reading.born else 0
    cpu = reading.cpu * 1000 / reading.duration * 100 if idle and reading.duration else 0.0
    if reading.stage == CREATING:
        duration = 0
    return Process(
        pid=min(reading.pid, MOST),
        state=STAGE_NAMES[reading.stage],
        start_time=max(0, int(wall) - age),
        start_since=age,
        requests=min(reading.number, MOST),
        request_duration=duration // 1000,
        request_method=reading.method or "-",
        request_uri=reading.uri or "-",
        content_length=min(reading.length, MOST),
        user=reading.user or "-",
        script=app if reading.number else "-",
        last_request_cpu=round(cpu, 2),
        last_request_memory=min(reading.memory, MOST) if idle else 0,
        generation=min(reading.generation, MOST),
        pss=min(reading.weight, MOST) or None,
    )


def clean(text: str) -> str:
    """`text` with \\xNN for whatever a terminal would obey, XML forbids, or a line ends with."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else f"\\x{ord(char):02x}" for char in text])
