"""An operator stops the daemon: gracefully, at once, or by Ctrl-C; nobody is cut off needlessly."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.load import Load
from tests.harness.waits import Stopwatch, watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def test_quit_under_load_loses_no_request_in_hand(daemon: Daemon) -> None:
    marks = daemon.folder / "marks"
    marks.touch()
    marks.chmod(0o666)
    daemon.add_pool("www", {"pm.max_children": 3, "env[MARKS]": marks})
    daemon.start()
    with Load(daemon.address(), "/mark", clients=6) as load:
        load.wait_answers(50)
        assert daemon.stop(signal.SIGQUIT) == 0
        load.stop()
    begun = {int(line) for line in marks.read_text().split()}
    answered = {number for number, _ in load.answered}
    assert begun == answered, "what an application had begun was answered"
    assert len(load.lost) <= 6, load.lost


def test_quit_waits_for_the_requests_in_hand(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(daemon.address())) for _ in range(2)]
        for client in clients:
            client.send(request_bytes(get_parameters("/block")))
        busy = daemon.gate.wait_inside(2)
        daemon.engage(1)
        family = daemon.family()
        processes = stack.enter_context(watching(*family))
        daemon.send_signal(signal.SIGQUIT)
        daemon.wait_log(r"NOTICE: Finishing \.\.\.")
        for process in processes:
            if process.pid not in busy:
                process.wait_exit()
        assert daemon.is_running
        daemon.gate.release(2)
        for client in clients:
            assert client.receive().status == 200
    assert daemon.wait_exit() == 0
    daemon.wait_log("exiting, bye-bye!")
    assert "STOPPING=1" in daemon.drain_notices()


def test_quit_has_its_limit(daemon: Daemon) -> None:
    daemon.set_global({"process_control_timeout": "1s"})
    daemon.add_pool()
    daemon.start()
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/deaf")))
        daemon.gate.wait_inside()
        daemon.expect(r"child \d+ exited on signal 9 \(SIGKILL\)")
        clock = Stopwatch()
        assert daemon.stop(signal.SIGQUIT) == 0
        # QUIT, TERM after the timeout, KILL a second later.
        assert clock.elapsed > 1.9
        assert clock.fair < 5
        assert client.receive().ended is None


def test_term_cuts_off_what_is_in_hand(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    with Connection(daemon.address()) as client, watching(*daemon.family()) as processes:
        assert processes
        client.send(request_bytes(get_parameters("/block")))
        daemon.gate.wait_inside()
        clock = Stopwatch()
        assert daemon.stop(signal.SIGTERM) == 0
        assert clock.fair < 5, "it does not wait for process_control_timeout"
        assert not any(process.is_alive() for process in processes)
        assert client.receive().ended is None
    daemon.wait_log(r"NOTICE: Terminating \.\.\.")
    # What was lost is worth a line.
    daemon.wait_log(r'WARNING: \[pool www\] child \d+ exited on signal 15 .*, in the middle of "GET /block"')


def test_term_is_over_within_the_timeout_whatever_the_application_does(daemon: Daemon) -> None:
    daemon.set_global({"process_control_timeout": "1s"})
    daemon.write_app(
        "deaf.py",
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})\n"
        "from apps import application\n",
    )
    daemon.add_pool("www", {"app": "deaf:application"})
    daemon.add_pool("shop", {"app": "deaf:application", "preload": "no"})
    daemon.start()
    daemon.expect(r"(child|template) \d+ exited on signal 9 \(SIGKILL\)")
    with watching(*daemon.family()) as processes:
        assert processes
        clock = Stopwatch()
        assert daemon.stop(signal.SIGTERM) == 0
        assert clock.fair < 4
        assert not any(process.is_alive() for process in processes)


def test_ctrl_c(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    # What a terminal does: the signal goes to all of its foreground process group.
    os.killpg(daemon.pid, signal.SIGINT)
    assert daemon.wait_exit() == 0
    daemon.wait_log("Terminating ...")
    assert "SIGINT" not in daemon.log.read(), "only the master is in that group"


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        ((signal.SIGQUIT, signal.SIGQUIT), ["Finishing"]),
        ((signal.SIGQUIT, signal.SIGTERM), ["Finishing", "Terminating"]),
        ((signal.SIGTERM, signal.SIGQUIT), ["Terminating"]),
    ],
)
def test_a_stronger_wish_overrides(daemon: Daemon, signals: tuple[signal.Signals, ...], words: list[str]) -> None:
    path = "/deaf" if signals[0] is signal.SIGTERM else "/block"
    if path == "/deaf":
        daemon.set_global({"process_control_timeout": "2s"})
    daemon.add_pool()
    daemon.start()
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters(path)))
        daemon.gate.wait_inside()
        daemon.expect(r"exited on signal (9|15) .*, in the middle of")
        for number in signals:
            daemon.send_signal(number)
            daemon.wait_log(words[-1] if number is signals[-1] else words[0])
        if set(signals) == {signal.SIGQUIT}:
            daemon.gate.release()
        assert daemon.wait_exit() == 0
    said = [line.split(": ")[1].split()[0] for line in daemon.log.read().splitlines() if line.endswith(" ...")]
    assert said == words


def test_quit_while_the_application_is_imported(daemon: Daemon) -> None:
    daemon.write_app("slow.py", "import apps\napps.enter_and_wait()\napplication = apps.application\n")
    daemon.add_pool("www", {"app": "slow:application"})
    daemon.launch()
    daemon.gate.wait_inside()
    clock = Stopwatch()
    assert daemon.stop(signal.SIGQUIT) == 0
    assert clock.fair < 5, "it does not wait for process_control_timeout"
