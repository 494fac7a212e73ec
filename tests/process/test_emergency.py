"""A pool whose workers crash is started anew; one that cannot start says 503, and the others do not notice."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from pyfpm.messages import Verb
from tests.harness.load import Load
from tests.harness.reloads import Question, report, version, wait_report, wait_version, write_site
from tests.harness.waits import PATIENCE, Deadline, Stopwatch, watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

SEGFAULT = f"signal={signal.SIGSEGV.value}"
BROKEN = "import a_module_that_nobody_has"


def crash(daemon: Daemon, times: int) -> None:
    daemon.expect(r"exited on signal 11 \(SIGSEGV")
    for _ in range(times):
        assert daemon.get("/kill", SEGFAULT).ended is None


def test_so_many_crashes_start_the_pool_anew(daemon: Daemon) -> None:
    daemon.set_global({"emergency_restart_threshold": 3, "emergency_restart_interval": "10s"})
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.add_pool("shop")
    daemon.start()
    shop = daemon.family()
    with Load(daemon.address("shop"), clients=1) as load:
        crash(daemon, 3)
        daemon.wait_log(
            r"WARNING: \[pool www\] failed processes threshold \(3 in 10 sec\) is reached, initiating reload"
        )
        wait_report(daemon, lambda now: now.generation == 2)
        load.wait_answers(5)
    assert (load.lost, load.refused) == ([], 0)
    assert report(daemon, "shop").generation == 1
    assert daemon.get("/pid").status == 200
    assert shop


def test_fewer_than_that_do_not(daemon: Daemon) -> None:
    daemon.set_global({"emergency_restart_threshold": 3, "emergency_restart_interval": "10s"})
    daemon.add_pool()
    daemon.start()
    crash(daemon, 2)
    # A kill is somebody's will and no crash.
    daemon.expect(r"exited on signal 9")
    assert daemon.get("/kill", f"signal={signal.SIGKILL.value}").ended is None
    assert daemon.get("/pid").status == 200
    assert report(daemon).generation == 1
    assert "threshold" not in daemon.log.read()


def test_an_emergency_with_broken_code_keeps_what_serves(daemon: Daemon) -> None:
    daemon.set_global({"emergency_restart_threshold": 2, "emergency_restart_interval": "10s"})
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    write_site(daemon, "two", BROKEN)
    daemon.expect("threshold")
    crash(daemon, 2)
    daemon.wait_log("cannot load deployed:application")
    wait_report(daemon, lambda now: now.state == "serving")
    assert version(daemon) == "one"


def test_a_reload_overtakes_an_emergency(daemon: Daemon) -> None:
    daemon.set_global({"emergency_restart_threshold": 2, "emergency_restart_interval": "10s"})
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    write_site(daemon, "two", "apps.enter_and_wait()")
    daemon.expect("threshold")
    crash(daemon, 2)
    (hanging,) = daemon.gate.wait_inside()
    write_site(daemon, "three")
    with watching(hanging) as (process,):
        assert Question(daemon, Verb.RELOAD, "www").answer().code == 0
        assert version(daemon) == "three"
        process.wait_exit()
    assert len(daemon.family()) == 2, "a template and a worker, and nobody of before"


# ── pm.fail_fast_timeout ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pool_that_cannot_start_answers_503(daemon: Daemon) -> None:
    write_site(daemon, "one", BROKEN)
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "deployed:application", "pm.fail_fast_timeout": "0.3s"})
    daemon.expect("cannot load|does not serve|failed twice")
    daemon.start()
    clock = Stopwatch()
    answer = daemon.get("/anything", pool="shop")
    assert (answer.status, answer.header("Retry-After")) == (503, "10")
    assert clock.fair < 5
    daemon.wait_log(r"WARNING: \[pool shop\] cannot serve for 0\.3 seconds, requests are answered 503 now")
    with Load(daemon.address(), clients=1) as load:
        for _ in range(5):
            assert daemon.get("/anything", pool="shop").status == 503
        load.wait_answers(5)
    assert (load.lost, load.refused) == ([], 0)
    assert report(daemon, "shop").state == "failing"
    # Repaired: it is found by itself, and at once by a reload.
    write_site(daemon, "two")
    assert Question(daemon, Verb.RELOAD, "shop").answer().code == 0
    wait_version(daemon, "two", "shop")
    daemon.wait_log(r"NOTICE: \[pool shop\] the pool serves")


def test_it_comes_back_by_itself(daemon: Daemon) -> None:
    write_site(daemon, "one", BROKEN)
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "deployed:application", "pm.fail_fast_timeout": "0.2s"})
    daemon.expect("cannot load|does not serve|failed twice|cannot serve")
    daemon.start()
    assert daemon.get("/version", pool="shop").status == 503
    write_site(daemon, "two")
    wait_version(daemon, "two", "shop")


def test_an_ondemand_pool_that_breaks_later(daemon: Daemon) -> None:
    write_site(daemon, "one")
    settings = {"pm": "ondemand", "preload": "no", "pm.process_idle_timeout": "0.2s", "pm.fail_fast_timeout": "0.5s"}
    daemon.add_pool("www", {"app": "deployed:application", **settings})
    daemon.start()
    assert version(daemon) == "one"
    wait_report(daemon, lambda now: now.total == 0)
    write_site(daemon, "two", BROKEN)
    daemon.expect("cannot load|does not serve|failed twice|cannot serve")
    assert daemon.get("/version").status == 503
    # Nobody knocks at it any more, the stand-in is quicker: it tries by itself.
    write_site(daemon, "three")
    wait_version(daemon, "three")
    wait_report(daemon, lambda now: not now.trouble and now.total == 0)


def test_an_interpreter_that_vanished(daemon: Daemon) -> None:
    """The stand-in cannot run on it either; it takes the master's own, where the pool's user may run that."""
    daemon.add_pool("www")
    python = str(daemon.pools["www"]["python"])
    link = daemon.folder / "python"
    link.symlink_to(python)
    daemon.add_pool("shop", {"python": link, "pm.fail_fast_timeout": "0.2s"})
    daemon.expect("cannot run|does not serve|failed twice|cannot serve|exited on signal 9")
    daemon.start()
    link.unlink()
    with watching(daemon.template("shop"), *daemon.workers("shop")) as processes:
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
    daemon.wait_log("the template cannot run")
    daemon.wait_log(r"\[pool shop\] cannot serve for 0\.2 seconds")
    assert daemon.get("/pid").status == 200
    link.symlink_to(python)
    assert Question(daemon, Verb.RELOAD, "shop").answer().code == 0
    deadline = Deadline(PATIENCE, "an answer of the pool itself: the stand-in may take a last request of its own")
    while daemon.get("/pid", pool="shop").status != 200:
        deadline.pause()
