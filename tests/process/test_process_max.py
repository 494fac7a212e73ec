"""`process.max`: what all pools together may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.load import Load
from tests.harness.reloads import Headcount, in_hand, reload, report

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def test_two_pools_share_what_there_is(daemon: Daemon) -> None:
    daemon.set_global({"process.max": 3})
    for name in ("www", "shop"):
        settings = {"pm": "ondemand", "pm.max_children": 3, "pm.process_idle_timeout": "0.1s"}
        daemon.add_pool(name, settings)
    daemon.expect(r"process\.max")
    daemon.start()
    with Headcount(daemon, "shop") as shop, in_hand(daemon, 3) as clients:
        daemon.gate.wait_inside(3)
        with in_hand(daemon, 1, "shop") as (late,):
            # Nobody is there for it; what is in hand elsewhere is not cut off for it.
            assert report(daemon, "shop").total == 0
            daemon.gate.release(3)
            for client in clients:
                assert client.receive().status == 200
            daemon.gate.wait_inside()
            daemon.gate.release()
            assert late.receive().status == 200
    assert shop.most == 1
    assert "ERROR" not in daemon.log.read()


def test_a_pool_that_would_have_more_has_what_is_left(daemon: Daemon) -> None:
    daemon.set_global({"process.max": 4})
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.add_pool("shop", {"pm.max_children": 3})
    daemon.expect(r"process\.max")
    daemon.start()
    while (total := report(daemon).total + report(daemon, "shop").total) < 4:
        assert daemon.is_running
    assert total == 4
    assert report(daemon).state == report(daemon, "shop").state == "serving"


def test_a_pool_that_gets_none_does_not_hold_up_the_start(daemon: Daemon) -> None:
    daemon.set_global({"process.max": 1})
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.expect("this pool does not serve yet")
    daemon.start()
    daemon.wait_log(r"WARNING: \[pool \w+\] no more workers by process\.max \(1\), consider raising it")
    assert sorted([report(daemon).total, report(daemon, "shop").total]) == [0, 1]


def test_a_reload_finds_room_where_there_is_none(daemon: Daemon) -> None:
    """The worker that proves a new generation is beyond the limit for a moment: else it could never begin."""
    daemon.set_global({"process.max": 2})
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    daemon.engage(2)
    with Load(daemon.address(), clients=2) as load:
        assert reload(daemon, "www").code == 0
        load.wait_answers(10)
    assert (load.lost, load.refused) == ([], 0)
    assert report(daemon).generation == 2
    assert len(daemon.engage(2)) == 2


def test_a_reload_may_change_it(daemon: Daemon) -> None:
    daemon.set_global({"process.max": 1})
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.expect(r"process\.max")
    daemon.start()
    assert report(daemon).total == 1
    daemon.set_global({"process.max": 3})
    assert reload(daemon).code == 0
    assert len(daemon.engage(3)) == 3
