"""A pool in a root directory of its own: interpreter, application and pyfpm are looked up inside it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness.interpreters import AS_ROOT, interpreters, usual
from tests.harness.stage import open_to_all

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

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
    shutil.copytree(daemon.gate.folder, jail / "gate", ignore=lambda *_: ["inside", "leave", "meeting"])
    open_to_all(jail)
    return jail


def test_a_pool_in_a_jail(daemon: Daemon) -> None:
    assert interpreters()
    jail = build_jail(daemon)
    daemon.add_pool("www", {"chroot": jail, "chdir": "/srv", "python": SYSTEM})
    daemon.add_pool("shop")
    assert daemon.run("-t").returncode == 0
    daemon.start()
    process = json.loads(daemon.get("/process").body)
    assert process["cwd"] == "/srv"
    assert process["path"][0] == "/srv"
    assert process["groups"] == [33]
    assert process["uid"] == [33] * 3
    assert json.loads(daemon.get("/setuid").body) == []
    assert json.loads(daemon.get("/process", pool="shop").body)["cwd"] == str(daemon.app_folder)
