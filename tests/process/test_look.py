"""An operator looks: which worker is stuck, in which line, since when; who has the memory; does it serve?"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER, interpreters
from tests.harness.waits import PATIENCE, Deadline, watching
from tests.process.test_slowlog import line_of, stuck_pool
from tests.process.test_verbs import STRANGER, as_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.interpreters import Interpreter

as_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to be other users")
FOREVER = "/sleep?seconds=60"
FOUND = list(interpreters().values())


@contextlib.contextmanager
def asking(daemon: Daemon, *uris: str, pool: str = "www") -> Iterator[dict[str, int]]:
    """Requests that stay in hand; which worker has which, once each is there. They end with their workers."""
    with contextlib.ExitStack() as stack:
        for uri in uris:
            path, _, query = uri.partition("?")
            client = stack.enter_context(Connection(daemon.address(pool)))
            client.send(request_bytes(get_parameters(path, query)))
        deadline = Deadline(PATIENCE, f"workers with {uris}")
        found: dict[str, int] = {}
        while len(found) < len(uris):
            (line,) = daemon.run("status", "--full", "--json", pool).stdout.splitlines()
            found = {one["uri"]: one["pid"] for one in json.loads(line)["workers"] if one["state"] == "Running"}
            deadline.pause()
        try:
            yield found
        finally:
            # Nobody waits for their end: a loop in C listens to nothing.
            daemon.expect("exited on signal 9")
            with watching(*found.values()) as workers:
                for worker in workers:
                    signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)
                    worker.wait_exit()


# ── stack ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_each_worker_is_stuck(daemon: Daemon) -> None:
    stuck_pool(daemon, {"pm.max_children": 4})
    daemon.start()
    (idle, *_) = daemon.engage(4)
    with asking(daemon, FOREVER, "/c", "/lock") as busy:
        done = daemon.run("stack", "www")
        assert (done.returncode, done.stderr) == (0, "")
        blocks = done.stdout.split("\n\n")
        assert len(blocks) == 4
        for uri, name in ((FOREVER, "sleep"), ("/c", "c"), ("/lock", "lock")):
            (block,) = [block for block in blocks if f": GET {uri}\n" in block]
            head, thread, call, *_ = block.splitlines()
            assert re.fullmatch(rf"pool www, worker {busy[uri]}, Running for \d+\.\ds: GET {re.escape(uri)}", head)
            assert thread == "  thread main"
            assert re.fullmatch(rf"    do_{name}\(\) .*/stuck\.py:{line_of(name)}", call)
            assert "pyfpm/" not in block
        (left,) = set(daemon.workers()) - set(busy.values())
        assert blocks[-1] == f"pool www, idle: {left}\n"
        one = daemon.run("stack", str(busy["/lock"]))
        assert "do_lock()" in one.stdout
        assert "do_c()" not in one.stdout
        assert "worker/main.py" in daemon.run("stack", "--all-frames", str(busy["/lock"])).stdout
        assert "in pyfpm itself: no call of the application" in daemon.run("stack", "--idle", "www").stdout
    assert idle


# How a version dumps its stacks is tested on all of them, by the slow log.
@pytest.mark.parametrize("one", dict.fromkeys([FOUND[0], FOUND[-1]]), ids=str)
def test_on_the_oldest_interpreter_and_on_the_newest(daemon: Daemon, one: Interpreter) -> None:
    stuck_pool(daemon)
    settings = daemon.pools.pop("www")
    daemon.add_pool_on(one, "www", {name: settings[name] for name in settings if name not in ("python", "user")})
    daemon.start(*daemon.options_for(one))
    with asking(daemon, "/lock"):
        assert f"stuck.py:{line_of('lock')}" in daemon.run("stack", "www").stdout


def test_a_worker_that_is_stopped_is_not_waited_for(daemon: Daemon) -> None:
    stuck_pool(daemon, {"pm.max_children": 2})
    daemon.start()
    daemon.engage(2)
    with asking(daemon, FOREVER, "/lock") as busy:
        os.kill(busy[FOREVER], signal.SIGSTOP)
        done = daemon.run("stack", "www")
        assert "no stacks: it is stopped, by SIGSTOP most often; SIGCONT lets it go on" in done.stdout
        assert "do_lock()" in done.stdout, "nor does it hold up the others"
        os.kill(busy[FOREVER], signal.SIGCONT)
        assert "do_sleep()" in daemon.run("stack", str(busy[FOREVER])).stdout


def test_a_pool_without_the_signal_says_so(daemon: Daemon) -> None:
    stuck_pool(daemon, {"slowlog_signal": "none"})
    daemon.start()
    with asking(daemon, FOREVER):
        assert "no stacks: it cannot be asked: its pool has no slowlog_signal" in daemon.run("stack", "www").stdout


def test_the_slow_log_and_a_person_get_the_same_dump(daemon: Daemon) -> None:
    slow_log = daemon.folder / "slow.log"
    stuck_pool(daemon, {"slowlog": slow_log, "request_slowlog_timeout": "0.1s"})
    daemon.start()
    daemon.expect("executing too slow")
    with asking(daemon, "/lock"):
        assert "do_lock()" in daemon.run("stack", "www").stdout
        daemon.wait_log("executing too slow")
        assert "do_lock()" in daemon.run("stack", "www").stdout
    assert "do_lock()" in slow_log.read_text()


def test_nobody_is_harmed_by_being_asked(daemon: Daemon) -> None:
    stuck_pool(daemon)
    daemon.start()
    daemon.expect("exited")
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/calls")))
        for _ in range(3):
            daemon.run("stack", "--idle", "www")
        assert client.receive().body == b"[True, True, True, True]"


def test_what_does_not_exist_is_wrong_usage(served: Daemon) -> None:
    served.expect("no such pool")
    for which in ("blog", "1", str(served.pid)):
        done = served.run("stack", which)
        assert (done.returncode, done.stderr) == (64, f"pyfpm: no such pool or worker: {which}\n")
    assert served.run("stack").returncode == 64


def test_a_pool_whose_name_is_a_number_has_its_own_stacks_only(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.start()
    (pid,) = daemon.workers("www")
    daemon.add_pool(str(pid))
    assert daemon.run("reload").returncode == 0
    assert daemon.workers("www") == [pid]
    (other,) = daemon.workers(str(pid))
    assert daemon.run("stack", str(pid)).stdout == f"pool {pid}, idle: {other}\n"


@as_root
def test_the_owner_of_a_pool_looks_at_his_own(daemon: Daemon) -> None:
    stuck_pool(daemon)
    daemon.add_pool("secret", {"user": "nobody"})
    daemon.start()
    daemon.expect("control: refused")
    owner = pwd.getpwnam(POOL_USER).pw_uid
    with asking(daemon, "/lock") as busy:
        assert "do_lock()" in as_user(owner, daemon, "stack", "www").stdout
        assert "do_lock()" in as_user(owner, daemon, "stack", str(busy["/lock"])).stdout
        others = as_user(owner, daemon, "stack", str(daemon.workers("secret")[0]))
        assert others[1:] == as_user(owner, daemon, "stack", "1")[1:], "whose a worker is, is nobody's business"
        assert others.code == 77
        assert as_user(owner, daemon, "ping", "www").code == 0
        assert as_user(owner, daemon, "ping", "secret").code == 77
        full = as_user(owner, daemon, "status", "--full")
        assert (full.code, "GET /lock" in full.stdout, "secret" in full.stdout) == (0, True, False)
        memory = as_user(owner, daemon, "memory")
        assert (memory.code, "process.dumpable" in memory.stdout) == (0, True)
    for verb in ("stack", "memory", "ping", "top"):
        assert as_user(STRANGER, daemon, verb, "www").code == 77, verb


# ── status --full ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_that_is_known(daemon: Daemon) -> None:
    stuck_pool(daemon, {"pm.max_children": 2, "pm.status_path": "/status", "pm.max_requests": 500})
    daemon.start()
    daemon.engage(2)
    with asking(daemon, FOREVER) as busy:
        report = json.loads(daemon.run("status", "--full", "--json").stdout)
        (stuck,) = [one for one in report["workers"] if one["pid"] == busy[FOREVER]]
        (idle,) = [one for one in report["workers"] if one["pid"] != busy[FOREVER]]
        assert (stuck["state"], stuck["method"], stuck["uri"]) == ("Running", "GET", FOREVER)
        assert stuck["elapsed"] >= 0
        assert (idle["state"], idle["requests"] >= 1) == ("Idle", True)
        assert (report["busy"], report["idle"], report["max_requests"], report["template"]) == (1, 1, 500, "ready")
        assert report["template_pid"] == daemon.template()
        text = daemon.run("status", "--full", "www").stdout
        assert "www: serving, pm = static, generation 1, up for " in text
        assert "recycled (after 500 requests)" in text
        assert re.search(rf"^ +{busy[FOREVER]}  Running .* GET {re.escape(FOREVER)}$", text, re.MULTILINE)


def test_many_workers_with_long_requests_come_whole(daemon: Daemon) -> None:
    stuck_pool(daemon, {"pm.max_children": 100})
    daemon.start()
    daemon.engage(100)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(Connection(daemon.address()))
            hostile = get_parameters("/block", REQUEST_URI="/" + "\x1b" * 60_000)
            client.send(request_bytes(hostile))
        daemon.gate.wait_inside(100)
        report = json.loads(daemon.run("status", "--full", "--json").stdout)
        assert len(report["workers"]) == 100
        assert {one["uri"] for one in report["workers"]} == {"/" + "\\x1b" * 498 + "\\x[...]"}
        daemon.gate.release(100)


# ── memory and ping ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_has_the_memory(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.add_pool("blog", {"pm": "ondemand"})
    daemon.start()
    workers = set(daemon.engage(3))
    table = daemon.run("memory").stdout
    assert re.search(rf"^-     master +{daemon.pid} ", table, re.MULTILINE)
    assert re.search(
        r"^www: [\d.]+M for 3 workers and the template; one more would cost about [\d.]+[KM]$", table, re.M
    )
    master, www = [json.loads(line) for line in daemon.run("memory", "--json", "www").stdout.splitlines()]
    assert master["master"]["pid"] == daemon.pid
    assert {one["pid"] for one in www["workers"]} == workers
    for one in (*www["workers"], www["template"], master["master"]):
        assert 0 < one["private"] <= one["pss"] <= one["rss"] <= one["peak"]
        assert one["rss"] == one["private"] + one["shared"]
    assert www["pss"] == sum(one["pss"] for one in (*www["workers"], www["template"]))


def test_ping(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("bad", {"app": "apps:nothing"})
    daemon.start()
    daemon.expect("bad|no such pool")
    assert daemon.run("ping").returncode == 0
    assert daemon.run("ping", "www").stdout == "serving\n"
    done = daemon.run("ping", "www", "bad")
    assert (done.returncode, done.stderr) == (1, "pyfpm: not serving: bad\n")
    assert daemon.run("ping", "nix").returncode == 64
    daemon.stop()
    assert daemon.run("ping").returncode == 69
