"""An administrator installs a newer pyfpm and says `pyfpm upgrade`: same pid, same sockets, nobody turned away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from pyfpm.master.upgrade import TOLERANT
from pyfpm.messages import Verb
from tests.harness.family import title_of
from tests.harness.load import Load
from tests.harness.reloads import Question, ask, in_hand, reload, report, version, write_site
from tests.harness.waits import Watched, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon

UPGRADED = r"upgraded from pyfpm \S+ to \S+, pid (\d+)"


def upgrade(daemon: Daemon) -> None:
    done = daemon.run("upgrade")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"pid {daemon.pid}" in done.stdout


def test_the_same_pid_and_nobody_refused_under_load(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application", "pm.max_children": 3})
    daemon.add_pool("shop", {"pm": "ondemand"})
    daemon.start()
    before = daemon.engage(3)
    with contextlib.ExitStack() as stack:
        processes = [Watched(pid) for pid in (*before, daemon.template(), daemon.template("shop"))]
        load = stack.enter_context(Load(daemon.address(), "/slow", clients=6))
        for _ in range(2):
            upgrade(daemon)
            load.wait_answers(30)
        load.stop()
        for process in processes:
            process.wait_exit()
            process.close()
    assert (load.lost, load.refused) == ([], 0)
    assert daemon.is_running
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"
    assert title_of(daemon.pid).startswith("pyfpm: master process")
    assert not set(before) & set(daemon.engage(3))
    assert daemon.get("/pid", pool="shop").status == 200
    wait_for(lambda: len(daemon.workers()) == 3, "the end of those of the image before")


def test_requests_in_hand_are_finished_by_the_workers_of_the_old_image(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    with in_hand(daemon) as (client,):
        (old,) = daemon.gate.wait_inside()
        upgrade(daemon)
        assert int(daemon.get("/pid").body) != old
        assert old in daemon.workers()
        daemon.gate.release()
        assert int(client.receive().body) == old
    daemon.engage(2)


def test_what_an_old_worker_prints_and_how_it_ends_is_still_logged(daemon: Daemon) -> None:
    daemon.add_pool("www", {"catch_workers_output": "yes", "access.log": daemon.folder / "access.log"})
    daemon.start()
    with in_hand(daemon) as (client,):
        (old,) = daemon.gate.wait_inside()
        upgrade(daemon)
        start = daemon.log_end()
        daemon.expect(rf"child {old} exited on signal 9")
        os.kill(old, signal.SIGKILL)
        daemon.wait_log(rf"child {old} exited on signal 9 \(SIGKILL\)", start=start)
        assert client.receive().ended is None
    daemon.get("/print", "to=stderr&text=words-of-the-new")
    daemon.wait_log("words-of-the-new")
    assert '"GET /print' in (daemon.folder / "access.log").read_text()


def test_logs_signals_and_reloads_go_on(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    generation = report(daemon).generation
    upgrade(daemon)
    assert report(daemon).generation == generation + 1
    daemon.log_path.rename(daemon.folder / "error.log.1")
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log("error log file re-opened")
    write_site(daemon, "two")
    assert reload(daemon).code == 0
    assert version(daemon) == "two"
    notices = daemon.drain_notices()
    assert notices.count("READY=1") == 3, "the start, the upgrade and the reload"
    assert daemon.stop(signal.SIGQUIT) == 0


def test_the_pid_file_stays_locked(served: Daemon) -> None:
    upgrade(served)
    with open(served.pid_file) as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    second = served.run()
    assert second.returncode == 78
    served.wait_log("another pyfpm is running")
    served.expect("FPM initialization failed")


def test_a_configuration_that_has_changed_is_taken_over(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    gone = daemon.pools.pop("shop")
    old = Watched(daemon.workers("shop")[0])
    daemon.add_pool("blog")
    daemon.expect("belongs to no pool: closed")
    upgrade(daemon)
    assert daemon.get("/pid", pool="blog").status == 200
    assert daemon.get("/pid").status == 200
    old.wait_exit()
    old.close()
    assert not os.path.exists(str(gone["listen"]))


# ── what ran goes on ────────────────────────────────────────────────────────────────────────────────────────────────

ELSEWHERE = "192.0.2.1"  # TEST-NET-1: no machine has it


def test_what_cannot_be_opened_goes_on_as_it_was(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop", {"access.log": daemon.folder / "access.log"})
    daemon.start()
    before, listen = daemon.workers("shop"), daemon.pools["shop"]["listen"]
    daemon.pools["shop"].update({"listen": f"{ELSEWHERE}:9001", "pm.status_listen": f"{ELSEWHERE}:9002"})
    daemon.add_pool("new", {"listen": f"{ELSEWHERE}:9003"})
    daemon.set_global({"status_listen": f"{ELSEWHERE}:9004"})
    done = daemon.run("upgrade")
    assert (done.returncode, done.stdout) == (1, "")
    for words in (
        f"pid {daemon.pid}",
        f"[pool shop] unable to bind listening socket for address '{ELSEWHERE}:9001': Cannot assign",
        "it goes on where it was until the next reload",
        f"[pool new] unable to bind listening socket for address '{ELSEWHERE}:9003'",
        "it is left out until the next reload",
        "there is none until the next reload",
    ):
        assert words in done.stderr
    daemon.expect("unable to bind listening socket")
    daemon.pools["shop"]["listen"] = listen
    assert daemon.get("/pid").status == daemon.get("/pid", pool="shop").status == 200
    assert before != daemon.workers("shop")
    assert '"GET /pid' in (daemon.folder / "access.log").read_text()
    # And the next reload has it all.
    for pool, name in ((daemon.pools["shop"], "moved"), (daemon.pools["new"], "new")):
        pool["listen"] = daemon.folder / f"{name}.sock"
    daemon.pools["shop"]["pm.status_listen"] = None
    daemon.set_global({"status_listen": None})
    assert reload(daemon).code == 0
    assert daemon.get("/pid", pool="new").status == daemon.get("/pid", pool="shop").status == 200
    assert not os.path.exists(str(listen))


def test_logs_that_cannot_be_opened_are_done_without(daemon: Daemon) -> None:
    daemon.add_pool("www", {"access.log": daemon.folder / "access.log"})
    daemon.start()
    os.mkfifo(daemon.folder / "unread")
    daemon.pools["www"]["access.log"] = daemon.folder / "unread"
    done = daemon.run("upgrade")
    assert (done.returncode, "failed to open access log" in done.stderr) == (1, True), done
    daemon.expect("failed to open access log")
    assert daemon.get("/pid").status == 200


def test_a_pool_of_another_name_has_the_same_socket(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.start()
    daemon.pools["site"] = daemon.pools.pop("www")
    upgrade(daemon)
    assert daemon.get("/pid", pool="site").status == 200


def test_a_daemon_that_serves_nothing_runs_on(daemon: Daemon) -> None:
    """It has done so before."""
    daemon.add_pool("www", {"pm": "ondemand", "app": "deployed:application"})
    write_site(daemon, "one")
    daemon.start()
    write_site(daemon, "two", more="raise RuntimeError('broken')")
    done = daemon.run("upgrade")
    assert (done.returncode, "not serving yet" in done.stderr) == (1, True)
    for words in ("broken", "does not serve yet", "failed twice"):
        daemon.expect(words)
    assert daemon.is_running
    write_site(daemon, "three")
    daemon.wait_log("the pool serves")
    assert version(daemon) == "three"


def test_it_is_tested_when_it_is_to_be_done_and_not_before(daemon: Daemon) -> None:
    """A pool that finishes holds it up, and a configuration that is good now may be broken by then."""
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    with in_hand(daemon, pool="shop") as (client,):
        daemon.gate.wait_inside()
        gone = daemon.pools.pop("shop")
        assert reload(daemon).code == 0
        question = Question(daemon, Verb.UPGRADE)
        assert report(daemon).total == 1  # asked later: by now the master has heard the question
        assert "testing the configuration" not in daemon.log.read()
        daemon.pools["www"]["pm.max_childern"] = 3
        daemon.write_config()
        daemon.gate.release()
        assert client.receive().status == 200
        outcome = question.answer()
    assert (outcome.code, "did you mean 'pm.max_children'?" in outcome.text) == (1, True)
    assert daemon.log.read().count("testing the configuration") == 1
    daemon.expect("upgrade refused")
    daemon.expect(".")
    assert daemon.get("/pid").status == 200
    assert not os.path.exists(str(gone["listen"]))


# ── refused ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_a_broken_configuration_the_old_image_goes_on(served: Daemon) -> None:
    before = served.family()
    served.pools["www"]["pm.max_childern"] = 3
    done = served.run("upgrade")
    assert done.returncode == 1
    assert "did you mean 'pm.max_children'?" in done.stderr
    served.wait_log("upgrade refused: the new pyfpm does not start with this configuration")
    served.expect(".")
    wait_for(lambda: served.family() == before, "nobody but those of before")
    assert served.get("/pid").status == 200
    del served.pools["www"]["pm.max_childern"]
    upgrade(served)


def _break(path: Path) -> str:
    """What pip leaves when it is interrupted."""
    whole = path.read_text()
    path.write_text("def def\n")
    return whole


@pytest.mark.parametrize("broken", ["cli", "master"])
def test_a_new_image_that_does_not_run_is_refused(served: Daemon, broken: str) -> None:
    path = served.stage.package / broken / "main.py"
    whole = _break(path)
    try:
        outcome = ask(served, Verb.UPGRADE)
    finally:
        path.write_text(whole)
    assert outcome.code == 1
    assert "SyntaxError" in outcome.text
    served.expect("upgrade refused")
    served.expect(".")
    assert served.get("/pid").status == 200
    assert served.run("status").returncode == 0


def test_an_upgrade_that_waits_for_a_pool_to_finish_keeps_nobody_else_waiting(daemon: Daemon) -> None:
    daemon.add_pool("shop", {"pm": "ondemand"})
    daemon.add_pool("old")
    daemon.start()
    with in_hand(daemon, pool="old") as (client,):
        daemon.gate.wait_inside()
        del daemon.pools["old"]
        assert reload(daemon).code == 0
        question = Question(daemon, Verb.UPGRADE)
        ask(daemon, Verb.STATUS)  # it has looked around since, so the upgrade waits
        assert daemon.get("/pid", pool="shop").status == 200
        daemon.gate.release()
        assert client.receive().status == 200
    assert question.answer().code == 0
    assert daemon.get("/pid", pool="shop").status == 200


# ── however it was started ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [("-D",), ("start",), ("restart",)])
def test_a_daemon_in_the_background(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    daemon.add_pool()
    assert daemon.run(*arguments).returncode == 0
    daemon.hold(int(daemon.pid_file.read_text()))
    before = daemon.workers()
    upgrade(daemon)
    assert daemon.is_running
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"
    assert daemon.get("/pid").status == 200
    assert daemon.workers() != before
    assert daemon.run("stop").returncode == 0
    assert daemon.wait_exit() == 0


def test_with_names_that_are_relative(daemon: Daemon) -> None:
    """Of the configuration, and of the command itself: both were meant from where it was started."""
    daemon.add_pool()
    daemon.write_config()
    command = [f"../{daemon.stage.command.name}", "-c", daemon.config.name, "-D"]
    done = subprocess.run(
        command,
        cwd=daemon.folder,
        env=daemon.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
    daemon.hold(int(daemon.pid_file.read_text()))
    upgrade(daemon)
    assert daemon.get("/pid").status == 200


def test_while_workers_come_and_go(daemon: Daemon) -> None:
    """No worker is left over that the new image does not know."""
    spares = {"pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 2, "pm.max_requests": 3}
    daemon.add_pool("www", {"pm": "dynamic", "pm.max_children": 6, **spares})
    daemon.start()
    daemon.expect("pm.max_children")
    with Load(daemon.address(), "/pid", clients=6) as load:
        for _ in range(2):
            upgrade(daemon)
            load.wait_answers(20)
    assert (load.lost, load.refused) == ([], 0)
    wait_for(lambda: len(daemon.workers()) == report(daemon).total, "that the master knows all that there are")
    daemon.send_signal(signal.SIGQUIT)
    assert daemon.wait_exit() == 0


def test_a_log_that_the_new_image_could_not_open_refuses_it(served: Daemon) -> None:
    os.mkfifo(served.folder / "unread")
    served.set_global({"error_log": served.folder / "unread"})
    done = served.run("upgrade")
    assert (done.returncode, "failed to open error_log" in done.stderr) == (1, True), done
    served.expect("upgrade refused")
    served.expect(".")
    assert served.get("/pid").status == 200


def test_a_format_that_the_new_image_does_not_know_refuses_it(served: Daemon) -> None:
    done = served.run("-t", environ={TOLERANT: "1"})
    assert (done.returncode, "cannot take over from the pyfpm that runs" in done.stderr) == (78, True)
