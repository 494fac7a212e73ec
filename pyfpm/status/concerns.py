"""What an operator should know first: a pool's state in a word, and what is wrong with it, the worst first.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing. Counts that only grow (crashes, slow requests) are no concern: they may be of last month.
"""

from __future__ import annotations

from collections import namedtuple

from pyfpm.scoreboard import CREATING, FREE, IDLE, STAGE_NAMES
from pyfpm.status import amounts
from pyfpm.status.snapshot import NOT_RELOADED, RELOADED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfpm.status.snapshot import Process, Snapshot

BAD, ODD = "bad", "odd"  # requests are not answered, or soon will not be; worth a look
LONG = 30.0  # seconds: most front servers give up after 60
NEARLY = 0.8  # of the listen queue's limit, or of the last minute
SETTLED = (RELOADED, NOT_RELOADED, "")  # what a last reload says that nobody refused

_WITHOUT_REQUEST = (STAGE_NAMES[FREE], STAGE_NAMES[CREATING], STAGE_NAMES[IDLE])

Concern = namedtuple("Concern", ("weight", "figure", "words"))
Concern.__doc__ = "`figure` names what on the page shows it, where one does; `words` are a sentence or two."


def concerns_of(pool: Snapshot) -> list[Concern]:
    """What is wrong, the worst first."""
    found = [*_of_service(pool), *_of_queue(pool), *_of_requests(pool), *_of_reload(pool)]
    return sorted(found, key=lambda concern: concern.weight != BAD)


def worst(concerns: list[Concern]) -> str:
    """The weight of the worst; "good" where there are none."""
    return min([concern.weight for concern in concerns], key=lambda weight: weight != BAD, default="good")


def state_of(pool: Snapshot) -> str:
    """The pool in a word or two."""
    if not pool.total_processes:
        if pool.template == "failed":
            return "failing"
        return "asleep" if _may_sleep(pool) else "starting"
    if _is_saturated(pool):
        return "all workers busy"
    return "serving"


def moment_of(pool: Snapshot) -> int | None:
    """When it was looked at, in seconds since 1970."""
    known = pool.start_time is not None and pool.start_since is not None
    return pool.start_time + pool.start_since if known else None


def since_reload(pool: Snapshot) -> int | None:
    """How many seconds ago the last reload ended."""
    now = moment_of(pool)
    return None if now is None or pool.last_reload_time is None else max(0, now - pool.last_reload_time)


def is_busy(process: Process) -> bool:
    """Whether it has a request, or is about to read one."""
    return process.state not in _WITHOUT_REQUEST


def is_long(process: Process) -> bool:
    """Whether it has been in a request for too long."""
    return is_busy(process) and bool(process.request_duration >= LONG * 1e6)


def _may_sleep(pool: Snapshot) -> bool:
    return bool(pool.process_manager == "ondemand" and not pool.listen_queue)


def _is_saturated(pool: Snapshot) -> bool:
    """All workers are busy, and not just for this moment: whoever shows this page may be the last idle one himself."""
    lasting = pool.listen_queue or (pool.busy_share_1m or 0.0) >= NEARLY
    return bool(pool.max_children and pool.active_processes >= pool.max_children and lasting)


def _of_service(pool: Snapshot) -> list[Concern]:
    if pool.template == "failed":
        if pool.total_processes:
            return [Concern(ODD, "code", "The application does not load any more; the workers that are left serve on.")]
        return [Concern(BAD, "workers", "The application does not load, and no worker serves. The error log says why.")]
    if not pool.total_processes and not _may_sleep(pool):
        return [Concern(BAD, "workers", "No worker serves.")]
    if _is_saturated(pool):
        every = amounts.many(pool.active_processes, "worker is", "workers are")
        waiting = pool.listen_queue
        if waiting:
            stands = amounts.many(waiting, "connection waits", "connections wait")
            return [Concern(BAD, "workers", f"All {every} busy, and {stands}.")]
        return [Concern(ODD, "workers", f"All {every} busy: the next request has to wait.")]
    return []


def _of_queue(pool: Snapshot) -> list[Concern]:
    waiting, limit = pool.listen_queue, pool.listen_queue_len
    if waiting and limit and waiting >= limit * NEARLY:
        full = f"The listen queue is nearly full, {amounts.count(waiting)} of {amounts.count(limit)}"
        return [Concern(BAD, "queue", f"{full}: connections beyond it are refused.")]
    return []


def _of_requests(pool: Snapshot) -> list[Concern]:
    long = [one for one in pool.processes if is_long(one)]
    if not long:
        return []
    longest = max(long, key=lambda one: one.request_duration)
    what = f"process {longest.pid} in {longest.request_method} {longest.request_uri}"
    took = amounts.duration(longest.request_duration / 1e6)
    runs = amounts.many(len(long), "request runs", "requests run")
    return [Concern(ODD, "", f"{runs} for more than {LONG:.0f} s; the longest for {took}: {what}")]


def _of_reload(pool: Snapshot) -> list[Concern]:
    if pool.last_reload in SETTLED:
        return []
    passed = since_reload(pool)
    ago = "" if passed is None else f", {amounts.age(passed)} ago,"
    words = f"The last reload{ago} was refused, and the code before it serves on: {pool.last_reload}"
    return [Concern(ODD, "code", words)]
