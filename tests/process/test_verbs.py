"""An operator, a pool's owner and a stranger tell the running daemon what to do, and get an answer and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from click import Context
from click.testing import CliRunner

from pyfpm import messages, packets
from pyfpm.cli.main import command
from pyfpm.fork import fork_child
from pyfpm.master.job import ELSEWHERE
from pyfpm.messages import Ask, Verb
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.waits import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon

STRANGER = 64001


class Outcome(NamedTuple):
    """What a verb came to."""

    pid: int
    code: int
    stdout: str
    stderr: str


as_root = pytest.mark.skipif(not AS_ROOT, reason="needs root, to be other users")


def socket_of(daemon: Daemon) -> Path:
    return daemon.pid_file.with_suffix(".sock")


def begin(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    """A verb that goes on while the test does something else."""
    return subprocess.Popen(
        daemon.command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=daemon.environment(),
        stdin=subprocess.DEVNULL,
    )


def as_user(uid: int, daemon: Daemon, *arguments: str) -> Outcome:
    """A verb, by another user. In a fork and not a new interpreter: his may not be able to read ours."""
    reader, writer = os.pipe()
    command.get_command(Context(command), arguments[0])  # imported as the daemon's user, who can

    def life() -> None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        done = CliRunner().invoke(command, ["-c", str(daemon.config), *arguments], standalone_mode=False)
        os.write(writer, json.dumps([done.return_value, done.stdout, done.stderr]).encode())

    pid = fork_child(life)
    os.close(writer)
    with open(reader, encoding="utf-8") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return Outcome(pid, *json.loads(said))


@pytest.fixture
def deaf(daemon: Daemon) -> Daemon:
    """A daemon without a control socket."""
    daemon.set_global({"control": "none"})
    daemon.add_pool()
    daemon.start()
    return daemon


@contextlib.contextmanager
def request_in_hand(daemon: Daemon) -> Iterator[Connection]:
    """A request that is inside the application until it is let go."""
    with Connection(daemon.address()) as connection:
        connection.send(request_bytes(get_parameters("/block")))
        daemon.gate.wait_inside()
        yield connection


# ── nobody there ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["stop", "quit", "reload", "status", "upgrade"])
def test_without_a_master_there_is_nobody_to_ask(daemon: Daemon, verb: str) -> None:
    daemon.add_pool()
    done = daemon.run(verb)
    assert done.returncode == 69
    assert (
        done.stderr == f"pyfpm: no master runs: nobody listens on {socket_of(daemon)}, nobody holds {daemon.pid_file}\n"
    )


def test_logrotate_without_a_master_is_no_failure(daemon: Daemon) -> None:
    daemon.add_pool()
    assert daemon.run("logrotate").returncode == 0


def test_what_a_killed_master_left_is_no_master(served: Daemon) -> None:
    workers = [served.template(), *served.workers()]
    served.send_signal(signal.SIGKILL)
    served.wait_exit()
    assert served.pid_file.exists()
    assert socket_of(served).is_socket()
    assert served.run("status").returncode == 69
    assert workers


@pytest.mark.parametrize(
    "arguments", [["-t", "stop"], ["-D", "stop"], ["stop", "www"], ["reload", "--all", "www"], ["dance"]]
)
def test_wrong_usage(daemon: Daemon, arguments: list[str]) -> None:
    assert daemon.run(*arguments).returncode == 64


# ── stop and start ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_stop_returns_when_the_master_has_gone(served: Daemon) -> None:
    done = served.run("stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"terminating\nstopped, pid {served.pid}\n"
    assert not served.is_running
    assert served.wait_exit() == 0
    assert not served.pid_file.exists()


def test_quit_waits_for_the_requests_in_hand(served: Daemon) -> None:
    with request_in_hand(served) as connection:
        waiting = begin(served, "quit")
        served.wait_log("Finishing ...")
        (report,) = [json.loads(line) for line in served.run("status", "--json").stdout.splitlines()]
        assert report["pool"] == "www"
        assert waiting.poll() is None
        served.gate.release()
        assert connection.receive().status == 200
    assert waiting.communicate() == (f"finishing\nstopped, pid {served.pid}\n", "")
    assert (waiting.returncode, served.wait_exit()) == (0, 0)


def test_a_broken_configuration_prevents_no_stop(served: Daemon) -> None:
    served.pools["www"]["no.such.directive"] = 1
    served.pools["www"]["app"] = "nonsense"
    for verb in ("status", "logrotate", "stop"):
        assert served.run(verb).returncode == 0, verb
    assert served.wait_exit() == 0


def test_start_is_done_once(daemon: Daemon) -> None:
    daemon.add_pool()
    assert daemon.run("start").returncode == 0
    daemon.hold(int(daemon.pid_file.read_text()))
    assert daemon.get("/pid").status == 200
    again = daemon.run("start")
    assert (again.returncode, again.stdout) == (0, f"pyfpm is running already, pid {daemon.pid}\n")
    assert daemon.run("stop").returncode == 0


def test_a_start_that_fails_says_so(daemon: Daemon) -> None:
    daemon.add_pool("www", {"app": "apps:nothing"})
    assert daemon.run("start").returncode == 70
    daemon.expect(".")
    daemon.pools["www"]["app"] = "nonsense"
    assert daemon.run("start").returncode == 78


def test_restart_is_another_master(daemon: Daemon) -> None:
    daemon.add_pool()
    assert daemon.run("restart").returncode == 0, "nothing to stop is no failure"
    daemon.hold(int(daemon.pid_file.read_text()))
    first = daemon.pid
    done = daemon.run("restart")
    assert done.returncode == 0, done
    assert f"stopped, pid {first}\n" in done.stdout
    assert daemon.wait_exit() == 0
    daemon.hold(int(daemon.pid_file.read_text()))
    assert daemon.pid != first
    assert daemon.get("/pid").status == 200


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("app", "nonsense", "'nonsense' is not module:callable"), ("listen", "192.0.2.1:9000", "Cannot assign requested")],
)
def test_restart_with_a_broken_configuration_stops_nothing(served: Daemon, name: str, value: str, said: str) -> None:
    before = served.pools["www"][name]
    served.pools["www"][name] = value
    done = served.run("restart")
    assert (done.returncode, said in done.stderr) == (78, True)
    served.pools["www"][name] = before
    assert served.get("/pid").status == 200


# ── while it runs ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_status_is_a_table_or_json(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.add_pool("shop")
    daemon.start()
    daemon.get("/pid")
    table = daemon.run("status")
    assert (table.returncode, table.stderr) == (0, "")
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["POOL", "www", "shop"]
    one = daemon.run("status", "--json", "www")
    report = json.loads(one.stdout)
    assert (report["pool"], report["max"], report["trouble"]) == ("www", 2, "")
    unknown = daemon.run("status", "blog")
    assert (unknown.returncode, unknown.stderr) == (64, "pyfpm: no such pool: blog\n")
    daemon.expect("no such pool: blog")


def test_logrotate_returns_when_the_logs_are_new(daemon: Daemon) -> None:
    access_log = daemon.folder / "access.log"
    daemon.add_pool("www", {"access.log": access_log, "access.format": '"%r"'})
    daemon.start()
    workers = daemon.workers()
    for number in range(5):
        daemon.get(f"/pid/{number}")
        access_log.rename(daemon.folder / f"access.{number}")
        done = daemon.run("logrotate")
        assert (done.returncode, done.stdout) == (0, "logs re-opened\n")
    daemon.get("/pid/last")
    assert [(daemon.folder / f"access.{number}").read_text() for number in range(5)] == [
        f"/pid/{number}\n" for number in range(5)
    ]
    assert daemon.workers() == workers


def test_a_log_that_cannot_be_opened_fails_logrotate(daemon: Daemon) -> None:
    logs = daemon.folder / "logs"
    logs.mkdir()
    daemon.add_pool("www", {"access.log": logs / "access.log"})
    daemon.start()
    logs.rename(daemon.folder / "gone")
    done = daemon.run("logrotate")
    assert done.returncode == 1
    assert "failed to re-open the access log" in done.stdout
    daemon.expect("failed to re-open the access log")


def test_the_pid_file_of_the_command_line_leads_to_its_socket(daemon: Daemon) -> None:
    daemon.add_pool()
    pid_file = daemon.folder / "other.pid"
    daemon.start("-g", str(pid_file))
    assert daemon.run("status").returncode == 69
    assert daemon.run("-g", str(pid_file), "status").returncode == 0
    assert daemon.run("-g", str(pid_file), "stop").returncode == 0
    assert daemon.wait_exit() == 0


def test_a_connection_that_asks_nothing_does_not_disturb(served: Daemon) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(socket_of(served)))
        assert served.run("status").returncode == 0
        silent.settimeout(PATIENCE)
        assert silent.recv(1) == b"", "it is dropped after some seconds"


def test_nonsense_does_not_disturb(served: Daemon) -> None:
    for packet in (b"Q", b"QQQQ\0\xff", b"\0", b"G" * 1000, messages.encode(messages.Ready(0))):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mad, open(os.devnull) as null:
            mad.connect(str(socket_of(served)))
            try:
                socket.send_fds(mad, [packet], [null.fileno()])
            except PermissionError:
                mad.send(packet)  # the master takes no descriptors (SO_PASSRIGHTS, Linux 6.16)
            mad.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                assert mad.recv(1) in (b"", messages.Verdict.kind), "hung up on, or told"
    served.wait_log("said nonsense")
    assert served.run("status").returncode == 0


# ── without a control socket ────────────────────────────────────────────────────────────────────────────────────────


def test_stop_and_quit_do_without(deaf: Daemon) -> None:
    done = deaf.run("quit")
    assert done.returncode == 0
    no_socket = f"the master, pid {deaf.pid}, has no control socket: sent SIGQUIT\n"
    assert done.stdout == f"{no_socket}stopped, pid {deaf.pid}\n"
    assert not deaf.is_running
    assert deaf.wait_exit() == 0


def test_logrotate_does_without(deaf: Daemon) -> None:
    done = deaf.run("logrotate")
    assert (done.returncode, "SIGUSR1" in done.stdout) == (0, True)
    deaf.wait_log("error log file re-opened")


def test_what_no_signal_can_say_needs_it(deaf: Daemon) -> None:
    for arguments in (["status"], ["reload", "www"], ["reload", "--all"], ["restart", "www"], ["upgrade"]):
        done = deaf.run(*arguments)
        assert done.returncode == 69
        assert "has no control socket" in done.stderr


def test_a_place_that_a_pool_has_is_left_to_it(daemon: Daemon) -> None:
    daemon.add_pool("www", {"listen": socket_of(daemon)})
    daemon.start()
    daemon.wait_log("no control socket .*: another process listens there; signals work as ever")
    assert daemon.get("/pid").status == 200
    assert daemon.run("stop").returncode == 0
    assert daemon.wait_exit() == 0


def test_it_is_back_after_a_kill(served: Daemon) -> None:
    served.send_signal(signal.SIGKILL)
    served.wait_exit()
    served.start()
    assert served.run("status").returncode == 0


# ── who may ────────────────────────────────────────────────────────────────────────────────────────────────────────


@as_root
def test_the_owner_of_a_pool_sees_his_own_and_stops_nothing(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("secret", {"user": "nobody"})
    daemon.start()
    owner = pwd.getpwnam(POOL_USER).pw_uid
    daemon.expect("control: refused")
    seen = as_user(owner, daemon, "status", "--json")
    assert (seen.code, json.loads(seen.stdout)["pool"]) == (0, "www")
    others = as_user(owner, daemon, "status", "secret")
    nobodys = as_user(owner, daemon, "status", "nix")
    assert others[1:] == nobodys[1:]
    assert (others.code, others.stdout) == (77, "")
    for arguments in (["stop"], ["quit"], ["logrotate"], ["upgrade"], ["reload", "--all"], ["restart", "secret"]):
        refused = as_user(owner, daemon, *arguments)
        assert refused.code == 77, arguments
        assert f"user {owner} may" in refused.stderr
        daemon.wait_log(f"WARNING: control: refused: .*, asked by uid {owner}, pid {refused.pid}: user {owner} may")
    assert daemon.get("/pid").status == 200


@as_root
def test_the_owner_of_a_pool_is_not_told_what_is_wrong_with_another(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("secret", {"user": "nobody"})
    daemon.start()
    owner = pwd.getpwnam(POOL_USER).pw_uid
    daemon.pools["secret"]["pm.max_childern"] = 3
    daemon.write_config()
    daemon.expect("max_childern|did you mean|reload refused")
    refused = as_user(owner, daemon, "reload", "www")
    assert (refused.code, refused.stdout, refused.stderr) == (1, "", f"pyfpm: {ELSEWHERE}\n")
    seen = as_user(owner, daemon, "status", "--json")
    assert json.loads(seen.stdout)["reload"] == ELSEWHERE


@as_root
def test_a_stranger_may_nothing(served: Daemon) -> None:
    served.expect("control: refused")
    for arguments in (["status"], ["reload"], ["reload", "www"], ["restart", "www"], ["stop"], ["quit"]):
        refused = as_user(STRANGER, served, *arguments)
        assert refused.code == 77, arguments
    assert served.get("/pid").status == 200


@as_root
def test_without_a_control_socket_the_kernel_says_who_may(deaf: Daemon) -> None:
    for verb in ("stop", "quit", "logrotate"):
        refused = as_user(STRANGER, deaf, verb)
        assert (refused.code, "no permission" in refused.stderr) == (77, True)
    assert deaf.get("/pid").status == 200


def test_who_has_asked_may_leave(served: Daemon) -> None:
    with request_in_hand(served):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gone:
            gone.connect(str(socket_of(served)))
            packets.send(gone, Ask(Verb.QUIT, 0))
        served.wait_log("Finishing ...")
        served.gate.release()
    assert served.wait_exit() == 0
