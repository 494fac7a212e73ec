"""A pool has an interpreter and an environment of its own; nothing of the master's gets into either."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import interpreters
from tests.harness.interpreters import AS_ROOT, POOL_USER, Interpreter

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


@pytest.mark.parametrize("version", list(interpreters.interpreters()))
def test_every_interpreter_runs_every_kind_of_pool(daemon: Daemon, version: str) -> None:
    one = interpreters.interpreters()[version]
    for preload in ("yes", "no"):
        daemon.add_pool_on(one, preload, {"preload": preload, "pm.max_children": 2})
    daemon.start(*daemon.options_for(one))
    for pool in ("yes", "no"):
        process = daemon.process(pool)
        assert process["version"] == list(one.version[:2])
        assert os.path.realpath(process["executable"]) == one.path
        body = bytes(range(256)) * 1000
        answer = json.loads(daemon.post("/hash", body, pool=pool).body)
        assert answer["length"] == len(body)
        assert len(daemon.get("/stream", "mb=1", pool=pool).body) == 1 << 20
        assert daemon.get("/raise", pool=pool).status == 500
        daemon.wait_log(rf"\[pool {pool}\] child \d+ \"GET /raise\" failed: ValueError")


def test_interpreters_side_by_side(daemon: Daemon) -> None:
    found = interpreters.interpreters()
    for name, one in found.items():
        daemon.add_pool_on(one, f"py{name}")
    daemon.start(*daemon.options_for(*found.values()))
    for name, one in found.items():
        assert daemon.process(f"py{name}")["version"] == list(one.version[:2])


def test_nothing_of_the_master_is_on_the_pools_path(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    process = daemon.process()
    assert process["path"][0] == str(daemon.app_folder)
    masters = [
        str(daemon.stage.library),
        str(daemon.stage.root),
        *(path for path in sys.path if "site-packages" in path),
    ]
    assert not [path for path in process["path"] if path in masters]
    # pyfpm itself comes from where the master has it, and there is only what a worker needs.
    assert process["package"] == str(daemon.stage.package / "__init__.py")
    halves = {name.split(".")[1] for name in process["modules"] if "." in name}
    assert not halves & {"master", "cli", "config"}


def test_a_pyfpm_in_the_pools_environment_is_not_looked_at(daemon: Daemon) -> None:
    daemon.write_app("pyfpm/__init__.py", "raise RuntimeError('the wrong pyfpm')\n")
    daemon.add_pool()
    daemon.start()
    assert daemon.process()["package"] == str(daemon.stage.package / "__init__.py")


def test_pythonpath_comes_after_chdir(daemon: Daemon) -> None:
    more = daemon.folder / "more"
    more.mkdir()
    more.chmod(0o755)
    (more / "shared.py").write_text("from apps import application\n")
    daemon.add_pool("www", {"app": "shared:application", "pythonpath": more})
    daemon.start()
    assert daemon.process()["path"][:2] == [str(daemon.app_folder), str(more)]


# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_safe_path_keeps_what_the_environment_adds(daemon: Daemon) -> None:
    daemon.write_app("lib/beside.py", "")
    daemon.write_app("site_of_mine.py", "import beside\nfrom apps import application\n")
    settings = {"app": "site_of_mine:application", "env[PYTHONPATH]": daemon.app_folder / "lib"}
    daemon.add_pool("www", {**settings, "env[PYTHONSAFEPATH]": 1})
    daemon.start()
    assert daemon.get("/pid").status == 200


def test_the_environment_is_empty_but_for_what_is_configured(daemon: Daemon) -> None:
    daemon.add_pool("www", {"env[SITE]": "shop", "env[COPIED]": "$FROM_MASTER"})
    daemon.start(environ={"FROM_MASTER": "copied", "SECRET": "of the master"})
    environ = daemon.process()["environ"]
    user = {"USER": POOL_USER, "HOME": os.path.expanduser(f"~{POOL_USER}")} if AS_ROOT else {}
    # LC_CTYPE is Python's own (PEP 538), where the environment has no locale.
    assert {name: value for name, value in environ.items() if name != "LC_CTYPE"} == {
        "SITE": "shop",
        "COPIED": "copied",
        "GATE": str(daemon.gate.folder),
        **user,
    }


def test_clear_env_no_keeps_it_without_what_is_for_the_master_alone(daemon: Daemon) -> None:
    daemon.add_pool("www", {"clear_env": "no", "env[SITE]": "shop"})
    daemon.start(environ={"KEPT": "kept", "SITE": "overridden", "WATCHDOG_USEC": "99999999"})
    environ = daemon.process()["environ"]
    assert (environ["KEPT"], environ["SITE"]) == ("kept", "shop")
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"} & environ.keys()


def test_what_a_worker_has_open(daemon: Daemon) -> None:
    """Its listener, its mailbox, its pipes, its scoreboard: nothing of other pools, nothing that was left open."""
    with open("/dev/zero", "rb") as stray:
        daemon.add_pool("www", {"access.log": daemon.folder / "access.log"})
        daemon.add_pool("shop", {"access.log": daemon.folder / "shop.log"})
        daemon.start(descriptors=[stray.fileno()])
        found = daemon.process()["descriptors"]
    assert found["0"] == "/dev/null"
    assert sorted(target.partition(":")[0] for target in (found["1"], found["2"])) == ["pipe", "pipe"]
    kinds = sorted(target.partition(":[")[0] for number, target in found.items() if int(number) > 2)
    assert "/dev/zero" not in kinds
    assert str(daemon.folder / "shop.log") not in kinds
    assert str(daemon.log_path) not in kinds
    assert kinds.count("socket") <= 3, "the listener, the mailbox, and the request in hand"


def test_rlimits_and_priority_reach_the_workers(daemon: Daemon) -> None:
    daemon.add_pool("www", {"rlimit_files": 200, "process.priority": 5})
    daemon.start()
    process = daemon.process()
    assert process["rlimit_files"] == [200, 200]
    assert process["nice"] == (5 if AS_ROOT else 0)


def test_the_working_directory_and_arguments(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    process = daemon.process()
    assert process["cwd"] == str(daemon.app_folder)
    assert process["argv"] == ["pyfpm"]


# ── what a start refuses ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("/nowhere/python3", "/nowhere"),
        ("/bin/echo", "is no Python 3"),
    ],
)
def test_an_interpreter_that_is_none(daemon: Daemon, python: str, words: str) -> None:
    daemon.add_pool("www", {"python": python})
    done = daemon.run("-t")
    assert done.returncode == 78
    assert words in done.stderr
    # At a start it is this pool's trouble, and not that of the others.
    daemon.add_pool("shop")
    daemon.expect(r"\[pool www\] ")
    daemon.start()
    assert daemon.get("/pid", pool="shop").status == 200


def test_an_interpreter_that_is_too_old(daemon: Daemon) -> None:
    old = _older_than_supported()
    if old is None:
        pytest.skip("no CPython older than 3.9 on this machine")
    daemon.add_pool("www", {"python": old, **({"user": "root"} if AS_ROOT else {})})
    done = daemon.run("-t", "-R")
    assert done.returncode == 78
    assert "pools need 3.9 or later" in done.stderr


def _older_than_supported() -> str | None:
    for path in sorted(Path.home().glob(".pyenv/versions/3.[678].*/bin/python")):
        if isinstance(interpreters.ask(str(path)), Interpreter):
            return os.path.realpath(path)
    return None
