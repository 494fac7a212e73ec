"""Who has waited longer than request_queue_timeout gets 503 and is never run; who has not is served."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.crowd import Visit, come, fastcgi, http
from tests.harness.daemon import Settings
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.nginx import fresh_nginx
from tests.harness.sockets import listening, port_of
from tests.harness.waits import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.harness.daemon import Daemon

LIMIT = 0.3
WORK = 0.05  # seconds a request: two workers serve 40 a second
STAMP = 'fastcgi_param REQUEST_START "$msec";'
KINDS = ("unix", "tcp")
APP = f"""\
import os, time
from urllib.parse import parse_qs
def application(environ, start_response):
    question = parse_qs(environ["QUERY_STRING"])
    with open(os.environ["MARKS"], "ab", buffering=0) as marks:
        marks.write(question["n"][0].encode() + b"\\n")
    time.sleep(float(question.get("seconds", [{WORK}])[0]))  # the work
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


class Site:
    """A pool of the application above, with its access log and its own account of who was run."""

    def __init__(self, daemon: Daemon, kind: str, settings: Settings) -> None:
        self.daemon = daemon
        self.marks = daemon.folder / "marks"
        self.marks.touch()
        self.marks.chmod(0o666)
        self.log = daemon.folder / "access.log"
        daemon.write_app("slow.py", APP)
        sockets = [listening()] if kind == "tcp" else []
        daemon.add_pool(
            "www",
            {
                "app": "slow:application",
                "pm.max_children": 2,
                "request_queue_timeout": f"{LIMIT}s",
                "listen.backlog": 1000,
                "access.log": self.log,
                "access.format": "json",
                "env[MARKS]": self.marks,
                **({"listen": f"127.0.0.1:{port_of(sockets[0])}"} if sockets else {}),
                **({"listen.owner": POOL_USER} if AS_ROOT and kind == "unix" else {}),
                **settings,
            },
        )
        daemon.start(sockets=sockets)
        for sock in sockets:
            sock.close()

    def run(self) -> list[int]:
        """The numbers of the requests that the application has seen."""
        return sorted(int(line) for line in self.marks.read_text().split())

    def entries(self) -> dict[int, dict[str, Any]]:
        """The access log by the requests' numbers."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return {int(re.findall(r"n=(\d+)", entry["query"])[0]): entry for entry in found if "n=" in entry["query"]}

    def wait_entries(self, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
        """The same, once these are there: behind a front server an answer may be here before its line is."""
        awaited = set(numbers)
        wait_for(lambda: awaited <= self.entries().keys(), "the lines of the access log")
        return self.entries()

    def check(self, visits: list[Visit]) -> None:
        """Each was served, or had waited too long; and who was refused was never run."""
        assert self.run() == [visit.number for visit in visits if visit.status == 200]
        entries = self.wait_entries(visit.number for visit in visits)
        for visit in visits:
            assert entries[visit.number]["status"] == visit.status
            if visit.status == 503:
                assert "retry-after: 10" in visit.head
                taken_up = datetime.fromisoformat(entries[visit.number]["time"]).timestamp() + 0.001  # it is cut
                assert taken_up - visit.came > LIMIT, "it had not waited so long"


def refused(visits: list[Visit]) -> list[int]:
    return [visit.number for visit in visits if visit.status == 503]


def test_without_the_directive_all_wait(daemon: Daemon) -> None:
    """The default is off."""
    site = Site(daemon, "unix", {"request_queue_timeout": None, "pm.max_children": 1})
    visits = come(daemon.address(), fastcgi("/"), 20, 0.01)
    site.check(visits)
    assert refused(visits) == []


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_waited_too_long_is_refused_and_others_are_not(daemon: Daemon, kind: str) -> None:
    site = Site(daemon, kind, {"pm.max_children": 1})
    address = daemon.address()
    with Connection(address) as first:
        first.send(request_bytes(get_parameters("/", "n=1000&seconds=2")))
        early = come(address, fastcgi("/"), 10, 0.02)
        assert first.receive().status == 200
    assert refused(early) == list(range(10)), "all of them have waited for more than a second"
    assert len(site.run()) == 1
    late = [visit._replace(number=visit.number + 10) for visit in come(address, fastcgi("/"), 3, 0.001)]
    assert refused(late) == [], "recovery is at once"
    daemon.get("/", "n=2000")
    assert json.loads(daemon.run("status", "--json").stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_it_can_serve(daemon: Daemon, kind: str) -> None:
    site = Site(daemon, kind, {})
    visits = come(daemon.address(), fastcgi("/"), 300, 0.01)
    site.check(visits)
    served = [visit for visit in visits if visit.status == 200]
    assert len(refused(visits)) > 20
    assert len(served) > 60, "the others are served all the while"


def test_with_a_reload_in_the_midst(daemon: Daemon) -> None:
    site = Site(daemon, "unix", {})
    visits = come(daemon.address(), fastcgi("/"), 500, 0.01, {150: lambda: daemon.send_signal(signal.SIGHUP)})
    site.check(visits)
    daemon.wait_log(r"(?m)NOTICE: reloaded$")
    assert min(refused(visits)) < 150
    assert max(refused(visits)) > 300, "it goes on in the new generation"


def test_when_workers_come_and_go(daemon: Daemon) -> None:
    """Their counts leave the scoreboard with them."""
    site = Site(daemon, "unix", {"pm.max_requests": 7})
    visits = come(daemon.address(), fastcgi("/"), 400, 0.01)
    site.check(visits)
    assert refused(visits)


def test_when_workers_are_killed(daemon: Daemon) -> None:
    site = Site(daemon, "unix", {"process.dumpable": "no"})
    daemon.expect("exited on signal 9")

    def kill() -> None:
        os.kill(daemon.workers()[0], signal.SIGKILL)

    visits = come(daemon.address(), fastcgi("/"), 400, 0.01, dict.fromkeys((100, 200, 300), kill))
    lost = [visit.number for visit in visits if visit.status == 0]
    assert len(lost) <= 3, "no more than were in hand"
    run = site.run()
    site.marks.write_text("\n".join(str(number) for number in run if number not in lost))
    site.check([visit for visit in visits if visit.number not in lost])
    assert refused(visits)


def test_requests_on_a_kept_connection_are_never_refused_for_the_queue(daemon: Daemon) -> None:
    Site(daemon, "unix", {"pm.max_children": 1})
    with Connection(daemon.address()) as kept:
        assert kept.request(get_parameters("/", "n=1"), keep=True).status == 200
        for query in ("n=2&seconds=2", "n=3"):  # the second has its turn before those in the queue
            kept.send(request_bytes(get_parameters("/", query), keep=True))
        visits = come(daemon.address(), fastcgi("/"), 5, 0.01)
        assert kept.socket.recv(1 << 16).count(b"Status: 200 OK") == 2, "answered before those came to their turn"
    assert len(refused(visits)) >= 4  # a turn on a kept connection counts as one of the queue, until the next sample


# ── with the front server's time stamp ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_stamps_behind_nginx_are_exact(daemon: Daemon, kind: str) -> None:
    site = Site(daemon, kind, {"pm.status_path": "/status"})
    with fresh_nginx(daemon.stage, {"www": daemon.address()}, STAMP) as nginx:
        visits = come(("127.0.0.1", nginx.port("www")), http("/"), 200, 0.01)
        site.check(visits)
        assert refused(visits)
        for number, entry in site.entries().items():
            assert (entry["status"] == 503) == (entry["queue_time"] > LIMIT), (number, entry)
        page = json.loads(nginx.get("www", "/status?json").body)
        assert page["shed requests"] == len(refused(visits))
        assert nginx.errors() == ""


def test_a_refused_upload_gets_its_answer(daemon: Daemon) -> None:
    """The front server must be able to send all of the body, or it takes the answer for an error."""
    Site(daemon, "unix", {"pm.max_children": 1})
    old = f'fastcgi_param REQUEST_START "{time.time() - 5:.3f}"; fastcgi_request_buffering off;'
    with fresh_nginx(daemon.stage, {"www": daemon.address()}, old) as nginx:
        page = nginx.ask("www", "POST", "/?n=1", bytes(8 << 20))
        assert (page.status, page.headers.get("Retry-After")) == (503, "10")
        assert nginx.errors() == ""


@pytest.mark.parametrize(
    ("parameters", "wait"),
    [
        ({"HTTP_X_REQUEST_START": "t={:.3f}"}, True),
        ({"HTTP_X_REQUEST_START": "{:.0f}"}, True),
        ({"REQUEST_START": "nonsense", "HTTP_X_REQUEST_START": "t={:.3f}"}, False),
        ({}, False),
    ],
)
def test_how_a_stamp_may_come(daemon: Daemon, parameters: dict[str, str], wait: bool) -> None:
    site = Site(daemon, "unix", {})
    stamp = time.time() - 5
    answer = daemon.get("/", "n=1", **{name: form.format(stamp) for name, form in parameters.items()})
    assert answer.status == (503 if wait else 200)
    waited = site.entries()[1]["queue_time"]
    assert waited >= 3.9 if wait else waited is None


@pytest.mark.parametrize("stamp", [STAMP, 'fastcgi_param HTTP_X_REQUEST_START "t=$msec";'])
def test_a_client_cannot_forge_what_the_front_server_sets(daemon: Daemon, stamp: str) -> None:
    site = Site(daemon, "unix", {})
    forged = dict.fromkeys(("Request-Start", "REQUEST_START", "X-Request-Start"), f"t={time.time() - 5:.3f}")
    with fresh_nginx(daemon.stage, {"www": daemon.address()}, stamp) as nginx:
        assert nginx.get("www", "/?n=1", forged).status == 200
    assert site.wait_entries([1])[1]["queue_time"] < LIMIT


def test_who_forges_a_stamp_is_refused_and_nobody_else(daemon: Daemon) -> None:
    Site(daemon, "unix", {})
    with fresh_nginx(daemon.stage, {"www": daemon.address()}) as nginx:
        assert nginx.get("www", "/?n=1", {"X-Request-Start": f"t={time.time() - 5:.3f}"}).status == 503
        assert nginx.get("www", "/?n=2").status == 200


def test_pages_of_pyfpm_are_answered_in_any_case(daemon: Daemon) -> None:
    Site(daemon, "unix", {"ping.path": "/ping"})
    assert daemon.get("/ping", REQUEST_START=f"{time.time() - 5:.3f}").status == 200
