"""Upgrade: the master becomes a newer pyfpm by exec, with the same pid, the same sockets and the same children.

Runs in: master, the old one (`Upgrade`) and then the new one (`Legacy`).
Fails by: refusing. The newer pyfpm first tests the configuration in a process of its own; only if that succeeds, this
one lets itself be replaced.

What goes over is a few lines of JSON in a memfd, named by an environment variable, and open descriptors: listeners, the
pid file with its lock, the workers' mailboxes and pipes, and whoever waits for the outcome. The old workers serve until
new ones do; then they finish what they have in hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pyfpm import __version__, catalogue
from pyfpm.catalogue import marked
from pyfpm.errors import StartError
from pyfpm.fork import fork_child
from pyfpm.master import deadlines, processes
from pyfpm.master.socket_file import SocketFile
from pyfpm.messages import Verb
from pyfpm.signals import WATCHED

if TYPE_CHECKING:
    from pyfpm.master.control import Control, Request
    from pyfpm.master.daemon import Daemon
    from pyfpm.master.listeners import Listener
    from pyfpm.master.pools import Pool

VARIABLE = "PYFPM_UPGRADE"
TOLERANT = "PYFPM_TEST_TOLERANT"  # the test for an upgrade is about pyfpm: one pool's own trouble is none
FORMAT = 1
TEST_TIMEOUT = 60.0
LONGEST_COMPLAINT = 4000
REFUSED = 1
_STARTING_VERBS = ("start", "restart")


@dataclass
class OldWorker:
    """A worker of the image before this one."""

    pid: int
    mailbox: int
    pipes: list[int]


@dataclass
class OldListener:
    """A listener that no workers accept from: the monitor does."""

    listener: int
    inherited: bool
    file: list[int] | None = None


@dataclass
class OldPool:
    """What there was of a pool."""

    listener: int
    inherited: bool  # by the old image, from whoever started it
    generation: int
    workers: list[OldWorker]
    file: list[int] | None = None  # device and inode of the socket's file, if it is the old image's own


@dataclass
class Legacy:
    """What the old image leaves to the new."""

    version: str
    pid_file: int | None
    control: int | None
    clients: list[int]
    pools: dict[str, OldPool] = field(default_factory=dict)
    others: list[OldListener] = field(default_factory=list)

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Legacy | None:
        """What was left to this process, if it is a new image; the variable is removed."""
        descriptor = environ.pop(VARIABLE, "")
        if not descriptor.isdecimal():
            return None
        with open(int(descriptor), encoding="utf-8") as file:
            record = json.load(file)
        if record.pop("format") != FORMAT:
            raise StartError(catalogue.CANNOT_TAKE_OVER, f"cannot take over from pyfpm {record['version']}")
        pools = {
            name: OldPool(**{**pool, "workers": [OldWorker(**worker) for worker in pool["workers"]]})
            for name, pool in record.pop("pools").items()
        }
        others = [OldListener(**one) for one in record.pop("others", [])]
        legacy = cls(**record, pools=pools, others=others)
        for number in legacy.descriptors():
            os.set_inheritable(number, False)
        return legacy

    def descriptors(self) -> list[int]:
        """Every descriptor that goes over."""
        numbers = [*self.clients, *(number for number in (self.pid_file, self.control) if number is not None)]
        numbers += [other.listener for other in self.others]
        for pool in self.pools.values():
            numbers.append(pool.listener)
            for worker in pool.workers:
                numbers += [worker.mailbox, *worker.pipes]
        return numbers

    def listeners(self) -> list[socket.socket]:
        return [socket.socket(fileno=old.listener) for old in self.old_listeners()]

    def old_listeners(self) -> list[OldPool | OldListener]:
        """Whatever has a listener."""
        return [*self.pools.values(), *self.others]


class Upgrade:
    """The upgrade that somebody asks for: test the new image, then become it."""

    def __init__(self, daemon: Daemon, pid_file: int | None) -> None:
        self.is_due = False  # the test has succeeded, the next turn may exec
        self._daemon = daemon
        self._pid_file = pid_file
        self._waiting: list[Request] = []
        self._test_pid = 0
        self._since = 0.0
        self._reader = -1
        self._said = b""

    def request(self, request: Request, now: float) -> None:
        """Begin, or join the one under way."""
        self._waiting.append(request)
        if self._test_pid:
            return
        self._since = now
        self._said = b""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        try:
            self._test_pid = fork_child(lambda: _test_new_image(writer))
        except OSError as error:
            self._refuse(f"cannot start the new pyfpm: {error}")
            return
        finally:
            os.close(writer)
        self._daemon.loop.watch(self._reader, self._on_readable)
        self._daemon.log.notice("testing the configuration with the new pyfpm")

    def bury(self, pid: int, status: int) -> bool:
        """The test has ended; False if it was another process."""
        if pid != self._test_pid:
            return False
        self._on_readable(0.0)
        self._test_pid = 0
        if os.waitstatus_to_exitcode(status) == 0:
            self.is_due = True
        else:
            said = _without_timestamps(self._said.decode("utf-8", "replace"))
            self._refuse(f"the new pyfpm does not start with this configuration:\n{said}")
        return True

    def reconcile(self, now: float) -> None:
        if self._test_pid and deadlines.is_late(self._since, now, TEST_TIMEOUT):
            os.kill(self._test_pid, 9)  # our child, and not reaped yet: nobody else can have this pid

    @property
    def is_next(self) -> bool:
        """It is due, and no pool still finishes: the new image would not know it."""
        return self.is_due and not self._daemon.leaving

    @property
    def may_replace(self) -> bool:
        """Not while there is a worker that was ordered and is not yet born: the new image would not know it."""
        generations = [generation for pool in self._daemon.pools for generation in pool.generations()]
        return self.is_next and all(child.pid for generation in generations for child in generation.children)

    def replace_master(self, control: Control) -> None:
        """Become the new image. Returns only if that fails."""
        self.is_due = False
        self._daemon.monitor.close()  # the next image starts its own, which finds whoever has connected meanwhile
        clients = [channel for request in self._waiting if (channel := control.channel_of(request)) is not None]
        legacy = self._legacy(control, [channel.fileno() for channel in clients])
        memory = os.memfd_create("pyfpm-upgrade", 0)
        os.write(memory, json.dumps({"format": FORMAT, **asdict(legacy)}).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        for number in legacy.descriptors():
            os.set_inheritable(number, True)
        command = command_line()
        self._daemon.log.notice(f"upgrading: exec of {' '.join(command)}")
        # Until the new image listens to them, a signal would be the end of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        for pool in self._daemon.pools:
            pool.current.templates.end(signal.SIGTERM, 0.0)
        try:
            os.execve(
                sys.executable,
                command,
                {**os.environ, **self._daemon.notifier.environment(), VARIABLE: str(memory)},
            )
        except OSError as error:
            let_signals_in()
            for number in legacy.descriptors():
                os.set_inheritable(number, False)
            os.close(memory)
            self._refuse(f"cannot exec the new pyfpm: {error}")

    def _legacy(self, control: Control, clients: list[int]) -> Legacy:
        listening = None if control.listener is None else control.listener.fileno()
        legacy = Legacy(__version__, self._pid_file, listening, clients)
        of_pools = [pool.resources.listener for pool in self._daemon.pools]
        for other in [one for one in self._daemon.listeners() if one not in of_pools]:
            legacy.others.append(OldListener(other.socket.fileno(), other.inherited, _identity_of(other)))
        for pool in self._daemon.pools:
            workers = [
                OldWorker(child.pid, child.channel.fileno(), [output.descriptor for output in child.outputs])
                for generation in pool.generations()
                for child in generation.children
                if child.pid and not child.channel_ended
            ]
            listener = pool.resources.listener
            legacy.pools[pool.name] = OldPool(
                listener.socket.fileno(),
                listener.inherited,
                pool.current.number,
                workers,
                _identity_of(listener),
            )
        return legacy

    def _on_readable(self, _now: float) -> None:
        if self._reader < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while text := os.read(self._reader, 65536):
                self._said = (self._said + text)[-LONGEST_COMPLAINT:]
            self._daemon.loop.forget(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _refuse(self, reason: str) -> None:
        first, _, detail = reason.partition("\n")
        self._daemon.log.error(catalogue.UPGRADE_REFUSED, f"upgrade refused: {first}", detail=detail)
        for request in self._waiting:
            request.finish(REFUSED, marked(reason, catalogue.UPGRADE_REFUSED))
        self._waiting.clear()


def _identity_of(listener: Listener) -> list[int] | None:
    return None if listener.file is None else [listener.file.device, listener.file.inode]


def _without_timestamps(said: str) -> str:
    """What -t says, for a log that has timestamps and levels of its own."""
    return "\n".join(re.sub(r"^\[[^]]*\] [A-Z]+: ", "", line) for line in said.splitlines())


def _test_new_image(output: int) -> None:
    """In a child: run the command of this master with -t, by the interpreter and the code that are on disk now."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    arguments = [argument for argument in command_line() if argument not in ("-D", "--daemonize")]
    os.execve(sys.executable, [*arguments, "-t"], {**os.environ, TOLERANT: "1"})


def command_line() -> list[str]:
    """The command that this master was started by, as a command that is the daemon: without `start` or `restart`."""
    own = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    options = sys.argv[1:]
    verb = next((at for at, word in enumerate(options) if word in _STARTING_VERBS), len(options))
    return [*own, *options[:verb]]


def is_upgrade(environ: Mapping[str, str]) -> bool:
    """Whether this process is a new image that takes over from an old one."""
    return VARIABLE in environ


def announce(legacy: Legacy, control: Control, failing: list[str], now: float) -> None:
    """The new image is up: tell whoever asked the old one for it. `failing` are pools that do not serve with it."""
    text = f"upgraded from pyfpm {legacy.version} to {__version__}, pid {os.getpid()}"
    if failing:
        text += f"; not serving yet, their old workers go on: {', '.join(failing)}"
    for descriptor in legacy.clients:
        with contextlib.suppress(OSError):
            request = control.adopt(socket.socket(fileno=descriptor), Verb.UPGRADE, now)
            request.finish(REFUSED if failing else 0, text)


def let_signals_in() -> None:
    """They are listened to now: what came while one image replaced the other is delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def let_go(old: OldPool) -> None:
    """A pool that the new image does not have: its workers finish what they have in hand, its socket is tidied up."""
    for worker in old.workers:
        for descriptor in (worker.mailbox, *worker.pipes):
            os.close(descriptor)
        with contextlib.suppress(OSError):  # no descriptor is left, not even one of these
            if (pidfd := processes.hold_child(worker.pid)) is not None:
                processes.send_signal(pidfd, signal.SIGQUIT)
                os.close(pidfd)
    _remove_file(old)


def own_files(legacy: Legacy, listeners: list[Listener]) -> None:
    """Who got a listener of the old image has the say over its file, as that had. One that nobody got is removed."""
    open_ones = {one.socket.fileno(): one for one in listeners if one.inherited}
    for old in legacy.old_listeners():
        if (listener := open_ones.get(old.listener)) is not None:
            listener.file = file_of(old, listener.socket.getsockname())
            listener.inherited = old.inherited
        elif isinstance(old, OldListener):
            _remove_file(old)


def _remove_file(old: OldPool | OldListener) -> None:
    listener = socket.socket(fileno=old.listener)
    address = listener.getsockname()
    listener.detach()
    if (file := file_of(old, address)) is not None:
        file.remove()


def file_of(old: OldPool | OldListener, address: object) -> SocketFile | None:
    """The file of the socket at `address`, if the old image has made it."""
    if old.inherited or old.file is None or not isinstance(address, str):
        return None
    return SocketFile(address, *old.file)


def inherit_workers(pool: Pool, old: OldPool, now: float) -> None:
    """Make the workers of the old image a generation of this pool's, that leaves when the new one serves."""
    pool.adopt_remains(old.generation, [(one.pid, one.mailbox, tuple(one.pipes)) for one in old.workers], now)
