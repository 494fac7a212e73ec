"""Workers are replaced after so many requests, with so much memory, at such an age; and nobody who asks notices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters
from tests.harness.load import Load
from tests.harness.reloads import memory_of, report, version, wait_report, write_site
from tests.harness.waits import Watched, wait_for

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

RECYCLED = r"NOTICE: \[pool www\] child (\d+) is recycled after (\d+) requests \(pm\.max_requests\)"
# 30 MiB that stay; written to, or it would only be promised.
LEAKS = """
kept = []
def leak(environ, start_response, _):
    kept.append(b"x" * (30 << 20))
    return apps._plain(start_response, os.getpid())
apps.ANSWERS["leak"] = leak
"""


def test_after_max_requests(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_requests": 3})
    daemon.start()
    first = Watched(int(daemon.get("/pid").body))
    for _ in range(2):
        daemon.get("/pid")
    assert int(daemon.wait_log(RECYCLED)[1]) == first.pid
    first.wait_exit()
    first.close()
    assert int(daemon.get("/pid").body) != first.pid
    assert report(daemon).requests == 4, "those of who has left are not forgotten"


def test_requests_on_one_connection_count_too(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_requests": 3})
    daemon.start()
    with Connection(daemon.address()) as client:
        first = Watched(int(client.request(get_parameters("/pid")).body))
        for _ in range(2):
            assert client.request(get_parameters("/pid")).status == 200
        first.wait_exit()
        first.close()


def test_the_lot_keeps_them_from_leaving_together(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 4, "pm.max_requests": 20, "pm.max_requests_jitter": 100})
    daemon.start()
    with Load(daemon.address(), clients=8) as load:
        daemon.log.wait(rf"(?s)({RECYCLED}.*){{8}}")
    assert (load.lost, load.refused) == ([], 0)
    numbers = [int(number) for _, number in re.findall(RECYCLED, daemon.log.read())]
    assert min(numbers) >= 20
    assert len(set(numbers)) > 2


@pytest.mark.parametrize(("limit", "kind"), [("100M rss", "RSS"), ("100M pss", "PSS")])
def test_beyond_max_memory(daemon: Daemon, limit: str, kind: str) -> None:
    write_site(daemon, "one", LEAKS)
    daemon.add_pool("www", {"app": "deployed:application", "pm.max_memory": limit})
    daemon.start()
    pid = int(daemon.get("/leak").body)
    process = Watched(pid)
    assert memory_of(pid) > 30 << 20
    # It is measured once a second at most, after a request: nobody waits for that here, it is asked again and again.
    said = rf"NOTICE: \[pool www\] child {pid} is recycled with (\d+) MiB {kind} of 100 allowed \(pm\.max_memory\)"
    for _ in range(3):
        assert daemon.get("/leak").status == 200
    with Load(daemon.address(), "/pid", clients=1) as load:
        assert int(daemon.wait_log(said)[1]) >= 100
        process.wait_exit()
        load.wait_answers(5)
    process.close()
    assert (load.lost, load.refused) == ([], 0)
    assert memory_of(int(daemon.get("/pid").body)) < 100 << 20


def test_at_max_lifetime(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2, "pm.max_lifetime": "0.6s"})
    daemon.start()
    first = [Watched(pid) for pid in daemon.engage(2)]
    with Load(daemon.address(), clients=2) as load:
        for process in first:
            process.wait_exit()
            process.close()
    assert (load.lost, load.refused) == ([], 0)
    daemon.wait_log(r"NOTICE: \[pool www\] child \d+ is recycled after \d seconds \(pm\.max_lifetime\)")
    wait_report(daemon, lambda now: now.total == 2 and now.state == "serving")


def test_where_there_is_room_the_replacement_is_ready_first(daemon: Daemon) -> None:
    """Its import takes as long as it takes; meanwhile the one that has served long enough serves on."""
    late = daemon.folder / "late"
    write_site(daemon, "one", f"if os.path.exists({str(late)!r}):\n    apps.enter_and_wait()\n")
    spares = {"pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 1}
    settings = {"app": "deployed:application", "preload": "no", "pm.max_requests": 2}
    daemon.add_pool("www", {"pm": "dynamic", "pm.max_children": 3, **spares, **settings})
    daemon.start()
    late.touch()
    first = Watched(int(daemon.get("/pid").body))
    assert version(daemon) == "one"
    # One, or two when the spare that a request takes is wanted back at once.
    (second,) = daemon.gate.wait_inside(1)
    for _ in range(3):
        assert int(daemon.get("/pid").body) == first.pid
    assert second != first.pid
    late.unlink()
    daemon.gate.release(3)
    first.wait_exit()
    first.close()
    assert version(daemon) == "one"


@pytest.mark.parametrize("children", [1, 3])
def test_no_request_is_lost_under_load(daemon: Daemon, children: int) -> None:
    """Also where there is no room for a replacement, and the old one must leave first."""
    daemon.add_pool("www", {"pm.max_children": children, "pm.max_requests": 5})
    daemon.start()
    with Load(daemon.address(), clients=4) as load:
        load.wait_answers(200)
        wait_for(lambda: len({pid for _, pid in load.answered}) > children + 2, "workers after workers")
    assert (load.lost, load.refused) == ([], 0)
