"""A master that does not hear of every second event: the loop compares what is with what should be, and converges."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.load import Load
from tests.harness.reloads import in_hand, reload, report, version, wait_report, write_site
from tests.harness.waits import watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

# Every second callback is not called, every second SIGCHLD is lost for good, every second look at who has died is none.
_COMMAND = """#!{python}
import itertools
import signal
import sys

sys.path[0] = {library!r}
from pyfpm.cli.main import main
from pyfpm.master import loop, processes
from pyfpm.master import main as master

watch, read_signals, reap = loop.Loop.watch, master.read_signals, processes.reap
turn = itertools.count()


def watch_badly(self, descriptor, callback):
    calls = itertools.count()
    watch(self, descriptor, lambda now: next(calls) % 2 and callback(now))


def read_badly(reader):
    return [number for number in read_signals(reader) if number != signal.SIGCHLD or next(turn) % 2]


loop.Loop.watch = watch_badly
master.read_signals = read_badly
processes.reap = lambda *details: reap(*details) if next(turn) % 2 else []
main()
"""


@pytest.fixture
def careless(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    command = daemon.folder / "careless"
    command.write_text(_COMMAND.format(python=sys.executable, library=str(daemon.stage.library)))
    command.chmod(0o755)
    monkeypatch.setattr(daemon, "command", lambda *arguments: [str(command), "-c", str(daemon.config), *arguments])
    write_site(daemon, "one")
    return daemon


def test_start_kill_reload_stop(careless: Daemon) -> None:
    careless.add_pool("www", {"app": "deployed:application", "pm.max_children": 4})
    careless.start()
    careless.engage(4)
    careless.expect(r"exited on signal 9|does not serve|died before it was born|failed twice")
    for _ in range(2):
        with watching(*careless.workers(), careless.template()) as processes:
            for process in processes:
                os.kill(process.pid, signal.SIGKILL)
            for process in processes:
                process.wait_exit()
        careless.engage(4)
    write_site(careless, "two")
    with Load(careless.address(), "/slow", clients=4) as load:
        assert reload(careless).code == 0
        load.wait_answers(10)
    assert (load.lost, load.refused) == ([], 0)
    assert version(careless) == "two"
    assert wait_report(careless, lambda now: now.idle == now.total == 4).generation == 2
    assert careless.stop(signal.SIGQUIT) == 0


def test_pools_that_grow_and_shrink(careless: Daemon) -> None:
    spares = {"pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 2}
    careless.add_pool("www", {"pm": "dynamic", "pm.max_children": 8, **spares})
    careless.add_pool("shop", {"pm": "ondemand", "pm.max_children": 8, "pm.process_idle_timeout": "0.2s"})
    careless.start()
    for name in ("www", "shop"):
        with in_hand(careless, 6, name):
            careless.gate.wait_inside(6)
            careless.gate.release(6)
    wait_report(careless, lambda now: now.total == 2)
    wait_report(careless, lambda now: now.total == 0, "shop")


def test_a_refused_reload(careless: Daemon) -> None:
    careless.add_pool("www", {"app": "deployed:application", "pm.max_children": 2})
    careless.start()
    write_site(careless, "two", "raise RuntimeError('broken')")
    careless.expect("cannot load|reload refused")
    assert reload(careless).code == 1
    assert version(careless) == "one"
    assert report(careless).generation == 1
    assert careless.stop(signal.SIGTERM) == 0


def test_a_worker_that_is_born_and_dies_between_two_looks(careless: Daemon) -> None:
    careless.add_pool("www", {"pm.max_children": 4})
    careless.start()
    careless.expect(r"exited on signal 11 \(SIGSEGV.*\) .* in the middle of \"GET /kill\?signal=11\"")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(careless.address())) for _ in range(40)]
        for client in clients:
            client.send(request_bytes(get_parameters("/kill", "signal=11")))
        for client in clients:
            assert client.receive().ended is None
    assert careless.get("/pid").status == 200
    assert careless.stop(signal.SIGQUIT) == 0
    assert len(re.findall("exited on signal 11", careless.log.read())) == 40
