"""What `pyfpm status` prints: as wide as the terminal, and nothing that it would obey."""

from __future__ import annotations

import pytest

from pyfpm.cli.overview import POOL_COLUMNS, in_full
from pyfpm.cli.tables import lay_out
from tests.unit.cli.examples import HOSTILE, a_pool, a_worker

WWW = a_pool("www", generation=3, requests=1234, queue=0, peak=4, slow=5, recycled=1, crashed=1, busy_5m=0.5)
SHOP = a_pool(
    "webshop", pm="ondemand", state="failing", idle=0, busy=0, total=0, max=50, trouble="No module\nTraceback"
)


def test_the_table() -> None:
    heads = "POOL     PM        STATE    GEN  IDLE  BUSY  TOTAL  MAX  PEAK  5MIN  QUEUE  REQUESTS  SLOW  TIMEOUT  SHED"
    assert lay_out(POOL_COLUMNS, [WWW, SHOP]) == [
        f"{heads}  RESTARTS  NOTE",
        "www      static    serving    3     1     2      3    4     4   50%      0      1234     5        ?     ?"
        "         2",
        "webshop  ondemand  failing    1     0     0      0   50     0     ?      ?         9     0        ?     ?"
        "         0  No module",
    ]


def test_a_narrow_terminal_gets_what_matters_most() -> None:
    lines = lay_out(POOL_COLUMNS, [WWW, SHOP], 80)
    assert max(map(len, lines)) <= 80
    for head in ("POOL", "STATE", "BUSY", "MAX", "QUEUE", "NOTE"):
        assert head in lines[0]
    assert lines[2].endswith("No module")


@pytest.mark.parametrize("room", [None, 80, 20])
def test_a_terminal_is_told_nothing_that_it_would_obey(room: int | None) -> None:
    pool = a_pool(HOSTILE, trouble=HOSTILE, state=HOSTILE, template=HOSTILE, reload=HOSTILE, pm=HOSTILE)
    worker = a_worker(uri=HOSTILE, method=HOSTILE, state=HOSTILE)
    for line in (*lay_out(POOL_COLUMNS, [pool], room), *in_full(pool, [worker], 0.0, room)):
        assert line.isprintable(), repr(line)


def test_all_that_is_known_of_a_pool() -> None:
    pool = a_pool(
        queue=3, queue_max=7, queue_limit=511, timed_out=2, shed=1, busy_1m=0.1, busy_5m=0.2, busy_15m=0.3,
        uptime=725.0, template="ready", template_pid=900, max_requests=500, max_memory=256 << 20, slow_after=2.0,
        ended_after=30.0, reload="ok", reload_time=1000, max_reached=4, slow=6,
    )  # fmt: skip
    busy, idle = a_worker(pss=3 << 20), a_worker(913, state="Idle", leaving=True)
    assert list(in_full(pool, [busy, idle], 1060.0, None)) == [
        "www: serving, pm = static, generation 1, up for 12m05s, reloaded 60.0s ago",
        "  workers    1 idle, 2 busy, 3 in all; at most 0 busy of 4",
        "  busy       10% over 1 minute, 20% over 5, 30% over 15; too few workers 4 times",
        "  queue      3 waiting, at most 7; room for 511",
        "  requests   9 answered, 6 slow (over 2s), 2 ended (over 30s), 1 shed",
        "  restarts   0 recycled (after 500 requests, above 256M), 0 crashed, 0 killed",
        "  template   ready, pid 900",
        "  reload     ok",
        "",
        "  PID  STATE            AGE  GEN  REQUESTS    FOR  CPU   PSS  PEAK  REQUEST",
        "  912  Running        60.0s    1         3  12.3s    ?  3.0M     ?  GET /report?year=2026",
        "  913  Idle, leaving  60.0s    1         3      -    ?     ?     ?  (GET /report?year=2026)",
    ]
