"""A master that is root: what it gives up before a pool's interpreter runs, and that there is no way back."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.interpreters import AS_ROOT, usual

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

pytestmark = pytest.mark.skipif(not AS_ROOT, reason="needs root")


def a_user_of_several_groups() -> str:
    """Somebody of /etc/group who is in more than his own; www-data where there is none."""
    for group in grp.getgrall():
        for name in group.gr_mem:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid != 0 and entry.pw_gid != group.gr_gid:
                return name
    return "www-data"


@pytest.mark.parametrize("user", ["www-data", "nobody", a_user_of_several_groups()])
def test_a_user_by_name_brings_its_groups(daemon: Daemon, user: str) -> None:
    daemon.add_pool("www", {"user": user})
    daemon.start()
    process = daemon.process()
    entry = pwd.getpwnam(user)
    assert process["uid"] == [entry.pw_uid] * 3
    assert process["gid"] == [entry.pw_gid] * 3
    assert sorted(process["groups"]) == sorted(os.getgrouplist(user, entry.pw_gid))
    assert 0 not in process["groups"]
    assert int(process["capabilities"], 16) == 0
    assert (process["environ"]["USER"], process["environ"]["HOME"]) == (user, entry.pw_dir)


def test_a_group_of_its_own(daemon: Daemon) -> None:
    daemon.add_pool("www", {"user": "www-data", "group": "daemon"})
    daemon.start()
    process = daemon.process()
    gid = grp.getgrnam("daemon").gr_gid
    assert process["gid"] == [gid] * 3
    assert sorted(process["groups"]) == sorted(os.getgrouplist("www-data", gid))


def test_a_user_by_number_has_nothing_but_it(daemon: Daemon) -> None:
    daemon.add_pool("www", {"user": "54321", "group": "54322"})
    daemon.start()
    process = daemon.process()
    assert (process["uid"], process["gid"], process["groups"]) == ([54321] * 3, [54322] * 3, [54322])
    assert not {"USER", "HOME"} & process["environ"].keys()


def test_there_is_no_way_back(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    assert json.loads(daemon.get("/setuid").body) == []


def test_the_interpreter_never_runs_as_root(daemon: Daemon) -> None:
    """It belongs to the tenant. Not to ask for its version, not to start a template, not with -t."""
    seen = daemon.folder / "seen"
    seen.touch()
    seen.chmod(0o666)
    wrapper = daemon.folder / "python"
    wrapper.write_text(f'#!/bin/sh\nid -u >>{seen}\nexec {usual().path} "$@"\n')
    wrapper.chmod(0o755)
    daemon.add_pool("www", {"python": wrapper})
    assert daemon.run("-t").returncode == 0
    daemon.start()
    assert daemon.get("/pid").status == 200
    who = seen.read_text().split()
    assert len(who) >= 3
    assert set(who) == {str(pwd.getpwnam("www-data").pw_uid)}


def test_a_pool_without_a_user_is_refused(daemon: Daemon) -> None:
    daemon.add_pool("www", {"user": None})
    for options in ("-t",), ():
        done = daemon.run(*options)
        assert done.returncode == 78
        assert "user has not been defined" in done.stderr


@pytest.mark.parametrize("settings", [{"user": "root"}, {"user": "0"}, {"user": "www-data", "group": "root"}])
def test_root_pools_want_r(daemon: Daemon, settings: dict[str, object]) -> None:
    daemon.add_pool("www", settings)
    done = daemon.run("-t")
    assert done.returncode == 78
    assert "please specify user and group other than root" in done.stderr
    daemon.start("-R")
    assert 0 in daemon.process()["gid"]


def test_pools_of_two_users_side_by_side(daemon: Daemon) -> None:
    daemon.add_pool("www", {"user": "www-data"})
    daemon.add_pool("shop", {"user": "nobody"})
    daemon.start()
    for pool, user in (("www", "www-data"), ("shop", "nobody")):
        assert daemon.process(pool)["uid"][0] == pwd.getpwnam(user).pw_uid
        assert os.stat(f"/proc/{daemon.template(pool)}/task").st_nlink, "alive"


def test_the_secrets_of_one_pool_are_not_in_the_memory_of_another(daemon: Daemon) -> None:
    """Exec, and a greeting with the pool's own settings: nothing of root's memory is inherited."""
    # In two halves here, so that what is sought for is nowhere else.
    secret = "hunter" + "2-of-the-shop"
    daemon.add_pool("www", {"user": "www-data"})
    daemon.add_pool("shop", {"user": "nobody", "env[PASSWORD]": secret})
    daemon.start()
    (www,) = daemon.engage(1, "www")
    (shop,) = daemon.engage(1, "shop")
    assert secret.encode() in memory_of(shop), "or the test proves nothing"
    for pid in (www, daemon.template("www")):
        assert secret.encode() not in memory_of(pid)


def memory_of(pid: int) -> bytes:
    """All that a process could read of itself."""
    pieces = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if found is None or "[v" in line:  # vvar, vdso and vsyscall are the kernel's
                continue
            start, end = int(found[1], 16), int(found[2], 16)
            memory.seek(start)
            try:
                pieces.append(memory.read(end - start))
            except OSError:
                continue
    return b"".join(pieces)


@pytest.mark.parametrize("dumpable", ["no", "yes"])
def test_the_pools_own_user_may_look_only_if_that_is_allowed(daemon: Daemon, dumpable: str) -> None:
    daemon.add_pool("www", {"process.dumpable": dumpable})
    daemon.start()
    (worker,) = daemon.engage(1)
    for pid in (worker, daemon.template()):
        done = subprocess.run(
            ["/bin/cat", f"/proc/{pid}/environ"],
            user="www-data",
            group="www-data",
            extra_groups=[],
            capture_output=True,
            check=False,
            timeout=20,
        )
        assert (done.returncode == 0) == (dumpable == "yes")


def test_logs_are_for_root_alone(daemon: Daemon) -> None:
    access_log = daemon.folder / "access.log"
    daemon.add_pool("www", {"access.log": access_log})
    daemon.start()
    assert daemon.get("/pid").status == 200
    assert daemon.stop() == 0
    assert "GET /pid" in access_log.read_text()
    for path in (access_log, daemon.log_path):
        found = path.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)


def test_what_is_out_of_the_users_reach_is_named(daemon: Daemon) -> None:
    closed = daemon.folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "app").mkdir()
    daemon.add_pool("www", {"chdir": closed / "app"})
    done = daemon.run("-t")
    assert done.returncode == 78
    assert f"{closed} (mode 0700, owner root) cannot be entered by" in done.stderr
