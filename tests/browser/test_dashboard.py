"""The status page in Chromium: a real pyfpm behind a real nginx, under a deep path."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.harness.daemon import Settings, fresh_daemon
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.nginx import fresh_nginx
from tests.harness.sockets import listening, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.chromium import Browser
    from tests.harness.daemon import Daemon
    from tests.harness.nginx import Nginx
    from tests.harness.stage import Stage

WORKERS = 8
PATH = "/intern/ops/site-3/fpm-status"
HOSTILE = (
    "/<script>window.pwned = 1</script>",
    "/\"'></td></tr></table><img src=x onerror='window.pwned = 1'>",
    "/</title></style></script><script>window.pwned = 1</script>",
    "/{{7*7}}${window.pwned=1}",
    "/\x1b[2J\x1b]0;title\x07\r\nforged: line",
    "/\u00e2\u0080\u00ae\u00e2\u0081\u00a6gnp.exe",  # UTF-8 of a bidirectional override
    "/" + "long/" * 13_000,
)
ROW = "[...document.querySelectorAll('.workers tbody tr')].map(row => row.innerText)"
FIGURE = "[...document.querySelectorAll('.tile')].find(one => one.innerText.startsWith({!r})).querySelector('.figure')"


def figure(name: str) -> str:
    return FIGURE.format(name) + ".innerText"


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[Daemon]:
    with fresh_daemon(stage) as daemon:
        owner: Settings = {"listen.owner": POOL_USER} if AS_ROOT else {}
        daemon.add_pool("www", {"pm.status_path": PATH, "pm.max_children": WORKERS, **owner})
        daemon.start()
        daemon.engage(WORKERS)
        yield daemon


@pytest.fixture(scope="module")
def nginx(site: Daemon, stage: Stage) -> Iterator[Nginx]:
    with fresh_nginx(stage, {"www": site.address()}) as made:
        yield made


def test_it_loads_and_asks_for_nothing_but_itself(browser: Browser, nginx: Nginx) -> None:
    for query in ("html", "token=a%20b&html"):
        url = nginx.url("www", f"{PATH}?{query}")
        browser.open("about:blank")  # or the page before could look once more
        browser.forget()
        browser.open(url)
        browser.wait("document.querySelector('#since').textContent")
        seen = browser.ask("document.querySelector('time').textContent")
        browser.wait(f"document.querySelector('time').textContent !== {json.dumps(seen)}")
        assert set(browser.requested()) == {url}
        assert browser.errors() == []


def test_it_says_what_json_says(browser: Browser, site: Daemon, nginx: Nginx) -> None:
    browser.open(nginx.url("www", PATH + "?html"))
    pool = json.loads(site.get(PATH, "json&full").body)
    assert browser.ask("document.querySelectorAll('.workers tbody tr').length") == len(pool["processes"]) == WORKERS
    pids = browser.ask("[...document.querySelectorAll('.workers tbody th')].map(cell => cell.innerText)")
    assert {int(pid) for pid in pids} == {one["pid"] for one in pool["processes"]}
    browser.wait(f"{figure('Workers busy')} === '1 of {WORKERS}'")  # the one that answers
    assert browser.ask(figure("Generation")) == str(pool["generation"])
    assert browser.ask("document.querySelector('h1').innerText") == "www serves"


def test_a_request_that_is_stuck_comes_into_view_and_goes_again(browser: Browser, site: Daemon, nginx: Nginx) -> None:
    browser.open(nginx.url("www", PATH + "?html"))
    assert "/block" not in browser.ask(ROW)[0]
    with Connection(site.address()) as busy:
        busy.send(request_bytes(get_parameters("/block", "of=customers")))
        (pid,) = site.gate.wait_inside()
        browser.wait(f"{ROW}.some(row => row.includes('GET /block?of=customers') && row.includes('Running'))")
        browser.wait(f"{ROW}[0].startsWith('{pid}')")
        assert browser.ask(figure("Workers busy")) == f"2 of {WORKERS}"
        site.gate.release()
        assert busy.receive().status == 200
    browser.wait(f"{ROW}.some(row => row.includes('last GET /block?of=customers') && row.includes('Idle'))")


def test_hostile_requests_are_text(browser: Browser, site: Daemon, nginx: Nginx) -> None:
    url = nginx.url("www", PATH + "?html")
    browser.open(url)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(site.address())) for _ in HOSTILE]
        for client, uri in zip(clients, HOSTILE, strict=True):
            client.send(request_bytes(get_parameters("/block", REQUEST_URI=uri, REMOTE_USER=uri[:40])))
        site.gate.wait_inside(len(HOSTILE))
        browser.wait("document.querySelectorAll('.workers .busy bdi').length === 8")
        check_hostile_requests(browser)  # as the script has put them there
        browser.open(url)
        check_hostile_requests(browser)  # and as they were sent
        site.gate.release(len(HOSTILE))
        for client in clients:
            assert client.receive().status == 200


def check_hostile_requests(browser: Browser) -> None:
    shown = browser.ask("[...document.querySelectorAll('.workers bdi')].map(one => one.textContent)")
    for uri in HOSTILE:
        assert any(text.startswith(shown_of(uri)[:300]) for text in shown), uri
    assert browser.ask("window.pwned === undefined && document.querySelector('img') === null")
    assert browser.ask("document.querySelectorAll('script').length") == 1
    children = browser.ask("[...document.body.children].map(one => one.localName)")
    assert children == ["svg", "header", "main", "footer", "script"]
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")


def shown_of(uri: str) -> str:
    """How a request is written where people read it."""
    text = uri.encode("latin-1").decode()
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)


def test_without_scripts_it_is_all_there(browser: Browser, nginx: Nginx) -> None:
    browser.allow_scripts(False)
    browser.open(nginx.url("www", PATH + "?html"))
    assert browser.ask("document.querySelectorAll('.workers tbody tr').length") == WORKERS
    assert browser.ask("document.querySelector('h1').innerText") == "www serves"
    assert browser.ask("document.querySelectorAll('button, input').length") == 0, "nothing that would do nothing"
    seen = browser.ask("document.querySelector('time').textContent")
    browser.wait(f"document.querySelector('time').textContent !== {json.dumps(seen)}")  # it refreshes itself


def test_all_pools_while_every_worker_is_stuck(browser: Browser, daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listening())
        daemon.set_global({"status_listen": f"127.0.0.1:{port_of(sock)}"})
        daemon.start(sockets=[sock])
        browser.open(f"http://127.0.0.1:{port_of(sock)}/?html")
        browser.wait("document.querySelector('h1').innerText === 'All 2 pools serve'")
        stuck = stack.enter_context(Connection(daemon.address()))
        stuck.send(request_bytes(get_parameters("/block", "of=customers")))
        daemon.gate.wait_inside()
        waiting = stack.enter_context(Connection(daemon.address()))
        waiting.send(request_bytes(get_parameters("/pid")))
        browser.wait("document.querySelector('h1').innerText === '1 of 2 pools has a problem'")
        said = browser.ask("document.querySelector('.concerns').innerText")
        assert said == "Problem www All 1 worker is busy, and 1 connection waits."
        assert browser.ask(ROW)[0].split("\t")[1:2] == ["Running"]
        daemon.gate.release()
        assert stuck.receive().status == waiting.receive().status == 200
        browser.wait("document.querySelector('h1').innerText === 'All 2 pools serve'")
