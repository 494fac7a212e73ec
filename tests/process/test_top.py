"""Somebody watches: `pyfpm top` in a terminal, with a keyboard, and without either."""

from __future__ import annotations

import pwd
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import POOL_USER
from tests.harness.terminal import Terminal
from tests.harness.waits import watching
from tests.process.test_look import FOREVER, asking
from tests.process.test_slowlog import line_of, stuck_pool
from tests.process.test_verbs import as_root, as_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon

COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*3[0-7](?:;[0-9]+)*m")


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def watch(terminal: Terminal, daemon: Daemon, *options: str, **environ: str) -> None:
    terminal.run(daemon.command("top", "--interval", "0.2", *options), daemon.environment(environ))
    terminal.wait(r"^q quit")


def test_stuck_workers_are_in_sight_and_keys_lead_to_the_line(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon, {"pm.max_children": 4})
    daemon.add_pool("shop")
    daemon.start()
    daemon.engage(4)
    with asking(daemon, FOREVER, "/c", "/lock") as busy:
        watch(terminal, daemon)
        for uri, pid in busy.items():
            terminal.wait(rf"^.. +{pid} +www +Running +\d+\.\ds .* GET {re.escape(uri)}$")
        terminal.wait(rf" {busy['/c']} .* [1-9]\d*% .*GET /c$")  # it computes
        terminal.wait(rf" {busy['/lock']} .* 0% .*GET /lock$")  # it waits
        terminal.press("/get /lock\r")
        terminal.wait(rf"^>. +{busy['/lock']} ", absent=r"GET /c$")
        terminal.press("s")
        terminal.wait(rf"do_lock\(\) .*stuck\.py:{line_of('lock')}$")
        terminal.press("q")
        terminal.wait(r"^q quit|^only", absent=r"do_lock")
        terminal.press("\x1b")
        terminal.wait(r"GET /c$")
        terminal.press("p")
        terminal.wait(r"^only pool www", absent=r"^..shop")
        terminal.press("?")
        terminal.wait(r"any key: back")
        terminal.press("x ")
        terminal.wait(r"PAUSED$")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.is_as_before()


def test_arrows_select(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon, {"pm.max_children": 3})
    daemon.start()
    first, second, third = sorted(daemon.engage(3))
    watch(terminal, daemon)
    terminal.wait(rf"^>. +{first} ")
    terminal.press("\x1bOB")
    terminal.wait(rf"^>. +{second} ")
    terminal.press("j")
    terminal.wait(rf"^>. +{third} ")
    terminal.press("\x1bOA")
    terminal.wait(rf"^>. +{second} ")


def test_the_screen_follows_the_size_of_the_terminal(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon)
    daemon.start()
    with asking(daemon, FOREVER):
        watch(terminal, daemon)
        terminal.resize(200, 50)
        terminal.wait(r"RESTARTS  NOTE")
        terminal.wait(r"AGE  REQUESTS  REQUEST")
        terminal.resize(40, 8)
        terminal.wait(r"Running", absent=r"RESTARTS|AGE")


@pytest.mark.parametrize(
    "uri",
    [
        "/sleep?\x1b]0;owned\x07\x1b[2J\x1b[31;1H<script>\"'",
        "/sleep?\r\n\t\b\x00 owned \x9b2J\x9d0;owned\x9c",
        "/sleep?\u202eowned\u2066\u200f日本\u0301\u0301",
        "/sleep?owned" + "\x1b[6n" * 16384,
    ],
)
def test_a_hostile_request_cannot_drive_the_terminal(daemon: Daemon, terminal: Terminal, uri: str) -> None:
    stuck_pool(daemon)
    daemon.start()
    (pid,) = daemon.engage(1)
    daemon.expect("exited on signal 9")
    with Connection(daemon.address()) as client, watching(pid) as (worker,):
        seen = uri.encode().decode("latin-1") if not uri.isascii() and "\x9b" not in uri else uri
        client.send(request_bytes(get_parameters("/sleep", REQUEST_URI=seen)))
        watch(terminal, daemon)
        terminal.wait(r"GET /sleep\?.*")
        terminal.press("s")
        terminal.wait(r"do_sleep")
        terminal.press("qq")
        assert terminal.wait_exit() == 0
        assert "owned" not in terminal.screen.title
        text = terminal.raw.decode()
        assert not set(text) & set("\x9b\x9d\x9c\x07\u202e\u2066\u200f\u0301")
        assert "\x1b]" not in text
        assert "\x1b[6n" not in text
        for verb in (["status", "--full"], ["stack", "www"], ["top", "--plain", "-n", "1"]):
            for line in daemon.run(*verb).stdout.splitlines():
                assert line.isprintable(), verb
        signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)
        worker.wait_exit()


def test_a_master_that_goes_away_is_waited_for(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon)
    daemon.start()
    watch(terminal, daemon)
    terminal.wait(rf"pid {daemon.pid}: 1 pool")
    daemon.stop()
    terminal.wait(r"^! no master runs: nobody listens on ")
    daemon.start()
    terminal.wait(rf"pid {daemon.pid}: 1 pool", absent="no master runs")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)])
def test_whatever_ends_it_the_terminal_is_as_before(
    daemon: Daemon, terminal: Terminal, number: signal.Signals, code: int
) -> None:
    stuck_pool(daemon)
    daemon.start()
    watch(terminal, daemon)
    assert terminal.process is not None
    terminal.process.send_signal(number)
    assert terminal.wait_exit() == code
    assert terminal.is_as_before()


def test_so_many_looks_and_no_more(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon)
    daemon.start()
    watch(terminal, daemon, "-n", "2")
    assert terminal.wait_exit() == 0
    assert terminal.is_as_before()


def test_colours_are_left_out_for_who_wants_none(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon)
    daemon.start()
    with asking(daemon, FOREVER):  # the pool has no free worker now: that is trouble
        watch(terminal, daemon)
        terminal.wait(r"^! www")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert COLOUR.search(terminal.raw)
        plain = Terminal()
        try:
            watch(plain, daemon, NO_COLOR="1")
            plain.wait(r"^! www")
            plain.press("q")
            assert plain.wait_exit() == 0
            assert not COLOUR.search(plain.raw)
        finally:
            plain.close()


def test_a_terminal_that_can_only_print_gets_text(daemon: Daemon, terminal: Terminal) -> None:
    stuck_pool(daemon)
    daemon.start()
    terminal.run(daemon.command("top", "-n", "1"), daemon.environment({"TERM": "dumb"}))
    assert terminal.wait_exit() == 0
    assert b"no worker is busy" in terminal.raw
    assert b"\x1b" not in terminal.raw


def test_without_a_terminal_it_prints(daemon: Daemon) -> None:
    stuck_pool(daemon, {"pm.max_children": 2})
    daemon.start()
    daemon.engage(2)
    with asking(daemon, FOREVER):
        done = daemon.run("top", "-n", "2", "--interval", "0.2", "www")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count(f"GET {FOREVER}") == 2
        assert len(re.findall(r"^\d\d:\d\d:\d\d$", done.stdout, re.MULTILINE)) == 2
        assert "\x1b" not in done.stdout
    assert daemon.run("top", "nix").returncode == 64
    daemon.expect("no such pool")


@as_root
def test_the_owner_of_a_pool_may_look_as_often_as_it_goes(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    owner = pwd.getpwnam(POOL_USER).pw_uid
    done = as_user(owner, daemon, "top", "--plain", "-n", "5", "--interval", "0.2")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.count("no worker is busy") == 5
    assert "not again" not in done.stdout


def test_without_a_master_there_is_nothing_to_watch(daemon: Daemon) -> None:
    daemon.add_pool()
    assert daemon.run("top", "-n", "1").returncode == 69
