"""What `pyfpm memory` makes of the kernel's figures."""

from __future__ import annotations

from pyfpm.cli.footprints import Footprint, PoolFootprint, tell
from pyfpm.cli.processes import NOT_ALLOWED, Weight

MIB = 1 << 20
MASTER = Footprint("-", "master", 1, Weight(20 * MIB, 15 * MIB, 14 * MIB, 21 * MIB))
TEMPLATE = Footprint("www", "template", 2, Weight(18 * MIB, 4 * MIB, 2 * MIB, 18 * MIB))
WORKERS = [Footprint("www", "worker", pid, Weight(12 * MIB, 3 * MIB, pid * MIB, 13 * MIB)) for pid in (3, 5)]
BLIND = Footprint("www", "worker", 9, Weight(12 * MIB, peak=13 * MIB, reason=NOT_ALLOWED))


def test_the_table_and_the_sums() -> None:
    assert tell(MASTER, [PoolFootprint("www", TEMPLATE, WORKERS), PoolFootprint("blog", None, [])]) == [
        "POOL  PROCESS   PID    PSS  PRIVATE  SHARED    RSS   PEAK",
        "-     master      1  15.0M    14.0M    6.0M  20.0M  21.0M",
        "www   template    2   4.0M     2.0M   16.0M  18.0M  18.0M",
        "www   worker      3   3.0M     3.0M    9.0M  12.0M  13.0M",
        "www   worker      5   3.0M     5.0M    7.0M  12.0M  13.0M",
        "",
        "www: 10.0M for 2 workers and the template; one more would cost about 4.0M",
        "blog: nobody is there",
        "in all: 25.0M, the master included",
    ]


def test_what_may_not_be_read_is_unknown_and_says_why() -> None:
    lines = tell(MASTER, [PoolFootprint("www", TEMPLATE, [*WORKERS, BLIND])])
    assert "www   worker      9      ?        ?       ?  12.0M  13.0M" in lines
    assert "www: ? for 3 workers and the template" in lines, "no sum of what is not known, and no guess"
    assert lines[-1] == f"?: {NOT_ALLOWED}"


def test_as_members() -> None:
    members = PoolFootprint("www", None, WORKERS[:1]).members()
    assert members == {
        "pool": "www",
        "pss": 3 * MIB,
        "one_more_worker": 3 * MIB,
        "template": None,
        "workers": [
            {
                "pid": 3, "rss": 12 * MIB, "pss": 3 * MIB, "private": 3 * MIB, "peak": 13 * MIB, "reason": "",
                "shared": 9 * MIB,
            }
        ],
    }  # fmt: skip
