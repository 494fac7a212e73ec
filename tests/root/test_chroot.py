"""A pool in a root directory of its own: interpreter, application and pyfpm are looked up inside it."""

from __future__ import annotations

import json
import pwd
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness.interpreters import AS_ROOT, POOL_USER, usual
from tests.harness.stage import open_to_all

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, Settings

SYSTEM = Path("/usr/bin/python3.11")

pytestmark = [
    pytest.mark.skipif(not AS_ROOT, reason="needs root"),
    pytest.mark.skipif(usual().path != str(SYSTEM), reason="the jail is made of Debian 12's interpreter"),
]


def build_jail(daemon: Daemon) -> Path:
    """The least that a Python needs: itself, the standard library, and the libraries of both."""
    jail = daemon.folder / "jail"
    library = Path("/usr/lib/python3.11")
    shutil.copytree(
        library, jail / "usr/lib/python3.11", ignore=shutil.ignore_patterns("test", "idlelib", "__pycache__")
    )
    for source in (SYSTEM, *library.glob("lib-dynload/*.so")):
        listed = subprocess.run(["ldd", str(source)], capture_output=True, text=True, check=True, timeout=20).stdout
        for needed in {str(source), *re.findall(r"(/\S+)", listed)}:
            place = jail / needed.lstrip("/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(needed, place)
    shutil.copytree(daemon.stage.package, jail / str(daemon.stage.package).lstrip("/"))
    shutil.copytree(daemon.app_folder, jail / "srv")
    open_to_all(jail)
    return jail


# There is no /proc in the jail, which apps.py would look at.
JAILED = """
import json, os, sys

def application(environ, start_response):
    start_response("200 OK", [])
    found = {"cwd": os.getcwd(), "root": sorted(os.listdir("/")), "uid": os.getresuid(), "groups": os.getgroups()}
    return [json.dumps(dict(found, path=sys.path[0])).encode()]
"""


def test_a_pool_in_a_jail(daemon: Daemon) -> None:
    daemon.write_app("jailed.py", JAILED)
    jail = build_jail(daemon)
    jailed: Settings = {"app": "jailed:application", "chroot": jail, "chdir": "/srv", "python": SYSTEM}
    daemon.add_pool("www", {**jailed, "pm.status_path": "/fpm/status"})
    daemon.add_pool("shop")
    assert daemon.run("-t").returncode == 0
    daemon.start()
    found = json.loads(daemon.get("/").body)
    uid = pwd.getpwnam(POOL_USER).pw_uid
    assert (found["cwd"], found["path"], found["uid"]) == ("/srv", "/srv", [uid] * 3)
    assert found["root"] == sorted(path.name for path in jail.iterdir())
    assert 0 not in found["groups"]
    assert b"www serves" in daemon.get("/fpm/status", "html").body, "its style and script are inside, too"
    assert json.loads(daemon.get("/process", pool="shop").body)["cwd"] == str(daemon.app_folder)


def test_what_is_not_in_the_jail_is_named(daemon: Daemon) -> None:
    jail = build_jail(daemon)
    shutil.rmtree(jail / "srv")
    daemon.add_pool("www", {"chroot": jail, "chdir": "/srv", "python": SYSTEM})
    done = daemon.run("-t")
    assert done.returncode == 78
    assert "/srv" in done.stderr
