"""Sockets and logs in folders of tenants: what a tenant puts in their place never becomes his."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyfpm.logs.error_log import ErrorLog
from pyfpm.master import logfiles, trusted
from pyfpm.master.listeners import Terms, apply_ownership, open_listener
from pyfpm.master.logfiles import open_error_log
from pyfpm.master.resources import error_log_of
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.reloads import reload
from tests.unit.config.conftest import folder
from tests.unit.config.reading import GOOD_POOL, Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(not AS_ROOT, reason="only root opens what others cannot")


def give(path: Path, user: str = POOL_USER) -> Path:
    entry = pwd.getpwnam(user)
    os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


@pytest.fixture
def tenants(daemon: Daemon) -> Path:
    """A folder in which the pool's user may do anything."""
    path = daemon.folder / "site"
    path.mkdir()
    path.chmod(0o755)
    return give(path)


@pytest.fixture
def secret(daemon: Daemon) -> Path:
    """A file of root's."""
    path = daemon.folder / "shadow"
    path.write_text("root only\n")
    path.chmod(0o600)
    return path


def is_untouched(secret: Path) -> bool:
    found = secret.stat()
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), secret.read_text()) == (0, 0, 0o600, "root only\n")


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [{"listen.owner": POOL_USER}, {"listen.acl_users": POOL_USER}])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_that_appears_before_the_owner_is_applied(
    folder: Folder, tenants: Path, secret: Path, settings: dict[str, object], link: object
) -> None:
    assert callable(link)
    path = tenants / "www.sock"
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    text = f"[www]\napp = x:y\npm = static\npm.max_children = 1\nuser = {POOL_USER}\nlisten = {path}\n{lines}\n"
    (pool,) = folder.read(text).pools
    listener = open_listener(pool.listen, Terms.of(pool), [], ErrorLog(clock=lambda: 0.0))
    assert apply_ownership(listener, Terms.of(pool)) == ""
    path.rename(tenants / "moved.sock")
    link(secret, path)
    assert "in its place" in apply_ownership(listener, Terms.of(pool))
    assert is_untouched(secret)
    assert not os.listxattr(secret)
    listener.close()
    assert path.exists()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_place_of_a_socket(daemon: Daemon, tenants: Path, secret: Path, link: object) -> None:
    assert callable(link)
    path = tenants / "www.sock"
    daemon.add_pool("www", {"listen": path, "listen.mode": "0660", "listen.owner": POOL_USER})
    daemon.start()
    assert daemon.get("/pid").status == 200
    path.rename(tenants / "moved.sock")
    link(secret, path)
    daemon.send_signal(signal.SIGUSR2)
    daemon.wait_log("exists and is not a socket|reload refused")
    daemon.expect("remove it, or choose another path")
    assert is_untouched(secret)
    assert daemon.stop(signal.SIGQUIT) == 0
    assert path.read_text() == "root only\n", "what is not ours is not removed"
    (tenants / "moved.sock").unlink()


# ── access logs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_access_log_in_a_tenants_folder_is_his(daemon: Daemon, tenants: Path) -> None:
    path = tenants / "access.log"
    daemon.add_pool("www", {"access.log": path})
    daemon.start()
    assert daemon.get("/pid").status == 200
    assert path.owner() == POOL_USER
    path.rename(tenants / "access.log.1")
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log("access log file re-opened")
    assert path.owner() == POOL_USER
    assert daemon.stop(signal.SIGQUIT) == 0
    assert "/pid" in (tenants / "access.log.1").read_text()


def test_an_access_log_that_is_a_link_to_a_file_of_roots(daemon: Daemon, tenants: Path, secret: Path) -> None:
    path = tenants / "access.log"
    path.symlink_to(secret)
    daemon.add_pool("www", {"access.log": path})
    done = daemon.run("-t")
    assert done.returncode == 78
    assert "shadow (mode 0600, owner root) cannot be written by user 'www-data'" in done.stderr
    daemon.expect("access.log|access log")
    daemon.start()
    daemon.wait_log(r"\[pool www\] failed to open access log .*; the pool serves without it")
    assert daemon.get("/pid").status == 200
    path.unlink()
    path.symlink_to(daemon.folder / "cron.d")
    os.kill(daemon.pid, signal.SIGUSR1)
    assert daemon.get("/pid").status == 200
    assert not (daemon.folder / "cron.d").exists()
    assert is_untouched(secret)


def test_a_folder_of_the_way_that_is_a_link(daemon: Daemon, tenants: Path) -> None:
    """It is the tenant's, so it may lead wherever he may write himself."""
    (daemon.folder / "cron.d").mkdir()
    (tenants / "log").symlink_to(daemon.folder / "cron.d")
    daemon.add_pool("www", {"access.log": tenants / "log" / "x"})
    assert daemon.run("-t").returncode == 78
    daemon.expect("access.log|access log")
    daemon.start()
    assert daemon.get("/pid").status == 200
    assert not list((daemon.folder / "cron.d").iterdir())
    daemon.expect("access.log|failed to|FPM init")


def test_logs_that_could_not_be_opened_are_at_the_next_reload(daemon: Daemon, tenants: Path, secret: Path) -> None:
    logs = [tenants / "access.log", tenants / "error.log"]
    for log in logs:
        log.symlink_to(secret)
    daemon.add_pool("www", {"access.log": logs[0], "error_log": logs[1]})
    daemon.expect("failed to open|cannot be written by|who opens it")
    daemon.start()
    for log in logs:
        log.unlink()
    assert reload(daemon).code == 0
    daemon.get("/pid")
    assert "/pid" in logs[0].read_text()
    assert "generation 2 serves" in logs[1].read_text()
    assert reload(daemon).progress == "pool www is unchanged", "they are open"


def test_a_log_is_the_new_users_when_the_pool_gets_another_one(daemon: Daemon, tenants: Path) -> None:
    log = tenants / "access.log"
    daemon.add_pool("www", {"access.log": log})
    daemon.start()
    give(give(tenants, "nobody") / "access.log", "nobody")
    daemon.pools["www"]["user"] = "nobody"
    assert reload(daemon).code == 0
    log.rename(tenants / "access.log.1")
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log("access log file re-opened")
    assert log.owner() == "nobody"
    assert reload(daemon).code == 0


def test_a_link_that_appears_before_the_log_is_reopened(daemon: Daemon, tenants: Path, secret: Path) -> None:
    path = tenants / "access.log"
    daemon.add_pool("www", {"access.log": path})
    daemon.start()
    path.rename(tenants / "access.log.1")
    path.symlink_to(secret)
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log(f"failed to re-open the access log, .*Permission denied, as {POOL_USER}")
    assert daemon.get("/pid").status == 200
    assert daemon.stop(signal.SIGQUIT) == 0
    assert is_untouched(secret)
    assert "/pid" in (tenants / "access.log.1").read_text()


def test_a_pipe_that_nobody_reads_holds_nobody_up(daemon: Daemon, tenants: Path) -> None:
    os.mkfifo(tenants / "access.log")
    give(tenants / "access.log")
    daemon.add_pool("www", {"access.log": tenants / "access.log"})
    daemon.expect("access log")
    daemon.start()
    daemon.wait_log(r"\[pool www\] failed to open access log .*; the pool serves without it")
    assert daemon.get("/pid").status == 200


# ── a pool's error log ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pools_log_in_a_folder_of_roots_is_given_to_its_user(daemon: Daemon) -> None:
    logs = daemon.folder / "logs"
    logs.mkdir(mode=0o755)
    own = logs / "own.log"
    daemon.add_pool("www", {"error_log": own})
    daemon.start()
    assert (own.owner(), stat.S_IMODE(own.stat().st_mode)) == (POOL_USER, 0o600)
    assert daemon.stop(signal.SIGQUIT) == 0


def test_a_pools_log_that_its_user_gives_another_name_stops_nobody(
    daemon: Daemon, folder: Folder, tenants: Path
) -> None:
    """The file is his, so he may link it and close it; then the pool goes without, or the file is opened as him."""
    logs = daemon.folder / "logs"
    logs.mkdir(mode=0o755)
    own = logs / "own.log"
    own.touch(mode=0o600)
    os.link(give(own), tenants / "mine")
    daemon.add_pool("www", {"error_log": own})
    daemon.start()
    daemon.get("/print", "to=stderr&text=heard")
    assert daemon.stop(signal.SIGQUIT) == 0
    assert "heard" in own.read_text()
    own.chmod(0o400)
    (settings,) = folder.read(pool_text(own)).pools
    log = ErrorLog(clock=lambda: 0.0)
    assert error_log_of(settings, log) is None


def test_a_pools_log_is_no_order_to_the_kernel(folder: Folder, tenants: Path) -> None:
    """A regular file that the tenant may open; but what it does when root writes is judged by root's rights."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=POOL_USER) as process:
        order = Path(f"/proc/{process.pid}/oom_score_adj")
        before = order.read_text()
        (tenants / "own.log").symlink_to(order)
        (settings,) = folder.read(pool_text(tenants / "own.log")).pools
        with pytest.raises(OSError, match="on a file system of kind proc, where root does not write"):
            logfiles.open_pool_log(str(tenants / "own.log"), settings).write(b"-1000\n")
        assert order.read_text() == before
        process.communicate()


def test_a_pools_log_is_no_pipe(folder: Folder, tenants: Path) -> None:
    os.mkfifo(tenants / "fifo")
    give(tenants / "fifo")
    (settings,) = folder.read(pool_text(tenants / "fifo")).pools
    reader = os.open(tenants / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="not a regular file"):
            logfiles.open_pool_log(str(tenants / "fifo"), settings)
    finally:
        os.close(reader)


def pool_text(error_log: Path) -> str:
    return f"[www]\n{GOOD_POOL}\nuser = {POOL_USER}\nerror_log = {error_log}\n"


# ── the master's own files ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_slow_log_is_not_in_a_tenants_folder(daemon: Daemon, tenants: Path) -> None:
    daemon.add_pool("www", {"slowlog": tenants / "slow.log", "request_slowlog_timeout": "5s"})
    done = daemon.run()
    assert done.returncode == 78
    assert f"slowlog: [pool www] '{tenants}/slow.log' is not safe for root to open: {tenants} belongs" in done.stderr
    daemon.expect("slowlog|FPM init|failed to load")


@pytest.mark.parametrize("directive", ["error_log", "pid"])
def test_the_masters_files_are_not_in_a_tenants_folder(daemon: Daemon, tenants: Path, directive: str) -> None:
    daemon.add_pool()
    daemon.set_global({directive: tenants / "x"})
    for arguments in (["-t"], []):
        done = daemon.run(*arguments)
        assert done.returncode == 78
        assert f"{directive}: '{tenants}/x' is not safe for root to open: {tenants} belongs to uid" in done.stderr
    assert not list(tenants.iterdir())
    daemon.expect("not safe")


def test_a_pid_file_by_option_is_not_in_a_tenants_folder(daemon: Daemon, tenants: Path) -> None:
    daemon.add_pool()
    done = daemon.run("-g", str(tenants / "x"))
    assert done.returncode == 78
    assert f"{tenants} belongs to uid" in done.stderr
    daemon.expect("PID file|FPM init")


@pytest.fixture
def crowd() -> Iterator[Path]:
    """A folder as /tmp is."""
    path = Path(tempfile.mkdtemp(prefix="pyfpm-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def test_a_folder_of_everybodys(crowd: Path) -> None:
    open_error_log(str(crowd / "log")).close()
    open_error_log(str(crowd / "log")).close()
    target = give(crowd / "log")
    with pytest.raises(PermissionError, match="belongs to uid"):
        open_error_log(str(target))
    (crowd / "link").symlink_to("/etc/nothing")
    os.lchown(crowd / "link", 33, 33)
    with pytest.raises(PermissionError, match="belongs to uid 33"):
        open_error_log(str(crowd / "link"))
    (crowd / "one").touch()
    os.link(crowd / "one", crowd / "two")
    with pytest.raises(PermissionError, match="2 names"):
        open_error_log(str(crowd / "two"))


def test_what_is_trusted(tmp_path: Path) -> None:
    base = Path(tempfile.mkdtemp(prefix="pyfpm-"))
    try:
        (base / "sub").mkdir(mode=0o755)
        log = str(base / "sub" / "log")
        assert trusted.fault(log, 0) == ""
        assert trusted.fault("/dev/null", 0) == trusted.fault("/dev/stderr", 0) == trusted.fault("/proc/self/fd/2", 0)
        assert trusted.fault("/dev/null", 0) == ""
        (base / "stderr.log").symlink_to("/dev/stderr")
        assert trusted.walk(str(base / "stderr.log"), 0).is_open_file
        (base / "sub").chmod(0o777)
        assert "can be written by others than root" in trusted.fault(log, 0)
        (base / "sub").chmod(0o775)
        assert trusted.fault(log, 0) == "", "of group root"
        os.chown(base / "sub", 0, 33)
        assert "can be written by others than root" in trusted.fault(log, 0)
        (base / "sub").chmod(0o755)
        assert trusted.fault(log, 0) == ""
        os.chown(base / "sub", 33, 33)
        assert "belongs to uid 33" in trusted.fault(log, 0)
        assert trusted.fault(log, 33) == ""
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(OSError, match="Too many levels"):
            trusted.walk(str(tmp_path / "loop"), 0)
    finally:
        shutil.rmtree(base)


# ── the pid file's lock ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_of_a_strangers_does_not_matter(daemon: Daemon) -> None:
    daemon.pid_file.write_text("1\n")
    daemon.add_pool()
    with daemon.pid_file.open() as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        daemon.start()
        assert daemon.pid_file.stat().st_ino != os.fstat(stranger.fileno()).st_ino
        assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    second = daemon.run()
    assert second.returncode == 78
    assert f"another pyfpm is running with the PID file {daemon.pid_file}, pid {daemon.pid}" in second.stderr
    assert not daemon.pid_file.with_name("pyfpm.pid.lock").exists()
    daemon.expect("another pyfpm is running|FPM init")


# ── capabilities ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv(1)")
def test_root_that_may_not_raise_limits(folder: Folder) -> None:
    path = folder.path / "pyfpm.conf"
    path.write_text(f"[www]\n{GOOD_POOL}\nuser = nobody\nrlimit_files = 5000\npython = /usr/bin/python3\n")
    command = f"ulimit -n 1024; exec {sys.executable} -m pyfpm -c {path} -t"
    caps = ["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    done = subprocess.run(["setpriv", *caps, "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "5000 is above the limit of 1024 that this process may set" in done.stderr
