"""An operator deploys: `pyfpm reload`, USR2 or HUP. Nobody who is served notices."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import stat
import time
from typing import TYPE_CHECKING

import pytest

from pyfpm.messages import Verb
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.load import Load
from tests.harness.reloads import Headcount, Question, in_hand, reload, report, version, write_site
from tests.harness.waits import Stopwatch, Watched, wait_exit

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

RELOADED = r"NOTICE: (pid \d+, )?reloaded"

WITH_OUR_KEYS = """
def application(environ, start_response):
    assert environ["pyfpm.deadline"].remaining > 50
    start_response("200 OK", [("Content-Length", "0")])
    environ["pyfpm.finish_request"]()
    return []
"""


def serve_site(daemon: Daemon, children: int = 2) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application", "pm.max_children": children})
    daemon.start()
    daemon.engage(children)


# ── what is reloaded, and what is left alone ────────────────────────────────────────────────────────────────────────


def test_a_changed_file_is_a_new_generation(daemon: Daemon) -> None:
    serve_site(daemon)
    before, master = set(daemon.workers()), daemon.pid
    write_site(daemon, "two")
    done = daemon.run("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pool www: generation 2 serves" in done.stdout
    assert version(daemon) == "two"
    assert not before & set(daemon.engage(2))
    assert report(daemon).generation == 2
    assert int(daemon.pid_file.read_text()) == master
    for pid in before:
        assert pid not in daemon.workers()


def test_what_did_not_change_keeps_its_workers(daemon: Daemon) -> None:
    write_site(daemon, "one", name="shop")
    daemon.add_pool("shop", {"app": "shop:application"})
    serve_site(daemon)
    before = sorted(daemon.workers()), daemon.workers("shop")
    outcome = reload(daemon)
    assert outcome.code == 0
    assert outcome.progress.splitlines() == ["pool shop is unchanged", "pool www is unchanged"]
    assert (sorted(daemon.workers()), daemon.workers("shop")) == before
    write_site(daemon, "two", name="shop")
    assert reload(daemon).code == 0
    assert sorted(daemon.workers()) == before[0]
    assert daemon.workers("shop") != before[1]
    assert version(daemon, "shop") == "two"


def test_the_probe_gets_what_every_request_gets(daemon: Daemon) -> None:
    daemon.write_app("site_of_mine.py", WITH_OUR_KEYS)
    timed = {"reload_probe": "/", "request_terminate_timeout": "60s"}
    daemon.add_pool("www", {"app": "site_of_mine:application", **timed})
    daemon.start()
    assert daemon.get("/").status == 200
    daemon.write_app("site_of_mine.py", f"{WITH_OUR_KEYS}\n# changed")
    assert reload(daemon).code == 0


def test_a_pool_that_is_named_is_reloaded_whether_it_has_changed_or_not(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    before = daemon.workers("www"), daemon.workers("shop")
    assert reload(daemon, "shop").code == 0
    assert daemon.workers("www") == before[0]
    assert daemon.workers("shop") != before[1]
    assert reload(daemon, everything=True).code == 0
    assert (report(daemon).generation, report(daemon, "shop").generation) == (2, 3)


def test_a_directive_that_changed_is_taken_over(daemon: Daemon) -> None:
    daemon.add_pool("www", {"env[COLOUR]": "red"})
    daemon.start()
    daemon.pools["www"].update({"env[COLOUR]": "blue", "pm.max_children": 3})
    assert reload(daemon).code == 0
    assert b'"COLOUR": "blue"' in daemon.get("/environment").body
    assert len(daemon.engage(3)) == 3
    daemon.pools["www"]["pm.max_children"] = 1
    assert reload(daemon).code == 0
    assert report(daemon).max == 1


def test_pools_come_and_go(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    with in_hand(daemon, pool="shop") as (client,):
        daemon.gate.wait_inside()
        shop = daemon.pools.pop("shop")
        daemon.add_pool("blog")
        outcome = reload(daemon)
        assert outcome.code == 0, outcome
        assert "pool shop is closed" in outcome.progress
        assert "pool blog is new" in outcome.progress
        assert daemon.get("/pid", pool="blog").status == 200
        # What is in hand is finished, and then nothing is left of it.
        daemon.gate.release()
        assert client.receive().status == 200
    daemon.wait_log(r"\[pool shop\] this pool is closed")
    assert not os.path.exists(str(shop["listen"]))
    assert daemon.workers("shop") == []
    # And it may come back.
    daemon.pools["shop"] = shop
    assert reload(daemon).code == 0
    assert daemon.get("/pid", pool="shop").status == 200


def test_a_pool_in_trouble_is_tried_again_at_once(daemon: Daemon) -> None:
    """Who has repaired it does not want to wait for the end of a pause of up to 30 seconds."""
    write_site(daemon, "one", "import a_module_that_nobody_has")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.add_pool("shop")
    daemon.expect("cannot load deployed:application")
    daemon.expect("does not serve|failed twice")
    daemon.start()
    still = reload(daemon)
    assert (still.code, "a_module_that_nobody_has" in still.text) == (1, True), still
    write_site(daemon, "two")
    clock = Stopwatch()
    assert reload(daemon).code == 0
    assert version(daemon) == "two"
    assert clock.fair < 10
    daemon.expect("reload refused")


# ── listeners and logs ──────────────────────────────────────────────────────────────────────────────────────────────


def test_another_listen_is_taken_over_and_the_old_one_tidied_up(daemon: Daemon) -> None:
    serve_site(daemon, 1)
    old = daemon.address()
    daemon.pools["www"]["listen"] = daemon.folder / "other.sock"
    assert reload(daemon).code == 0
    assert version(daemon) == "one"
    assert not os.path.exists(str(old))
    # A refused one leaves nothing lying, and the address that serves alone.
    daemon.pools["www"]["listen"] = daemon.folder / "third.sock"
    write_site(daemon, "two", "raise RuntimeError('broken')")
    daemon.expect("cannot load deployed:application|reload refused")
    assert reload(daemon).code == 1
    assert not (daemon.folder / "third.sock").exists()
    daemon.pools["www"]["listen"] = daemon.folder / "other.sock"
    assert version(daemon) == "one"


def test_a_stop_in_the_middle_leaves_no_socket_lying(daemon: Daemon) -> None:
    """Three pools with new addresses: two at a time are loading, one has not begun."""
    write_site(daemon, "one")
    names = ("www", "shop", "blog")
    for name in names:
        daemon.add_pool(name, {"app": "deployed:application"})
    daemon.start()
    write_site(daemon, "two", "apps.enter_and_wait()")
    for name in names:
        daemon.pools[name]["listen"] = daemon.folder / f"new-{name}.sock"
    daemon.write_config()
    waiting = Question(daemon, Verb.RELOAD)
    daemon.gate.wait_inside(2)
    assert daemon.stop(signal.SIGQUIT) == 0
    assert waiting.answer() == (1, "", "the daemon is stopping")
    # That no socket is left is for the fixture to find.


def test_mode_and_owner_are_applied_again(daemon: Daemon) -> None:
    daemon.add_pool("www", {"listen.mode": "0600"})
    daemon.start()
    path = str(daemon.address())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    inode = os.stat(path).st_ino
    daemon.pools["www"].update({"listen.mode": "0666", "listen.backlog": 7})
    if AS_ROOT:
        daemon.pools["www"]["listen.owner"] = POOL_USER
    assert reload(daemon).code == 0
    after = os.stat(path)
    assert stat.S_IMODE(after.st_mode) == 0o666
    assert after.st_ino == inode, "the same socket: nobody was turned away"
    assert after.st_uid == (pwd.getpwnam(POOL_USER).pw_uid if AS_ROOT else os.getuid())
    # Somebody has changed it by hand: a reload of what did not change puts it right.
    os.chmod(path, 0o600)
    assert reload(daemon).code == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


def test_the_backlog_is_applied_again(daemon: Daemon) -> None:
    daemon.add_pool("www", {"listen.backlog": 50})
    daemon.start()
    daemon.pools["www"]["listen.backlog"] = 1
    assert reload(daemon).code == 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(in_hand(daemon))
        (pid,) = daemon.gate.wait_inside()
        queued = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(10):
                client = stack.enter_context(Connection(daemon.address(), timeout=0))
                queued += bool(client)
        assert queued == 2, "unix(7) takes one more than the backlog"
        daemon.gate.release()
    assert pid


def test_logs_and_levels_are_taken_over(daemon: Daemon) -> None:
    first, second = daemon.folder / "first.log", daemon.folder / "second.log"
    daemon.add_pool("www", {"access.log": first, "access.format": '"%r"'})
    daemon.start()
    daemon.get("/pid/1")
    daemon.pools["www"]["access.log"] = second
    assert reload(daemon).code == 0
    daemon.get("/pid/2")
    assert (first.read_text(), second.read_text()) == ("/pid/1\n", "/pid/2\n")
    before = daemon.log_end()
    daemon.set_global({"error_log": daemon.folder / "other.log", "log_level": "debug"})
    assert reload(daemon).code == 0
    assert "reloaded" in (daemon.folder / "other.log").read_text()
    assert reload(daemon, "www").code == 0
    assert "DEBUG: " in (daemon.folder / "other.log").read_text()
    assert "reloaded" not in daemon.log.read()[before:].replace("Reloading", "")


# ── under load ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_request_is_lost_under_load_and_no_more_workers_than_allowed(daemon: Daemon) -> None:
    serve_site(daemon, 4)
    with Load(daemon.address(), "/slow", clients=8) as load, Headcount(daemon) as count:
        for number in range(4):
            write_site(daemon, str(number))
            assert reload(daemon, "www").code == 0
            begun = load.begun
            load.wait_answers(20)
            # Those that an old worker had in hand may come out late; whoever comes now has the new code.
            assert {body for one, body in load.answered if one > begun} == {str(number).encode()}
    assert (load.lost, load.refused) == ([], 0)
    assert len(count.seen) == 5 * 4
    # Four, and one more by reload_surge; four may be finishing a request of theirs meanwhile.
    assert count.most <= 4 + 1 + 4


def test_idle_workers_are_replaced_within_the_surge(daemon: Daemon) -> None:
    serve_site(daemon, 4)
    with Headcount(daemon) as count:
        assert reload(daemon, "www").code == 0
    assert count.most <= 5, "four and one, of which none had a request to finish"


def test_a_flood_of_usr2_and_hup(daemon: Daemon) -> None:
    serve_site(daemon, 2)
    with Load(daemon.address(), "/slow", clients=4) as load:
        for number in range(25):
            daemon.send_signal(signal.SIGUSR2 if number % 2 else signal.SIGHUP)
            time.sleep(number / 1000)  # the gaps are what is tried: 0 to 24 ms
        write_site(daemon, "two")
        start = daemon.log_end()
        daemon.send_signal(signal.SIGUSR2)
        daemon.wait_log(r"reloaded, generation \d+ serves", start=start)
        load.wait_answers(10)
    assert (load.lost, load.refused) == ([], 0)
    assert version(daemon) == "two"
    assert reload(daemon).code == 0, "and nothing of it is left in the way"


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP])
def test_by_signal(daemon: Daemon, number: signal.Signals) -> None:
    serve_site(daemon, 1)
    write_site(daemon, "two")
    daemon.send_signal(number)
    daemon.wait_log(r"\[pool www\] reloaded, generation 2 serves")
    assert version(daemon) == "two"


def test_a_second_reload_is_queued_and_a_third_joins_it(daemon: Daemon) -> None:
    serve_site(daemon, 1)
    write_site(daemon, "two", "apps.enter_and_wait()")
    first = Question(daemon, Verb.RELOAD)
    daemon.gate.wait_inside()
    others = [Question(daemon, Verb.RELOAD, "www") for _ in range(3)]
    # Asked for while the first one loads; the answer to this one comes from the same turn or a later one.
    assert report(daemon).state == "reloading"
    write_site(daemon, "three")
    daemon.gate.release()
    assert first.answer().code == 0
    assert [other.answer().code for other in others] == [0, 0, 0]
    assert version(daemon) == "three"
    assert report(daemon).generation == 3


def test_a_request_in_hand_is_finished_by_the_old_code(daemon: Daemon) -> None:
    serve_site(daemon, 1)
    with in_hand(daemon) as (client,):
        (old,) = daemon.gate.wait_inside()
        write_site(daemon, "two")
        assert reload(daemon).code == 0, "it does not wait for that"
        assert version(daemon) == "two"
        process = Watched(old)
        daemon.gate.release()
        assert int(client.receive().body) == old
    process.wait_exit()
    process.close()


# A worker is forked and held at the gate, before it has said that it is there. (The fork before is the template's.)
_HELD_BIRTHS = """
def hold():
    if os.getppid() != template and os.path.exists({marker!r}):
        apps.enter_and_wait()


template = os.getpid()
os.register_at_fork(after_in_child=hold)
"""


def test_an_old_worker_that_is_being_born_is_waited_for(daemon: Daemon) -> None:
    """Else it would answer with the old code when everybody has been told that the reload is over."""
    marker = daemon.folder / "hold"
    write_site(daemon, "one", _HELD_BIRTHS.format(marker=str(marker)))
    daemon.add_pool("www", {"app": "deployed:application", "pm.max_children": 2})
    daemon.start()
    first, second = daemon.engage(2)
    marker.touch()
    daemon.expect(r"child \d+ exited on signal 9")
    os.kill(first, signal.SIGKILL)
    (unborn,) = daemon.gate.wait_inside()
    write_site(daemon, "two")
    waiting = Question(daemon, Verb.RELOAD)
    wait_exit(second)
    daemon.engage(2)  # the new ones serve, all that are wanted
    assert report(daemon).state == "reloading"
    daemon.gate.release()
    assert waiting.answer().code == 0
    assert version(daemon) == "two"
    daemon.wait_log(rf"child {unborn} started(.|\n)*reloaded, generation 2 serves")


def test_an_idle_kept_connection_does_not_hold_it_up(daemon: Daemon) -> None:
    serve_site(daemon, 1)
    with Connection(daemon.address()) as client:
        old = int(client.request(get_parameters("/pid")).body)
        process = Watched(old)
        write_site(daemon, "two")
        assert reload(daemon).code == 0
        process.wait_exit()
        process.close()
        assert client.socket.recv(1) == b""


def test_a_request_in_hand_has_its_limit(daemon: Daemon) -> None:
    daemon.set_global({"process_control_timeout": "1.5s"})
    serve_site(daemon, 1)
    with in_hand(daemon) as (client,):
        (old,) = daemon.gate.wait_inside()
        process = Watched(old)
        daemon.expect(r"child \d+ exited on signal 15")
        clock = Stopwatch()
        assert reload(daemon, "www").code == 0
        process.wait_exit()
        assert clock.elapsed > 1.5
        process.close()
        assert client.receive().ended is None


# ── how many there are afterwards ───────────────────────────────────────────────────────────────────────────────────


def test_an_ondemand_pool_without_workers(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application", "pm": "ondemand", "pm.max_children": 3})
    daemon.start()
    assert daemon.workers() == []
    write_site(daemon, "two")
    assert reload(daemon).code == 0
    assert version(daemon) == "two"


def test_a_dynamic_pool_has_as_many_as_before_while_they_are_needed(daemon: Daemon) -> None:
    write_site(daemon, "one")
    spares = {"pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 6}
    daemon.add_pool("www", {"app": "deployed:application", "pm": "dynamic", "pm.max_children": 6, **spares})
    daemon.start()
    assert len(daemon.engage(5)) == 5
    write_site(daemon, "two")
    assert reload(daemon).code == 0
    assert report(daemon).generation == 2
    assert len(daemon.engage(5)) == 5


def test_a_reload_while_the_pool_is_waiting_for_requests_to_come_whole(daemon: Daemon) -> None:
    """A client that has sent half a request is served by whom it got."""
    serve_site(daemon, 1)
    with Connection(daemon.address()) as client:
        whole = request_bytes(get_parameters("/version"))
        client.send(whole[:40])
        # A second client's request is answered only once somebody else accepts: by the new generation.
        write_site(daemon, "two")
        assert reload(daemon).code == 0
        client.send(whole[40:])
        assert client.receive().body in (b"one", b"two")
