"""The monitor: it answers when nobody else can, over HTTP and FastCGI, and stands in nobody's way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pyfpm.clients import Clients
from pyfpm.monitor.server import Server
from pyfpm.monitor.shown import Shown, ShownBoard, ShownPool
from pyfpm.scoreboard import RUNNING, Scoreboard
from tests.harness import http_client
from tests.harness.daemon import Settings, fresh_daemon
from tests.harness.fcgi_client import Connection, get_parameters, request, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.nginx import fresh_nginx
from tests.harness.sockets import listening, port_of
from tests.harness.waits import PATIENCE, Deadline, watching
from tests.unit.status.boards import seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.fcgi_client import Address
    from tests.harness.stage import Stage

FOR_NGINX: Settings = {"listen.owner": POOL_USER} if AS_ROOT else {}


def own(daemon: Daemon, pool: str = "www") -> str:
    """The status address of one pool."""
    return str(daemon.folder / f"{pool}.status.sock")


def watched_pool(daemon: Daemon, pool: str = "www", **more: object) -> None:
    pages: Settings = {"pm.status_path": "/fpm/status", "ping.path": "/fpm/ping", "pm.status_listen": own(daemon, pool)}
    daemon.add_pool(pool, {**pages, **FOR_NGINX, **{name.replace("__", "."): value for name, value in more.items()}})


@contextlib.contextmanager
def watched(daemon: Daemon) -> Iterator[Address]:
    """The daemon's pools, started, and the address where all of them are to be seen."""
    with listening() as sock:
        daemon.set_global({"status_listen": f"127.0.0.1:{port_of(sock)}"})
        daemon.start(sockets=[sock])
        yield ("127.0.0.1", port_of(sock))


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[tuple[Daemon, Address]]:
    """Two pools, one of which has no worker."""
    with fresh_daemon(stage) as daemon:
        watched_pool(daemon, "www", pm__max_children=2)
        daemon.add_pool("shop", {"pm": "ondemand", "ping.path": "/shop/ping", "ping.response": "all well"})
        daemon.pools["shop"]["pm.max_children"] = 3
        with watched(daemon) as address:
            daemon.engage(2)
            yield daemon, address


def status(address: Address, target: str = "/?json&full") -> dict[str, object]:
    found: dict[str, object] = json.loads(http_client.get(address, target).body)
    return found


def wait_for(what: Callable[[], object], awaited: str) -> None:
    """What the master tells the monitor with its next turn is asked for until it is there."""
    deadline = Deadline(PATIENCE, awaited)
    while not what():
        deadline.pause()


def wait_monitor(daemon: Daemon, before: int = 0) -> int:
    """The pid of a monitor that is not the one before."""
    wait_for(lambda: daemon.monitor() not in (0, before), "a monitor")
    return daemon.monitor()


# ── what it answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pools_own_address_over_http(site: tuple[Daemon, Address]) -> None:
    daemon, _ = site
    for target in ("/?json", "/status?json", "/fpm/status?json"):
        page = http_client.get(own(daemon), target)
        assert (page.status, page.headers["content-type"]) == (200, "application/json")
        assert json.loads(page.body)["pool"] == "www"
    assert http_client.get(own(daemon), "/fpm/ping").body == b"pong"
    assert http_client.get(own(daemon), "/pid").status == 404, "no application answers here"
    refused = http_client.get(own(daemon), "/", "POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    head = http_client.get(own(daemon), "/?json", "HEAD")
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/json")
    assert int(head.headers["content-length"]) > 100


def test_a_pools_own_address_over_fastcgi(site: tuple[Daemon, Address]) -> None:
    daemon, _ = site
    for path in ("/", "/fpm/status", "/whatever/the/front/server/calls/it"):
        answer = request(own(daemon), get_parameters(path, "json"))
        assert (answer.status, json.loads(answer.body)["pool"]) == (200, "www")
    assert request(own(daemon), get_parameters("/fpm/ping")).body == b"pong"
    assert request(own(daemon), get_parameters("/", "json", REQUEST_METHOD="HEAD")).body == b""
    assert request(own(daemon), get_parameters("/metrics")).body.startswith(b"# HELP pyfpm_up")


def test_a_pools_own_address_shows_no_other(site: tuple[Daemon, Address]) -> None:
    daemon, _ = site
    assert status(own(daemon), "/?json&pool=shop")["pool"] == "www"
    assert b'pool="shop"' not in http_client.get(own(daemon), "/metrics?pool=shop").body


def test_all_pools(site: tuple[Daemon, Address]) -> None:
    _, address = site
    pools = status(address)["pools"]
    assert isinstance(pools, list)
    assert [(pool["pool"], pool["max children"], len(pool["processes"])) for pool in pools] == [
        ("www", 2, 2),
        ("shop", 3, 0),
    ]
    assert status(address, "/?json&pool=shop")["pool"] == "shop"
    assert len(status(address, "/?json&pool=shop&pool=www")["pools"]) == 2  # type: ignore[arg-type]
    assert http_client.get(address, "/?pool=%3Cb%3E").body == b"no such pool: <b>\n"
    assert http_client.get(address, "/shop/ping").body == b"all well"


def test_what_a_page_for_people_may_do(site: tuple[Daemon, Address]) -> None:
    _, address = site
    page = http_client.get(address, "/?html")
    assert page.headers["content-type"] == "text/html;charset=UTF-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "no-store" in page.headers["cache-control"]
    assert "access-control-allow-origin" not in page.headers


def test_the_template_of_a_pool_that_sleeps_is_ready(site: tuple[Daemon, Address]) -> None:
    _, address = site
    wait_for(lambda: status(address, "/?json&pool=shop")["template"] == "ready", "its template")


# ── when nobody else answers ────────────────────────────────────────────────────────────────────────────────────────


def test_all_workers_are_stuck(daemon: Daemon, stage: Stage) -> None:
    watched_pool(daemon, pm__max_children=2)
    with watched(daemon) as address, contextlib.ExitStack() as stack:
        for number in range(2):
            client = stack.enter_context(Connection(daemon.address()))
            client.send(request_bytes(get_parameters("/block", f"n={number}")))
        stuck = daemon.gate.wait_inside(2)
        for asked in (own(daemon), address):
            pool = status(asked, "/?json&full&pool=www")
            assert (pool["active processes"], pool["idle processes"]) == (2, 0)
            shown = {one["pid"]: one["request uri"] for one in pool["processes"]}  # type: ignore[attr-defined]
            assert set(shown) == set(stuck)
            assert set(shown.values()) == {"/block?n=0", "/block?n=1"}
        assert request(own(daemon), get_parameters("/ping", "json")).status == 200
        more = """
            location = /people { proxy_pass http://over_http/?html; }
            location = /ping { proxy_pass http://over_http/fpm/ping; }
        """
        with fresh_nginx(stage, {"over_fastcgi": own(daemon), "over_http": own(daemon)}, server_more=more) as nginx:
            page = nginx.get("over_fastcgi", "/fpm/status?json&full")
            assert json.loads(page.body)["active processes"] == 2
            assert nginx.get("over_fastcgi", "/fpm/ping").body == b"pong"
            assert b"</html>" in nginx.get("over_http", "/people").body
            assert nginx.get("over_http", "/ping").body == b"pong"
            assert nginx.errors() == ""
        daemon.gate.release(2)


def test_the_master_stands_still(daemon: Daemon) -> None:
    watched_pool(daemon)
    with watched(daemon) as address:
        wait_monitor(daemon)
        assert status(own(daemon))["pool"] == "www"
        daemon.send_signal(signal.SIGSTOP)
        try:
            assert status(own(daemon))["pool"] == "www"
            assert len(status(address)["pools"]) == 1  # type: ignore[arg-type]
        finally:
            daemon.send_signal(signal.SIGCONT)


def test_a_monitor_that_was_killed_is_replaced_and_nobody_was_refused(daemon: Daemon) -> None:
    watched_pool(daemon)
    with watched(daemon) as address:
        assert status(address)
        first = daemon.monitor()
        daemon.send_signal(signal.SIGSTOP)  # so that there is none for a while
        with watching(first) as (process,):
            os.kill(first, signal.SIGKILL)
            process.wait_exit()
        with contextlib.closing(http_client.connect(address)) as waiting, Connection(own(daemon)) as too:
            waiting.sendall(http_client.request_bytes("/?json"))
            too.send(request_bytes(get_parameters("/", "json")))
            daemon.send_signal(signal.SIGCONT)
            assert http_client.read(waiting).status == 200
            assert too.receive().status == 200
        daemon.wait_log(rf"WARNING: the monitor, pid {first}, exited on signal 9")
        assert daemon.monitor() != first


def test_it_dies_with_the_master(daemon: Daemon) -> None:
    watched_pool(daemon)
    daemon.start()
    assert wait_monitor(daemon)
    status(own(daemon))
    with watching(*daemon.family()) as everybody:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait_exit()
        for process in everybody:
            process.wait_exit()


def test_there_is_none_where_nobody_would_ask_it(served: Daemon) -> None:
    assert served.monitor() == 0


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workers_of_both_generations(daemon: Daemon) -> None:
    watched_pool(daemon, pm__max_children=2)
    daemon.start()
    with Connection(daemon.address()) as old:
        old.send(request_bytes(get_parameters("/block")))
        (pid,) = daemon.gate.wait_inside()
        assert daemon.run("reload", "--all").returncode == 0

        def generations() -> set[int]:
            return {one["generation"] for one in status(own(daemon))["processes"]}  # type: ignore[attr-defined]

        wait_for(lambda: generations() == {1, 2}, "two generations")
        shown = {one["pid"]: one["generation"] for one in status(own(daemon))["processes"]}  # type: ignore[attr-defined]
        assert shown[pid] == 1
        wait_for(lambda: status(own(daemon))["generation"] == 2, "the new one's facts")
        daemon.gate.release()
        assert old.receive().status == 200
    wait_for(lambda: generations() == {2}, "the end of the old one")


def test_addresses_change_with_a_reload(daemon: Daemon) -> None:
    watched_pool(daemon)
    daemon.add_pool("shop")
    with watched(daemon) as address:
        before = wait_monitor(daemon)
        daemon.pools["www"]["pm.status_listen"] = own(daemon, "moved")
        watched_pool(daemon, "blog")
        del daemon.pools["shop"]
        assert daemon.run("reload").returncode == 0
        assert status(own(daemon, "moved"))["pool"] == "www"
        assert status(own(daemon, "blog"))["pool"] == "blog"
        assert not os.path.exists(own(daemon))

        def names() -> list[str]:
            return [pool["pool"] for pool in status(address)["pools"]]  # type: ignore[attr-defined]

        wait_for(lambda: names() == ["www", "blog"], "the pools that there are")
        assert daemon.monitor() == before, "it is told, not started again"
        for pool in daemon.pools.values():
            pool["pm.status_listen"] = None
        daemon.set_global({"status_listen": None})
        with watching(before) as (process,):
            assert daemon.run("reload").returncode == 0
            process.wait_exit()
        assert not os.path.exists(own(daemon, "blog"))


def test_a_reload_that_is_refused_changes_nothing(daemon: Daemon) -> None:
    watched_pool(daemon)
    daemon.start()
    status(own(daemon))
    daemon.pools["www"].update({"pm.status_listen": own(daemon, "moved"), "app": "apps:missing"})
    daemon.expect("missing|refused")
    assert daemon.run("reload").returncode != 0
    assert status(own(daemon))["pool"] == "www"
    assert not os.path.exists(own(daemon, "moved"))


def test_an_upgrade_keeps_the_addresses(daemon: Daemon) -> None:
    watched_pool(daemon)
    with watched(daemon) as address:
        before = wait_monitor(daemon)
        inode = os.stat(own(daemon)).st_ino
        done = daemon.run("upgrade")
        assert done.returncode == 0, done.stderr
        assert status(own(daemon))["pool"] == "www"
        assert len(status(address)["pools"]) == 1  # type: ignore[arg-type]
        assert os.stat(own(daemon)).st_ino == inode
        assert daemon.monitor() != before


@pytest.mark.parametrize("where", ["pool", "global"])
def test_an_address_that_is_taken_is_an_error(daemon: Daemon, where: str) -> None:
    daemon.add_pool()
    if where == "pool":
        daemon.add_pool("shop", {"pm.status_listen": daemon.pools["www"]["listen"]})
    else:
        daemon.set_global({"status_listen": daemon.pools["www"]["listen"]})
    done = daemon.run("-t")
    assert done.returncode == 78
    assert "unable to set listen address as it's already used" in done.stderr


# ── clients that mean no good ───────────────────────────────────────────────────────────────────────────────────────


def test_silent_clients_hold_nobody_up(site: tuple[Daemon, Address]) -> None:
    daemon, address = site
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(contextlib.closing(http_client.connect(address))) for _ in range(200)]
        for number, one in enumerate(silent[100:]):
            with contextlib.suppress(OSError):  # it may have had to go already
                one.sendall(b"GET / HTT" if number % 2 else b"\x01\x01\x00")
        assert status(address)["pools"], "asked at once, answered at once"
        if AS_ROOT:
            assert len(os.listdir(f"/proc/{daemon.monitor()}/fd")) < 100, "who has been there the longest had to go"
        for one in silent[-10:]:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b"", "its time is over"


def run_until_told(server: Server) -> None:
    with contextlib.suppress(SystemExit):
        server.run()


def test_clients_that_do_not_read_hold_nobody_up() -> None:
    """A thousand workers make an answer that no socket holds; so the server is asked alone, without a daemon."""
    shown = Shown()
    board = Scoreboard.create("crowd", 1000)
    for slot in range(1000):
        seat(board, slot, RUNNING)
    shown.boards[1] = ShownBoard(board, "a:b")
    shown.pools[2] = ShownPool("www", [1], "/", None, "", Clients([]))
    server = Server(shown)
    ours, theirs = socket.socketpair()
    server.watch(theirs, lambda _: sys.exit())
    with listening() as sock, contextlib.ExitStack() as stack:
        server.listen(3, sock, 2)
        thread = threading.Thread(target=run_until_told, args=[server])
        thread.start()
        for _ in range(80):
            client = stack.enter_context(contextlib.closing(socket.socket()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(sock.getsockname())
            client.sendall(http_client.request_bytes("/?json&full"))
        page = http_client.get(sock.getsockname(), "/?json&full")
        assert len(json.loads(page.body)["processes"]) == 1000
        ours.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        server.close()
    theirs.close()
    shown.forget(1)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.0\n\n", 200),
        (b"\r\nHEAD / HTTP/1.0\r\n\r\n", 200),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"BREW / HTTP/1.0\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.0\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 30_000, 431),
        (b"POST / HTTP/1.0\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), 405),
    ],
)
def test_requests_that_are_odd(site: tuple[Daemon, Address], sent: bytes, expected: int) -> None:
    daemon, _ = site
    assert http_client.ask(own(daemon), sent).status == expected


def test_allowed_clients_are_asked_for(daemon: Daemon) -> None:
    with listening() as sock:
        watched_pool(daemon, listen__allowed_clients="192.0.2.1", pm__status_listen=f"127.0.0.1:{port_of(sock)}")
        daemon.start(sockets=[sock])
        with contextlib.closing(http_client.connect(("127.0.0.1", port_of(sock)))) as client:
            client.sendall(http_client.request_bytes())
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""


def test_a_monitor_that_cannot_go_on_is_not_the_end(daemon: Daemon) -> None:
    """Whoever kills it again and again gets it back more and more slowly, and the pool serves all the while."""
    watched_pool(daemon)
    daemon.start()
    daemon.expect("the monitor, pid")
    last = 0
    for _ in range(4):
        last = wait_monitor(daemon, last)
        os.kill(last, signal.SIGKILL)
    assert daemon.get("/pid").status == 200
    assert wait_monitor(daemon, last)


# ── what it counts ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_counters_never_fall_when_workers_go(daemon: Daemon) -> None:
    watched_pool(daemon, pm="ondemand", pm__max_children=3, pm__process_idle_timeout="0.2s")
    daemon.start()
    served, seen = 0, [0]
    for _ in range(2):
        for _ in range(3):
            pid = int(daemon.get("/pid").body)
            served += 1
        with watching(pid) as (process,):
            while process.is_alive():
                seen.append(accepted(daemon))
        for _ in range(20):
            seen.append(accepted(daemon))
    assert seen == sorted(seen)
    assert seen[-1] == served


def accepted(daemon: Daemon) -> int:
    page = json.loads(http_client.get(own(daemon), "/?json").body)
    return int(page["accepted conn"])


def test_what_is_gone_is_not_counted_as_idle(daemon: Daemon) -> None:
    """After an upgrade in which the old workers go later than the new ones come, and nobody asks for anything."""
    watched_pool(daemon, pm__max_children=3)
    daemon.start()
    first = daemon.workers()
    with watching(*first) as processes:
        assert daemon.run("upgrade").returncode == 0
        for process in processes:
            process.wait_exit()
    wait_for(lambda: json.loads(http_client.get(own(daemon), "/?json").body)["idle processes"] == 3, "three idle ones")
