"""What the logs look like and where they go: JSON, the journal, a pool's own file, and how crashes are told."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.daemon import Daemon

HOSTILE = """\
import os, sys
def application(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError('quote " and \\\\ and \\x1b[31m and \\ud800 and \\n second line')
    os.write(2, b'\\xff\\x00"\\\\\\x1b[31m caf\\xc3\\xa9\\r\\n')
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""
WORKER_MEMORY = 200 << 20


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_is_a_json_object(daemon: Daemon) -> None:
    daemon.set_global({"log_format": "json"})
    daemon.write_app("hostile.py", HOSTILE)
    daemon.add_pool("www", {"app": "hostile:application"})
    daemon.expect(r'^\{"time":')
    daemon.start()
    pid = int(daemon.get("/").body)
    assert daemon.get("/fail").status == 500
    daemon.wait_log("RuntimeError")
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log("re-opened")
    events = objects(daemon.log_path)
    (started,) = [event for event in events if event["message"] == "ready to handle connections"]
    assert (started["level"], started["pid"]) == ("notice", daemon.pid)
    assert "pool" not in started
    (printed,) = [event for event in events if event.get("stream")]
    assert (printed["level"], printed["pool"], printed["pid"], printed["stream"]) == ("warning", "www", pid, "stderr")
    assert printed["message"] == '\\xff\x00"\\\x1b[31m café\r'
    (failed,) = [event for event in events if "detail" in event]
    assert (failed["level"], failed["pool"], failed["pid"]) == ("error", "www", pid)
    assert failed["message"].startswith(f'child {pid} "GET /fail" failed')
    assert failed["detail"].count("\n") >= 3, "the whole traceback is one event"


def test_plain_output_is_the_applications_own_in_json_too(daemon: Daemon) -> None:
    """Who logs JSON objects already wants them as they are."""
    daemon.set_global({"log_format": "json"})
    daemon.add_pool("www", {"decorate_workers_output": "no"})
    daemon.expect(r"^[^[]")
    daemon.start()
    daemon.get("/print", 'to=stdout&text={"mine":1}')
    daemon.wait_log(r'(?m)^\{"mine":1\}$')


def test_the_format_changes_with_a_reload(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    daemon.set_global({"log_format": "json"})
    daemon.write_config()
    daemon.expect(r'^\{"time":')
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_log('"message":"reloaded"')
    daemon.get("/print", "to=stderr&text=in-json")
    daemon.wait_log('"stream":"stderr","message":"in-json"')


def test_the_journal_gets_priorities_and_no_times(daemon: Daemon) -> None:
    daemon.set_global({"error_log": "/dev/stderr"})
    daemon.add_pool()
    daemon.stderr_path.touch()
    status = daemon.stderr_path.stat()
    daemon.start(environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    worker = int(daemon.get("/print", "to=stderr&text=hello").body)
    assert daemon.stop() == 0
    lines = daemon.stderr_path.read_text().splitlines()
    assert all(re.match(r"<[1-7]>[A-Z]+: ", line) for line in lines), lines
    assert "<5>NOTICE: ready to handle connections" in lines
    assert f'<4>WARNING: [pool www] child {worker} said into stderr: "hello"' in lines


def test_another_standard_error_is_no_journal(daemon: Daemon) -> None:
    daemon.set_global({"error_log": "/dev/stderr"})
    daemon.add_pool()
    daemon.start(environ={"JOURNAL_STREAM": "1:1"})
    assert daemon.stop() == 0
    assert all(line.startswith("[") for line in daemon.stderr_path.read_text().splitlines())


# ── a pool's own log ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pool_has_its_own_log(daemon: Daemon) -> None:
    own = daemon.folder / "app" / "own.log"
    daemon.add_pool("www", {"error_log": own})
    daemon.add_pool("shop")
    if AS_ROOT:
        os.chown(own.parent, pwd.getpwnam(POOL_USER).pw_uid, -1)
    daemon.start()
    worker = int(daemon.get("/print", "to=stderr&text=mine").body)
    daemon.get("/print", "to=stderr&text=theirs", pool="shop")
    daemon.wait_log("theirs")
    daemon.get("/kill", f"signal={signal.SIGSEGV.value}")
    daemon.wait_log(rf"\[pool www\] child {worker} exited on signal 11 .*, peak \d+ MiB, in the middle of \"GET /kill")
    text = own.read_text()
    assert f'child {worker} said into stderr: "mine"' in text
    assert f"child {worker} exited on signal 11" in text
    assert "theirs" not in text
    assert "mine" not in daemon.log.read()
    status = own.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    if AS_ROOT:
        assert status.st_uid == pwd.getpwnam(POOL_USER).pw_uid


def test_rotation_and_reload_of_a_pools_log(daemon: Daemon) -> None:
    first, second = daemon.folder / "first.log", daemon.folder / "second.log"
    daemon.add_pool("www", {"error_log": first})
    daemon.start()
    rotated = first.rename(daemon.folder / "first.log.1")
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log(r"\[pool www\] error log file re-opened")
    daemon.get("/print", "to=stderr&text=after-rotation")
    daemon.pools["www"]["error_log"] = second
    daemon.write_config()
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_log(r"(?m)NOTICE: reloaded$")
    daemon.get("/print", "to=stderr&text=after-reload")
    assert daemon.stop() == 0
    assert "re-opened" in first.read_text()
    assert "after-rotation" in first.read_text()
    assert "after-rotation" not in rotated.read_text()
    assert "after-reload" in second.read_text()
    assert "after-reload" not in daemon.log.read()
    for path in (first, second, rotated):
        path.unlink()


@pytest.mark.skipif(not AS_ROOT, reason="needs two users")
def test_a_tenants_link_leads_root_nowhere(daemon: Daemon) -> None:
    """The tenant owns the folder of the log, and puts a link to root's file there."""
    victim = daemon.folder / "victim"
    victim.write_text("root's\n")
    victim.chmod(0o600)
    folder = daemon.app_folder
    os.chown(folder, pwd.getpwnam(POOL_USER).pw_uid, -1)
    own = folder / "own.log"
    daemon.add_pool("www", {"error_log": own})
    daemon.start()
    own.unlink()
    own.symlink_to(victim)
    daemon.send_signal(signal.SIGUSR1)
    failed = r"\[pool www\] failed to re-open the error log, the old file stays in use: "
    daemon.wait_log(f"{failed}.*Permission denied, as {POOL_USER}")
    daemon.get("/print", "to=stderr&text=somewhere")
    # By a folder that is a link, too: the rights are the tenant's.
    own.unlink()
    (folder / "aside").mkdir()
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log(r"\[pool www\] error log file re-opened")
    assert daemon.stop() == 0
    assert victim.read_text() == "root's\n"
    victim.unlink()


# ── syslog ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_syslog_is_no_reason_not_to_start(daemon: Daemon) -> None:
    """Whether or not this machine has one."""
    daemon.set_global({"error_log": "syslog", "syslog.ident": "pyfpm-test", "log_level": "alert"})
    daemon.add_pool("www", {"catch_workers_output": "no"})
    daemon.start()
    assert daemon.get("/pid").status == 200
    daemon.send_signal(signal.SIGUSR1)
    assert daemon.get("/pid").status == 200
    assert daemon.stop() == 0


# ── crashes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Callable[[], None]]:
    """Be in a cgroup with so little memory, until what is yielded is called; it must be empty at the end."""
    try:
        (line,) = [one for one in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in one]
        folder = Path("/sys/fs/cgroup/memory", f"pyfpm-test-{os.getpid()}")
        folder.mkdir()
    except (OSError, ValueError):
        pytest.skip("no memory cgroup (version 1) that can be made here")
    before = Path("/sys/fs/cgroup/memory") / line.split(":")[2].lstrip("/")

    def leave() -> None:
        (before / "cgroup.procs").write_text("0")

    try:
        (folder / "memory.limit_in_bytes").write_text(str(limit))
        (folder / "cgroup.procs").write_text("0")
        yield leave
    finally:
        leave()
        folder.rmdir()


def test_a_worker_that_the_kernel_kills_for_lack_of_memory_is_told_as_such(daemon: Daemon) -> None:
    daemon.write_app(
        "greedy.py",
        "import os\n"
        "def application(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/eat':\n"
        f"        bytearray(os.urandom(1)) * {2 * WORKER_MEMORY}\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n",
    )
    daemon.add_pool("www", {"app": "greedy:application"})
    daemon.expect(r"exited on signal 9")
    with memory_cgroup(WORKER_MEMORY) as leave:
        daemon.start()
        leave()
        with Connection(daemon.address()) as client:
            client.send(request_bytes(get_parameters("/eat")))
            found = daemon.wait_log(r"child \d+ exited on signal 9 .*")
            assert client.receive().ended is None
        assert daemon.stop() == 0
    words = r"killed by the kernel for lack of memory \(cgroup /pyfpm-test-\d+\), peak (\d+) MiB, in the middle of"
    peak = re.search(words, found[0])
    assert peak, found[0]
    assert 50 < int(peak[1]) <= WORKER_MEMORY >> 20


def test_a_kill_by_hand_is_no_lack_of_memory(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    victim = int(daemon.get("/pid").body)
    daemon.expect(f"child {victim} exited on signal 9")
    os.kill(victim, signal.SIGKILL)
    found = daemon.wait_log(rf"child {victim} exited on signal 9 .*")
    assert re.search(r"from start, peak \d+ MiB \[PYFPM-411\]$", found[0]), found[0]
