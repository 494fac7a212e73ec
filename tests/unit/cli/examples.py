"""Reports for the tests of what is drawn of them."""

from __future__ import annotations

from pyfpm.cli.picture import Picture, Pool, Worker
from pyfpm.status.reports import PoolReport, WorkerReport

# What a terminal obeys, or draws in another place than where it stands: commands of C0 and C1, ends of lines, overrides
# of direction, marks that pile up.
HOSTILE = "\x1b[2J\x9b31m\r\n\t\x07\u202e\u2066\u200b\u0301\u0301\u0301\U000e0041<script>\"'日本"


def a_pool(name: str = "www", **more: object) -> PoolReport:
    known = {
        "pm": "static", "state": "serving", "generation": 1, "idle": 1, "busy": 2, "total": 3, "max": 4, "requests": 9
    }  # fmt: skip
    return PoolReport(pool=name, **known | more)  # type: ignore[arg-type]


def a_worker(pid: int = 912, pool: str = "www", **more: object) -> WorkerReport:
    known = {
        "state": "Running", "age": 60.0, "generation": 1, "requests": 3, "elapsed": 12.34, "method": "GET",
        "uri": "/report?year=2026",
    }  # fmt: skip
    return WorkerReport(pool=pool, pid=pid, **known | more)  # type: ignore[arg-type]


def a_picture(*workers: Worker, pools: tuple[Pool, ...] = (), fault: str = "") -> Picture:
    return Picture(100.0, 800, pools or (Pool(a_pool()),), workers, fault)
