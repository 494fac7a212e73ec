"""Behind nginx as Debian ships it, over a unix socket and over TCP: paths, big bodies, kept connections."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.daemon import Settings, fresh_daemon
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.nginx import KEEP, fresh_nginx
from tests.harness.sockets import listening, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.nginx import Nginx
    from tests.harness.stage import Stage

MIB = 1 << 20
KINDS = ("unix", "tcp")
MAY_GROW_KIB = 5 * 1024


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[Daemon]:
    """Pools on a unix socket and on TCP, one of them mounted below a path."""
    with fresh_daemon(stage) as daemon, listening() as sock:
        owner: Settings = {"listen.owner": POOL_USER} if AS_ROOT else {}
        daemon.add_pool("unix", owner)
        daemon.add_pool("tcp", {"listen": f"127.0.0.1:{port_of(sock)}"})
        daemon.add_pool("shop", {**owner, "mount": "/shop"})
        daemon.start(sockets=[sock])
        yield daemon


@pytest.fixture(scope="module")
def nginx(stage: Stage, site: Daemon) -> Iterator[Nginx]:
    with fresh_nginx(stage, {name: site.address(name) for name in site.pools}) as made:
        yield made
        errors = made.errors().splitlines()
        assert [line for line in errors if "FastCGI sent in stderr" not in line] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("path", "info", "query"),
    [
        ("/", "/", ""),
        ("/a/b%20c?x=1", "/a/b c", "x=1"),
        ("/caf%C3%A9", "/caf\u00c3\u00a9", ""),  # UTF-8 as latin-1: PEP 3333
        ("/a%2Fb", "/a/b", ""),
        ("/100%25?q=a%20b&empty=", "/100%", "q=a%20b&empty="),
        ("/x.php/y", "/x.php/y", ""),
        ("/deep//er/", "/deep/er/", ""),  # nginx's merge_slashes
        ("/%F0%9F%90%8D", "/\u00f0\u009f\u0090\u008d", ""),
    ],
)
def test_paths_just_work(nginx: Nginx, kind: str, path: str, info: str, query: str) -> None:
    environ = json.loads(nginx.get(kind, path).body)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("", info, query)
    assert environ["REQUEST_URI"] == path


@pytest.mark.parametrize(
    ("path", "status", "split"),
    [
        ("/shop", 200, ("/shop", "")),
        ("/shop/", 200, ("/shop", "/")),
        ("/shop/caf%C3%A9?x=1", 200, ("/shop", "/caf\u00c3\u00a9")),
        ("/shopping", 404, None),
        ("/", 404, None),
    ],
)
def test_a_mounted_application(nginx: Nginx, path: str, status: int, split: tuple[str, str] | None) -> None:
    page = nginx.get("shop", path)
    assert page.status == status
    if split:
        environ = json.loads(page.body)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == split


def test_the_rest_of_the_environ(nginx: Nginx) -> None:
    headers = {
        "Proxy": "http://evil.example",
        "X-Forwarded-For": "192.0.2.1",
        "Cookie": "a=b; c=d",
        "Host": "shop.example",
    }
    environ = json.loads(nginx.get("unix", "/", headers).body)
    assert "HTTP_PROXY" not in environ, "httpoxy"
    expected = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_PORT": str(nginx.port("unix")),
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "shop.example",
        "HTTP_COOKIE": "a=b; c=d",
        "HTTP_X_FORWARDED_FOR": "192.0.2.1",
        "wsgi.url_scheme": "http",
        "wsgi.multiprocess": True,
        "wsgi.multithread": False,
        "wsgi.run_once": False,
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert environ["SERVER_NAME"], "nginx sends an empty one without server_name; PEP 3333 wants one"


@pytest.mark.parametrize("kind", KINDS)
def test_methods_and_bodies(nginx: Nginx, kind: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        page = nginx.ask(kind, method, "/hash", b"x" * 70_000)
        assert json.loads(page.body)["length"] == 70_000, method
    page = nginx.ask(kind, "HEAD", "/pid")
    assert (page.status, page.body) == (200, b"")
    assert int(page.headers["Content-Length"]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_of_50_mb_in_flat_memory(nginx: Nginx, kind: str) -> None:
    before = json.loads(nginx.get(kind, "/memory").body)
    body = bytes(range(256)) * (50 * MIB // 256)
    answer = json.loads(nginx.ask(kind, "POST", "/hash", body).body)
    assert answer == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest(), "pid": before["pid"]}
    after = json.loads(nginx.get(kind, "/memory").body)
    assert after["highest"] - before["now"] < MAY_GROW_KIB


@pytest.mark.parametrize("kind", KINDS)
def test_a_streamed_answer_of_50_mb_in_flat_memory(nginx: Nginx, kind: str) -> None:
    before = json.loads(nginx.get(kind, "/memory").body)
    page = nginx.get(kind, "/stream?mb=50")
    assert len(page.body) == 50 * MIB
    assert hashlib.sha256(page.body).digest() == hashlib.sha256(bytes(range(256)) * (50 * MIB // 256)).digest()
    after = json.loads(nginx.get(kind, "/memory").body)
    assert after["pid"] == before["pid"]
    assert after["highest"] - before["now"] < MAY_GROW_KIB


def test_an_answer_reaches_the_client_block_by_block(site: Daemon, stage: Stage) -> None:
    """Nothing is held back across a yield; nginx is told not to, either."""
    with (
        fresh_nginx(stage, {"unix": site.address("unix")}, more="fastcgi_buffering off;") as nginx,
        contextlib.closing(nginx.connect("unix")) as connection,
    ):
        connection.request("GET", "/drip")
        response = connection.getresponse()
        site.gate.wait_inside()
        assert response.read(6) == b"first "
        site.gate.release()
        assert response.read() == b"second"


def test_an_error_page_shows_nothing(nginx: Nginx, site: Daemon) -> None:
    page = nginx.get("unix", "/raise")
    assert page.status == 500
    assert b"secret" not in page.body
    assert b"Traceback" not in page.body
    site.wait_log(r'ERROR: \[pool unix\] child \d+ "GET /raise" failed: ValueError: a secret')
    # nginx's own log gets a hint and no more: on many machines others read it than the site's owner.
    assert 'FastCGI sent in stderr: "pyfpm: ValueError in child' in nginx.errors()
    assert "secret" not in nginx.errors()


def test_curl(nginx: Nginx, site: Daemon) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--fail", nginx.url("tcp", "/pid")], capture_output=True, text=True, check=True, timeout=20
    )
    assert int(done.stdout) in site.workers("tcp")


def test_cgi_fcgi(site: Daemon) -> None:
    """The client of the FastCGI development kit, which sends what a CGI program would find in its environment."""
    program = shutil.which("cgi-fcgi")
    assert program, "libfcgi-bin is not installed"
    address = site.address("tcp")
    for connect in (f"{address[0]}:{address[1]}", str(site.address("unix"))):
        done = subprocess.run(
            [program, "-bind", "-connect", connect],
            input=b"a=1&b=2",
            env={
                "REQUEST_METHOD": "POST",
                "SCRIPT_NAME": "/hash",
                "QUERY_STRING": "",
                "CONTENT_LENGTH": "7",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
            },
            capture_output=True,
            check=True,
            timeout=20,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        assert b"application/json" in head
        assert json.loads(body)["sha256"] == hashlib.sha256(b"a=1&b=2").hexdigest()


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_kept_connections(site: Daemon, stage: Stage, buffering: str) -> None:
    """Where other Python servers answer 502 to some POSTs: nginx keeps the connection, and reuses it at once."""
    with fresh_nginx(
        stage,
        {"tcp": site.address("tcp"), "unix": site.address("unix")},
        more=f"{KEEP} fastcgi_request_buffering {buffering}; fastcgi_buffering {buffering};",
        upstream_more="keepalive 4;",
    ) as nginx:
        for kind in KINDS:
            with contextlib.closing(nginx.connect(kind)) as connection:
                for number in range(30):
                    size = (0, 5, 70_000, 300_000)[number % 4]
                    # With buffering off nginx itself gives up a client whose body the application did not want.
                    wanted = bool(number % 3) or buffering == "off"
                    connection.request("POST", "/hash" if wanted else "/pid", b"x" * size)
                    response = connection.getresponse()
                    text = response.read()
                    assert response.status == 200, (number, text)
                    if wanted:
                        assert json.loads(text)["length"] == size
        assert nginx.errors() == ""
