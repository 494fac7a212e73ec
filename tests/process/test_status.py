"""The status page and the ping page: behind nginx and direct, and asked for as for PHP-FPM's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pyfpm.master.job import ELSEWHERE
from tests.harness.daemon import Settings, fresh_daemon
from tests.harness.fcgi_client import Connection, get_parameters, request, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.nginx import fresh_nginx
from tests.harness.sockets import listening, port_of
from tests.harness.waits import PATIENCE, Deadline
from tests.unit.status.documents import check_document
from tests.unit.status.test_formats import POOL, PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon
    from tests.harness.stage import Stage

PAGES: Settings = {"pm.status_path": "/fpm/status", "ping.path": "/fpm/ping"}
NEVER_KEPT = {
    "expires": "Thu, 01 Jan 1970 00:00:00 GMT",
    "cache-control": "no-cache, no-store, must-revalidate, max-age=0",
}
KINDS = {
    "": "text/plain;charset=UTF-8",
    "html": "text/html;charset=UTF-8",
    "xml": "text/xml;charset=UTF-8",
    "json": "application/json",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[Daemon]:
    """Pools of two workers on a unix socket and on TCP, one of them mounted below a path."""
    with fresh_daemon(stage) as daemon, listening() as sock:
        two: Settings = {**PAGES, "pm.max_children": 2, **({"listen.owner": POOL_USER} if AS_ROOT else {})}
        daemon.add_pool("unix", two)
        daemon.add_pool("tcp", {**two, "listen": f"127.0.0.1:{port_of(sock)}"})
        daemon.add_pool("shop", {**two, "mount": "/shop", "ping.response": "all well"})
        daemon.start(sockets=[sock])
        for name in ("unix", "tcp"):
            daemon.engage(2, name)
        yield daemon


def status(daemon: Daemon, pool: str = "www", query: str = "json&full") -> dict[str, object]:
    found: dict[str, object] = json.loads(daemon.get("/fpm/status", query, pool).body)
    return found


def wait_status(daemon: Daemon, condition: Callable[[dict[str, object]], bool], pool: str = "www") -> dict[str, object]:
    """What the master writes once a second is asked for until it is there."""
    deadline = Deadline(PATIENCE, "the status")
    while not condition(found := status(daemon, pool)):
        deadline.pause()
    return found


@pytest.mark.parametrize("pool", ["unix", "tcp"])
@pytest.mark.parametrize("query", KINDS)
@pytest.mark.parametrize("full", ["", "&full"])
def test_every_format(site: Daemon, pool: str, query: str, full: str) -> None:
    answer = site.get("/fpm/status", query + full, pool)
    assert (answer.status, answer.header("content-type")) == (200, KINDS[query])
    assert {name: answer.header(name) for name in NEVER_KEPT} == NEVER_KEPT
    assert answer.header("x-content-type-options") == "nosniff"
    policy = answer.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-") == (query == "html")
    text = answer.body.decode()
    if query == "json":
        assert tuple(json.loads(text))[: len(POOL)] == POOL
    elif query == "xml":
        assert ET.fromstring(text).findtext("pool") == pool
    elif query == "html":
        assert f"2 workers of {pool}" in check_document(text).text
    elif query == "openmetrics":
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        assert next(iter(families)).name == "pyfpm_up"
    else:
        assert pool in text
    head = site.get("/fpm/status", query + full, pool, REQUEST_METHOD="HEAD")
    assert (head.status, head.body, head.header("content-type")) == (200, b"", KINDS[query])


@pytest.mark.parametrize(
    ("more", "is_page"),
    [
        ({}, True),
        ({"SCRIPT_NAME": "", "PATH_INFO": "/fpm/status"}, True),  # lighttpd, Caddy
        ({"SCRIPT_NAME": "/fpm", "PATH_INFO": "/status"}, True),  # Apache's SetHandler
        ({"SCRIPT_NAME": "/index.py", "REQUEST_URI": "/fpm/status?json"}, True),
        ({"SCRIPT_NAME": "/fpm/status/"}, False),
        ({"SCRIPT_NAME": "/fpm/status2"}, False),
        ({"SCRIPT_NAME": "/FPM/status"}, False),
    ],
)
def test_it_is_found_however_the_path_is_passed(site: Daemon, more: dict[str, str], is_page: bool) -> None:
    parameters = get_parameters("/fpm/status", "json")
    parameters["REQUEST_URI"] = "/elsewhere"
    answer = request(site.address("unix"), {**parameters, **more})
    assert ("process manager" in json.loads(answer.body)) == is_page


def test_ping(site: Daemon) -> None:
    answer = site.get("/fpm/ping", pool="unix")
    assert (answer.status, answer.body, answer.header("content-type")) == (200, b"pong", KINDS[""])
    assert {name: answer.header(name) for name in NEVER_KEPT} == NEVER_KEPT
    assert site.get("/fpm/ping", pool="shop").body == b"all well", "outside the mount"
    assert site.get("/fpm/ping", pool="unix", REQUEST_METHOD="HEAD").body == b""


def test_behind_nginx(site: Daemon, stage: Stage) -> None:
    with fresh_nginx(stage, {name: site.address(name) for name in ("unix", "tcp")}) as nginx:
        for name in ("unix", "tcp"):
            page = nginx.get(name, "/fpm/status?json&full")
            assert (page.status, page.headers["Content-Type"]) == (200, "application/json")
            assert json.loads(page.body)["pool"] == name
            assert nginx.get(name, "/fpm/ping").body == b"pong"
            head = nginx.ask(name, "HEAD", "/fpm/status?xml")
            assert (head.status, head.body, head.headers["Content-Type"]) == (200, b"", KINDS["xml"])
        assert nginx.errors() == ""


def test_what_others_are_doing(site: Daemon) -> None:
    with Connection(site.address("unix")) as busy:
        busy.send(request_bytes(get_parameters("/block", "x=<b>", REMOTE_USER="anna")))
        (pid,) = site.gate.wait_inside()
        pool = status(site, "unix")
        site.gate.release()
        assert busy.receive().status == 200
    assert (pool["idle processes"], pool["active processes"], pool["total processes"]) == (0, 2, 2)
    assert isinstance(pool["processes"], list)
    (process,) = [one for one in pool["processes"] if one["pid"] == pid]
    assert tuple(process)[: len(PROCESS)] == PROCESS
    shown = [process[key] for key in ("state", "request method", "request uri", "user", "script")]
    assert shown == ["Running", "GET", "/block?x=<b>", "anna", "apps:application"]
    assert process["request duration"] > 0
    (own,) = [one for one in pool["processes"] if one["pid"] != pid]
    assert (own["state"], own["request uri"]) == ("Running", "/fpm/status?json&full")


def test_the_request_itself_counts(site: Daemon) -> None:
    first = status(site, "shop")
    second = status(site, "shop")
    assert int(str(second["accepted conn"])) == int(str(first["accepted conn"])) + 1


def test_a_hostile_request_is_shown_and_harms_nothing(site: Daemon) -> None:
    for uri in ("/<script>alert(1)</script>", "/\"'\\\r\npool: forged\x1b[2J", "/" + "x" * 65000):
        site.get("/pid", pool="tcp", REQUEST_URI=uri, REMOTE_USER=uri[:60])
        for query in ("full", "html&full", "xml&full", "json&full", "openmetrics&full"):
            text = site.get("/fpm/status", query, "tcp").body.decode()
            assert all(char.isprintable() or char == "\n" for char in text)
            assert "<script>alert" not in text or query in ("full", "json&full")
            if query == "json&full":
                json.loads(text)
            elif query == "xml&full":
                ET.fromstring(text)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_the_listen_queue_of_a_saturated_pool(daemon: Daemon, kind: str) -> None:
    with listening() as sock, contextlib.ExitStack() as stack:
        listen: Settings = {"listen": f"127.0.0.1:{port_of(sock)}"} if kind == "tcp" else {}
        daemon.add_pool("www", {**PAGES, **listen})
        daemon.start(sockets=[sock] if kind == "tcp" else [])
        clients = [stack.enter_context(Connection(daemon.address())) for _ in range(4)]
        clients[0].send(request_bytes(get_parameters("/block")))
        daemon.gate.wait_inside()
        for client in clients[1:]:
            client.send(request_bytes(get_parameters("/pid")))
        deadline = Deadline(PATIENCE, "three connections in the queue")
        while (report := json.loads(daemon.run("status", "--json").stdout))["queue"] != 3:
            deadline.pause()
        assert report["busy"] == 1
        # The worker that could answer is busy. What the master saw meanwhile is there afterwards.
        daemon.gate.release()
        for client in clients:
            assert client.receive().status == 200
    pool = wait_status(daemon, lambda pool: (pool["listen queue"], pool["max listen queue"]) == (0, 3))
    assert int(str(pool["listen queue len"])) > 0


def test_over_a_reload_nothing_is_counted_away(daemon: Daemon) -> None:
    daemon.add_pool("www", {**PAGES, "pm.max_children": 2, "pm.max_requests": 50})
    daemon.start()
    for _ in range(20):
        daemon.get("/pid")
    before = status(daemon)
    assert (before["generation"], before["last reload"]) == (1, "none")
    assert daemon.run("reload", "--all").returncode == 0
    after = wait_status(daemon, lambda pool: pool["generation"] == 2)
    assert after["last reload"] == "ok"
    assert int(str(after["accepted conn"])) >= int(str(before["accepted conn"])) + 1
    assert after["start time"] == before["start time"]
    assert (after["max children"], after["max requests"]) == (2, 50)


def test_what_is_wrong_with_another_pool_is_not_on_the_page(daemon: Daemon) -> None:
    daemon.add_pool("www", PAGES)
    daemon.start()
    daemon.add_pool("shop", {"pm.max_childern": 3})
    daemon.expect("max_childern|did you mean|reload refused")
    assert daemon.run("reload").returncode == 1
    after = wait_status(daemon, lambda pool: pool["last reload"] != "none")
    assert after["last reload"] == ELSEWHERE


def test_a_worker_that_was_killed_is_counted(daemon: Daemon) -> None:
    daemon.add_pool("www", {**PAGES, "pm.max_children": 2})
    daemon.start()
    victim, _ = daemon.engage(2)
    os.kill(victim, signal.SIGKILL)
    daemon.wait_log(f"child {victim} exited on signal 9")  # before that it may still accept, and take it along
    pool = wait_status(daemon, lambda pool: pool["crashed processes"] == 1)
    assert int(str(pool["accepted conn"])) >= 3
    assert "RESTARTS" in daemon.run("status").stdout


def test_workers_are_weighed_after_they_have_served(daemon: Daemon) -> None:
    daemon.add_pool("www", {**PAGES, "pm.max_children": 2})
    daemon.add_pool("other", {**PAGES})
    daemon.start()
    for name, workers in (("www", daemon.engage(2)), ("other", daemon.engage(1, "other"))):
        pool = wait_status(daemon, lambda pool: all(one["pss"] for one in processes_of(pool)), name)
        assert {one["pid"] for one in processes_of(pool)} == set(workers)
        weights = [int(str(one["pss"])) for one in processes_of(pool)]
        assert all(1 << 20 < weight < 1 << 27 for weight in weights)
        assert pool["memory"] == sum(weights)
    (pid,) = workers
    (before,) = weights
    daemon.get("/hold", "mb=30", "other")
    pool = wait_status(daemon, lambda pool: pool["memory"] != before, "other")
    assert int(str(pool["memory"])) - before > 25 << 20, f"process {pid} has grown"


def processes_of(pool: dict[str, object]) -> list[dict[str, object]]:
    found = pool["processes"]
    assert isinstance(found, list)
    return found


def test_a_health_check_as_it_is_written_for_php_fpm(site: Daemon) -> None:
    """What images of PHP-FPM ship, php-fpm-healthcheck for one: cgi-fcgi, and `key: number` of the text."""
    program = shutil.which("cgi-fcgi")
    assert program, "libfcgi-bin is not installed"
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/fpm/status", "SCRIPT_FILENAME": "/fpm/status"}
    done = subprocess.run(
        [program, "-bind", "-connect", str(site.address("unix"))],
        env={**environ, "QUERY_STRING": ""},
        capture_output=True,
        check=True,
        timeout=20,
    )
    _, _, text = done.stdout.decode().partition("\r\n\r\n")
    found = dict(line.split(":", 1) for line in text.splitlines())
    for key in ("accepted conn", "listen queue", "max listen queue", "active processes", "max children reached"):
        assert int(found[key]) >= 0, key
    ping = subprocess.run(
        [program, "-bind", "-connect", str(site.address("unix"))],
        env={"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/fpm/ping", "SCRIPT_FILENAME": "/fpm/ping"},
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert ping.stdout.endswith(b"\r\n\r\npong")


def test_without_the_directives_the_application_answers(served: Daemon) -> None:
    assert json.loads(served.get("/fpm/status").body)["PATH_INFO"] == "/fpm/status"
    modules = json.loads(served.get("/process").body)["modules"]
    assert not [name for name in modules if name.startswith("pyfpm.status")]


# ── against the original ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def php_fpm(stage: Stage) -> Iterator[Path]:
    """The socket of a real php-fpm with a status page."""
    program = next(filter(None, (shutil.which(f"php-fpm{version}") for version in ("8.4", "8.3", "8.2"))), None)
    if program is None:
        pytest.skip("no php-fpm here")
    folder = stage.folder("p")
    sock = folder / "php.sock"
    (folder / "fpm.conf").write_text(
        f"[global]\nerror_log = {folder}/log\n[www]\nlisten = {sock}\nuser = {POOL_USER}\npm = static\n"
        "pm.max_children = 2\npm.status_path = /fpm/status\nping.path = /fpm/ping\n"
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [program, "-F", "-O", "-R", "-n", "-y", str(folder / "fpm.conf")], stderr=write, stdin=subprocess.DEVNULL
    )
    os.close(write)
    try:
        with open(read) as said:
            assert any("ready to handle connections" in line for line in said)
            yield sock
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("full", ["", "&full"])
def test_the_same_keys_and_types_as_php_fpm(site: Daemon, php_fpm: Path, full: str) -> None:
    def ask(query: str) -> tuple[str, str]:
        parameters = get_parameters("/fpm/status", query, SCRIPT_FILENAME="/fpm/status")
        theirs, ours = (request(to, parameters) for to in (str(php_fpm), site.address("unix")))
        wanted = [*NEVER_KEPT, "content-type"]
        assert [ours.header(name) for name in wanted] == [theirs.header(name) for name in wanted]
        return theirs.body.decode(), ours.body.decode()

    theirs, ours = map(json.loads, ask("json" + full))
    assert_same_head(theirs, ours)
    for one in theirs.get("processes", ()):
        assert_same_head(one, ours["processes"][0])
    theirs, ours = (text.split("*" * 24)[0] for text in ask(full.lstrip("&")))
    keys = [line[:22] for line in theirs.strip().splitlines()]
    assert [line[:22] for line in ours.splitlines()][: len(keys)] == keys
    theirs, ours = map(ET.fromstring, ask("xml" + full))
    names = [one.tag for one in theirs if one.tag != "processes"]
    assert [one.tag for one in ours][: len(names)] == names
    if full:
        names = [one.tag for one in theirs.findall("processes/process")[0]]
        assert [one.tag for one in ours.findall("processes/process")[0]][: len(names)] == names


def assert_same_head(theirs: dict[str, object], ours: dict[str, object]) -> None:
    keys = [key for key in theirs if key != "processes"]
    assert list(ours)[: len(keys)] == keys
    assert [type(ours[key]) for key in keys] == [type(theirs[key]) for key in keys]


def test_the_same_ping_as_php_fpm(site: Daemon, php_fpm: Path) -> None:
    parameters = get_parameters("/fpm/ping", SCRIPT_FILENAME="/fpm/ping")
    theirs, ours = (request(to, parameters) for to in (str(php_fpm), site.address("unix")))
    names = [*NEVER_KEPT, "content-type"]
    assert ours.body == theirs.body
    assert [ours.header(name) for name in names] == [theirs.header(name) for name in names]
