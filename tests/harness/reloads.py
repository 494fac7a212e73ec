"""What tests of reloads and of growing pools need: an application with versions, a quick question, a headcount.

Runs in: tests.
Fails by: AssertionError, WaitTimeout.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import messages, packets
from pyfpm.messages import Ask, Progress, Verb, Verdict
from pyfpm.status.reports import PoolReport, read_status
from tests.harness.family import title_of
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.waits import PATIENCE, Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.daemon import Daemon

# /version tells which one it is; /slow takes 20 ms first, as a request does that asks a database; /health is the probe.
_SITE = """
import os
import time

import apps

VERSION = {version!r}
{more}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path not in ("/version", "/slow"):
        return apps.application(environ, start_response)
    if path == "/slow":
        time.sleep(0.02)  # what makes it slow
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(VERSION)))])
    return [VERSION.encode()]
"""


def write_site(daemon: Daemon, version: str, more: str = "", name: str = "deployed") -> None:
    """Deploy a version of deployed.py; `more` is code of the module that comes before the application."""
    daemon.write_app(f"{name}.py", _SITE.format(version=version, more=more))


class Outcome(NamedTuple):
    """What the master answered: its exit code, what happened on the way, and how it ended."""

    code: int
    progress: str
    text: str


class Question:
    """A verb on its way. `answer` waits for the verdict. Quicker than the command, which test_verbs.py has proved."""

    def __init__(self, daemon: Daemon, verb: Verb, *pools: str, everything: bool = False) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(daemon.pid_file.with_suffix(".sock")))
        packets.send(self._socket, Ask(verb, messages.EVERYTHING if everything else 0, text="\n".join(pools)))

    def answer(self) -> Outcome:
        progress: list[str] = []
        with self._socket:
            while received := packets.receive(self._socket, messages.Speaker.MASTER_ANSWERS):
                message = received[0]
                if isinstance(message, Verdict):
                    return Outcome(message.code, "\n".join(progress), message.text)
                assert isinstance(message, Progress), message
                progress.append(message.text)
        raise AssertionError("the master has hung up without a verdict")


def ask(daemon: Daemon, verb: Verb, *pools: str, everything: bool = False) -> Outcome:
    return Question(daemon, verb, *pools, everything=everything).answer()


def reload(daemon: Daemon, *pools: str, everything: bool = False) -> Outcome:
    """Reload with the configuration as the test has it now, and wait for the outcome."""
    daemon.write_config()
    return ask(daemon, Verb.RELOAD, *pools, everything=everything)


def report(daemon: Daemon, pool: str = "www") -> PoolReport:
    """The pool's line of `pyfpm status --json`."""
    pools, _ = read_status([ask(daemon, Verb.STATUS, pool).progress])
    return pools[0]


def wait_report(daemon: Daemon, wanted: Callable[[PoolReport], bool], pool: str = "www") -> PoolReport:
    """Ask for the status until it is as `wanted`; there is no event for what only the master knows."""
    deadline = Deadline(PATIENCE, f"a status of pool {pool} as wanted, it is {report(daemon, pool)}")
    while not wanted(now := report(daemon, pool)):
        deadline.pause()
    return now


def version(daemon: Daemon, pool: str = "www") -> str:
    return daemon.get("/version", pool=pool).body.decode()


def wait_version(daemon: Daemon, wanted: str, pool: str = "www") -> None:
    """Ask until this version answers: who answered 503 in its place may do so a few times more."""
    deadline = Deadline(PATIENCE, f"version {wanted} of pool {pool}")
    while version(daemon, pool) != wanted:
        deadline.pause()


@contextlib.contextmanager
def in_hand(daemon: Daemon, count: int = 1, pool: str = "www") -> Iterator[list[Connection]]:
    """So many requests that are inside the application until the gate lets them go; not waited for here."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(daemon.address(pool))) for _ in range(count)]
        for client in clients:
            client.send(request_bytes(get_parameters("/block")))
        yield clients


class Headcount:
    """A context that counts a pool's workers as often as it can; `most` is the highest number that it has seen."""

    def __init__(self, daemon: Daemon, pool: str = "www") -> None:
        self.most = 0
        self.seen: set[int] = set()
        self._children = f"/proc/{daemon.pid}/task/{daemon.pid}/children"
        self._title = f"pyfpm: pool {pool}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Headcount:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stopping.wait(0.001):
            with open(self._children) as children:
                pids = [int(pid) for pid in children.read().split()]
            workers = [pid for pid in pids if title_of(pid) == self._title]
            self.seen.update(workers)
            self.most = max(self.most, len(workers))


def memory_of(pid: int) -> int:
    """Resident bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
