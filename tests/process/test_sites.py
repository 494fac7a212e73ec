"""What it is all for: a Django project, a Flask application and the validator in one daemon, behind one nginx.

Each has a virtual environment and an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.cookies
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from tests.harness import interpreters
from tests.harness.daemon import Settings, fresh_daemon
from tests.harness.interpreters import AS_ROOT, POOL_USER, Interpreter
from tests.harness.load import Load
from tests.harness.nginx import Nginx, Page, fresh_nginx
from tests.harness.stage import CHECKOUT, open_to_all
from tests.harness.venvs import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon
    from tests.harness.stage import Stage

SITES = CHECKOUT / "tests" / "harness" / "sites"
FRAMEWORKS = ("django", "flask")


def chosen() -> dict[str, Interpreter]:
    """Which site runs on which interpreter: the newest, the oldest, and the system's own."""
    found = list(interpreters.interpreters().values())
    return {"django": found[-1], "flask": found[0], "checked": interpreters.usual()}


@pytest.fixture(scope="module")
def sites(stage: Stage) -> Iterator[Daemon]:
    found = chosen()
    with fresh_daemon(stage) as daemon:
        for site, packages, folder, app in (
            ("django", ["Django"], "djangosite", "mysite.wsgi:application"),
            ("flask", ["Flask"], "flasksite", "shop:app"),
            ("checked", [], None, "checked:application"),
        ):
            settings: Settings = {
                "app": app,
                "python": None,
                "virtualenv": environment(found[site], *packages),
                "pm.max_children": 2,
            }
            if AS_ROOT:
                settings["listen.owner"] = POOL_USER
            if folder:
                settings["chdir"] = daemon.folder / folder
                shutil.copytree(SITES / folder, daemon.folder / folder)
                open_to_all(daemon.folder / folder)
            daemon.add_pool_on(found[site], site, settings)
        daemon.write_app("checked.py", (SITES / "checked.py").read_text())
        daemon.pools["django"] |= {
            "env[DJANGO_SETTINGS_MODULE]": "mysite.settings",
            "env[DATABASE]": make_database(daemon, daemon.pools["django"]),
        }
        daemon.start(*daemon.options_for(*found.values()), seconds=60)
        yield daemon


def make_database(daemon: Daemon, pool: Settings) -> Path:
    """SQLite wants to write beside its file, too."""
    folder = daemon.folder / "database"
    folder.mkdir()
    database = folder / "site.sqlite3"
    subprocess.run(
        [str(pool["virtualenv"]) + "/bin/python", "manage_site.py"],
        cwd=daemon.folder / "djangosite",
        env={"DATABASE": str(database), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        timeout=120,
    )
    if AS_ROOT:
        for path in (folder, database):
            shutil.chown(path, str(pool["user"]))
    return database


@pytest.fixture(scope="module")
def nginx(stage: Stage, sites: Daemon) -> Iterator[Nginx]:
    with fresh_nginx(stage, {name: sites.address(name) for name in sites.pools}) as made:
        yield made
        errors = made.errors().splitlines()
        assert [line for line in errors if "FastCGI sent in stderr" not in line] == []


@pytest.mark.parametrize("site", FRAMEWORKS)
def test_each_has_its_own_interpreter_and_environment(nginx: Nginx, sites: Daemon, site: str) -> None:
    about = json.loads(nginx.get(site, "/about").body)
    assert about["python"] == list(chosen()[site].version[:2])
    assert about["prefix"] == os.path.realpath(str(sites.pools[site]["virtualenv"]))
    assert about[site]


def test_one_import_serves_both_workers(sites: Daemon) -> None:
    assert "not preloaded" not in sites.log.read(), "Django and Flask leave nothing behind"


@pytest.mark.parametrize("site", FRAMEWORKS)
@pytest.mark.parametrize(
    ("sent", "path"), [("/a/b%20c?x=1", "/a/b c"), ("/caf%C3%A9?x=1", "/caf\u00e9"), ("/?x=1", "/")]
)
def test_paths(nginx: Nginx, site: str, sent: str, path: str) -> None:
    shown = json.loads(nginx.get(site, sent).body)
    assert (shown["path"], shown["x"]) == (path, "1")


@pytest.mark.parametrize("site", FRAMEWORKS)
def test_an_upload(nginx: Nginx, site: str) -> None:
    content = os.urandom(3 << 20)
    boundary = b"a-boundary"
    body = (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="x.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n" % (boundary, content, boundary)
    )
    page = nginx.ask(site, "POST", "/upload", body, {"Content-Type": "multipart/form-data; boundary=a-boundary"})
    answer = json.loads(page.body)
    assert (answer["size"], answer["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("site", FRAMEWORKS)
def test_a_streamed_answer(nginx: Nginx, site: str) -> None:
    assert nginx.get(site, "/stream").body == b"x" * 100_000


@pytest.mark.parametrize("site", FRAMEWORKS)
def test_a_session(nginx: Nginx, site: str) -> None:
    cookies = ""
    for visit in ("1", "2", "3"):
        page = nginx.get(site, "/visits", {"Cookie": cookies} if cookies else {})
        assert page.body.decode() == visit
        cookies = cookies_of(page) or cookies


@pytest.mark.parametrize("site", FRAMEWORKS)
def test_a_failing_view_is_in_the_log(nginx: Nginx, sites: Daemon, site: str) -> None:
    page = nginx.get(site, "/fail")
    assert page.status == 500
    assert b"a view that fails" not in page.body
    sites.expect(rf"WARNING: \[pool {site}\] child \d+ said into stderr")  # the framework has caught it, and logs it
    sites.wait_log(rf"\[pool {site}\] child \d+ said into stderr: .*RuntimeError: a view that fails")


def test_the_admin_of_django(nginx: Nginx) -> None:
    """Log in as a browser does: cookies, a form, a redirect."""
    login = nginx.get("django", "/admin/login/?next=/admin/")
    assert login.status == 200
    token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', login.body)
    assert token is not None
    form = {
        "csrfmiddlewaretoken": token[1].decode(),
        "username": "admin",
        "password": "a long password",
        "next": "/admin/",
    }
    answer = nginx.ask(
        "django",
        "POST",
        "/admin/login/?next=/admin/",
        urllib.parse.urlencode(form).encode(),
        {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookies_of(login)},
    )
    assert (answer.status, answer.headers["Location"]) == (302, "/admin/")
    page = nginx.get("django", "/admin/", {"Cookie": cookies_of(answer)})
    assert page.status == 200
    assert b"Site administration" in page.body
    assert nginx.get("django", "/admin/").status == 302, "and nobody else is in"


def cookies_of(page: Page) -> str:
    """What a browser would send back. Responses of these sites have one or two cookies, joined by http.client."""
    jar = http.cookies.SimpleCookie()
    for header in re.split(r", (?=\w+=)", page.headers.get("Set-Cookie", "")):
        jar.load(header)
    return "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())


# ── the validator ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/", "/a/b%20c?x=1", "/pid", "/stream?mb=1", "/memory"])
def test_the_validator_has_nothing_to_say(nginx: Nginx, sites: Daemon, path: str) -> None:
    for method in ("GET", "HEAD"):
        page = nginx.ask("checked", method, path)
        assert page.status == 200, page.body
    assert "[pool checked]" not in sites.log.read()


def test_the_validator_and_a_body(nginx: Nginx, sites: Daemon) -> None:
    for size in (0, 1, 70_000, 3_000_000):
        assert json.loads(nginx.ask("checked", "POST", "/hash", b"x" * size).body)["length"] == size
    assert "[pool checked]" not in sites.log.read()


def test_all_of_them_at_once(sites: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(Load(sites.address(site), path, clients=2))
            for site, path in (("django", "/about"), ("flask", "/about"), ("checked", "/pid"))
        ]
        for load in loads:
            load.wait_answers(30)
    assert [load.lost for load in loads] == [[], [], []]
