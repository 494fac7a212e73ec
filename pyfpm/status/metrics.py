"""A snapshot as OpenMetrics text: in names of our own, or in those that dashboards for PHP-FPM look for.

Runs in: worker that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing.

Our own names have base units and counters that end in `_total`. Those of PHP-FPM and its exporters do not, so they are
given as of unknown type: that is valid OpenMetrics, and a dashboard asks for names only. Every sample has the label
`pool`, which PHP-FPM's lack. A family whose value is unknown has no sample.
"""

from __future__ import annotations

from pyfpm.scoreboard import CREATING, STAGE_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfpm.status.snapshot import Process, Snapshot

    Sample = tuple[str, float | int | None]

GAUGE, COUNTER, ANY = "gauge", "counter", "unknown"
PREFIX = "pyfpm_"
PHP_PREFIX = "phpfpm_"
STATES = STAGE_NAMES[CREATING:]


def openmetrics(snapshot: Snapshot, full: bool, php_names: bool) -> str:
    """The whole exposition."""
    write = _Writer(snapshot.pool)
    (_php_families if php_names else _own_families)(write, snapshot, full)
    return write.finish()


class _Writer:
    def __init__(self, pool: str) -> None:
        self._pool = f'pool="{_escape(pool)}"'
        self._lines: list[str] = []

    def family(self, name: str, kind: str, text: str, *samples: Sample) -> None:
        """One family; `samples` are (more labels, each behind a comma; value)."""
        self._lines += [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]
        if name.endswith("_bytes"):
            self._lines.insert(-1, f"# UNIT {name} bytes")
        elif name.endswith("_seconds"):
            self._lines.insert(-1, f"# UNIT {name} seconds")
        suffix = "_total" if kind == COUNTER else ""
        head = f"{name}{suffix}{{{self._pool}"
        self._lines += [f"{head}{labels}}} {value}" for labels, value in samples if value is not None]

    def finish(self) -> str:
        return "\n".join([*self._lines, "# EOF", ""])


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _own_families(write: _Writer, pool: Snapshot, full: bool) -> None:
    def one(name: str, kind: str, text: str, value: float | None) -> None:
        write.family(PREFIX + name, kind, text, ("", value))

    one("up", GAUGE, "Whether the pool answers.", 1)
    one("start_time_seconds", GAUGE, "When the pool was started, in seconds since 1970.", pool.start_time)
    one("requests", COUNTER, "Requests that workers have begun.", pool.accepted_conn)
    one("listen_queue", GAUGE, "Connections that wait to be accepted.", pool.listen_queue)
    one("listen_queue_max", GAUGE, "The most connections that were seen waiting.", pool.max_listen_queue)
    one("listen_queue_limit", GAUGE, "How many connections may wait.", pool.listen_queue_len)
    states = ((',state="idle"', pool.idle_processes), (',state="active"', pool.active_processes))
    write.family(PREFIX + "workers", GAUGE, "Workers by what they do.", *states)
    one("workers_active_max", GAUGE, "The most workers that were seen active.", pool.max_active_processes)
    one("workers_limit", GAUGE, "The most workers that the pool may have.", pool.max_children)
    reached = pool.max_children_reached
    one("workers_limit_reached", COUNTER, "Times that more workers were needed than may be.", reached)
    one("slow_requests", COUNTER, "Requests that took longer than request_slowlog_timeout.", pool.slow_requests)
    one("memory_peak_bytes", GAUGE, "The most memory that any worker has had resident.", pool.memory_peak)
    one("generation", GAUGE, "How often the application was loaded by a reload, counted from 1.", pool.generation)
    reload = None if pool.last_reload_time is None else int(pool.last_reload == "ok")
    one("last_reload_success", GAUGE, "Whether the last reload went well.", reload)
    one("last_reload_time_seconds", GAUGE, "When it ended, in seconds since 1970.", pool.last_reload_time)
    ends = {
        "recycled": pool.recycled_processes,
        "crashed": pool.crashed_processes,
        "killed": pool.killed_processes,
    }
    gone = [(f',reason="{reason}"', count) for reason, count in ends.items()]
    write.family(PREFIX + "workers_gone", COUNTER, "Workers that were recycled, crashed, or had to be killed.", *gone)
    shares = {"1m": pool.busy_share_1m, "5m": pool.busy_share_5m, "15m": pool.busy_share_15m}
    busy = [(f',over="{over}"', share) for over, share in shares.items()]
    write.family(PREFIX + "busy_ratio", GAUGE, "Share of the most workers that was at work, over some minutes.", *busy)
    if full:
        _own_processes(write, pool.processes)


def _own_processes(write: _Writer, processes: tuple[Process, ...]) -> None:
    def each(name: str, kind: str, text: str, values: list[float | int | None]) -> None:
        samples = [(f',pid="{one.pid}"', value) for one, value in zip(processes, values)]
        write.family(f"{PREFIX}worker_{name}", kind, text, *samples)

    states: list[Sample] = [
        (f',pid="{one.pid}",state="{state}"', int(one.state == state)) for one in processes for state in STATES
    ]
    write.family(f"{PREFIX}worker_state", GAUGE, "1 for the state that a worker is in.", *states)
    each("start_time_seconds", GAUGE, "When it was started.", [one.start_time for one in processes])
    each("requests", COUNTER, "Requests that it has begun.", [one.requests for one in processes])
    took: list[float | int | None] = [one.request_duration / 1e6 for one in processes]
    each("request_duration_seconds", GAUGE, "How long the request in hand, or the last one, has taken.", took)
    idle: list[float | int | None] = [one.last_request_cpu / 100 or None for one in processes]
    each("last_request_cpu_ratio", GAUGE, "CPU time of the last request by its duration.", idle)
    peaks: list[float | int | None] = [one.last_request_memory or None for one in processes]
    each("memory_peak_bytes", GAUGE, "The most memory that it has had resident.", peaks)


def _php_families(write: _Writer, pool: Snapshot, full: bool) -> None:
    def one(name: str, kind: str, text: str, value: float | None) -> None:
        write.family(PHP_PREFIX + name, kind, text, ("", value))

    one("up", GAUGE, "Whether the pool answers.", 1)
    one("start_since", ANY, "The number of seconds since FPM has started.", pool.start_since)
    one("accepted_connections", ANY, "The number of requests accepted by the pool.", pool.accepted_conn)
    one("listen_queue", GAUGE, "The number of requests in the queue of pending connections.", pool.listen_queue)
    queue_max = "The maximum number of requests in the queue of pending connections since FPM has started."
    one("max_listen_queue", ANY, queue_max, pool.max_listen_queue)
    one("listen_queue_length", GAUGE, "The size of the socket queue of pending connections.", pool.listen_queue_len)
    one("idle_processes", GAUGE, "The number of idle processes.", pool.idle_processes)
    one("active_processes", GAUGE, "The number of active processes.", pool.active_processes)
    one("total_processes", GAUGE, "The number of idle + active processes.", pool.total_processes)
    active_max = "The maximum number of active processes since FPM has started."
    one("max_active_processes", ANY, active_max, pool.max_active_processes)
    reached = "The number of times, the process limit has been reached."
    one("max_children_reached", ANY, reached, pool.max_children_reached)
    slow = "The number of requests that exceeded your 'request_slowlog_timeout' value."
    one("slow_requests", ANY, slow, pool.slow_requests)
    one("memory_peak", GAUGE, "The memory usage peak since FPM has started.", pool.memory_peak)
    if full:
        _php_processes(write, pool.processes)


def _php_processes(write: _Writer, processes: tuple[Process, ...]) -> None:
    """The families of the hipages exporter; `child` is the place in the list there, too."""

    def each(name: str, kind: str, text: str, values: list[float | int]) -> None:
        samples = [(f',child="{child}"', value) for child, value in enumerate(values)]
        write.family(f"{PHP_PREFIX}process_{name}", kind, text, *samples)

    each("requests", ANY, "The number of requests the process has served.", [one.requests for one in processes])
    memory = "The max amount of memory the last request consumed."
    each("last_request_memory", GAUGE, memory, [one.last_request_memory for one in processes])
    cpu = "The %cpu the last request consumed."
    each("last_request_cpu", GAUGE, cpu, [one.last_request_cpu for one in processes])
    took = "The duration in microseconds of the requests."
    each("request_duration", GAUGE, took, [one.request_duration for one in processes])
    states: list[Sample] = [
        (f',child="{child}",state="{state}"', int(one.state == state))
        for child, one in enumerate(processes)
        for state in STATES
    ]
    write.family(f"{PHP_PREFIX}process_state", GAUGE, "The state of the process (Idle, Running, ...).", *states)
