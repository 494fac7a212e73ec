"""What a master leaves to the image that replaces it: the record of it, and how the new image takes over.

Runs in: master, the image that goes (it fills a `Legacy`) and the one that comes.
Fails by: StartError for a record in a format that we do not know, which the test before an upgrade has refused. For the
rest by going on: the daemon runs already, so what cannot be opened as the configuration wants it stays as it was.

What goes over is a few lines of JSON in a memfd, named by an environment variable, and open descriptors: listeners, the
pid file with its lock, the workers' mailboxes and pipes, and whoever waits for the outcome. The old workers serve until
new ones do; then they finish what they have in hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from pyfpm import __version__, catalogue
from pyfpm.catalogue import marked
from pyfpm.config.values import read_address
from pyfpm.errors import StartError
from pyfpm.master import processes
from pyfpm.master.listeners import Listener
from pyfpm.master.resources import Doors
from pyfpm.master.socket_file import SocketFile
from pyfpm.messages import Verb

if TYPE_CHECKING:
    from pyfpm.config.directives import PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.control import Control
    from pyfpm.master.daemon import Daemon
    from pyfpm.master.pools import Pool

VARIABLE = "PYFPM_UPGRADE"
FORMAT = 2
NOT_ALL = 1  # the exit code of an upgrade after which something does not serve as it should


@dataclass
class LegacyWorker:
    """A worker of the image before this one."""

    pid: int
    mailbox: int
    pipes: list[int]


@dataclass
class LegacyListener:
    """A listening socket: a pool's, or one that the monitor accepts from."""

    listener: int
    inherited: bool  # by the old image, from whoever started it
    file: list[int] | None  # device and inode of the socket's file, if it is the old image's own
    address: str  # as the configuration had it

    @classmethod
    def of(cls, listener: Listener) -> LegacyListener:
        file = None if listener.file is None else [listener.file.device, listener.file.inode]
        return cls(listener.socket.fileno(), listener.inherited, file, listener.address.show())


@dataclass
class LegacyPool:
    """What there was of a pool."""

    listener: LegacyListener
    generation: int
    workers: list[LegacyWorker]

    @classmethod
    def of(cls, pool: Pool) -> LegacyPool:
        workers = [
            LegacyWorker(child.pid, child.channel.fileno(), [output.descriptor for output in child.outputs])
            for generation in pool.generations()
            for child in generation.children
            if child.pid and not child.channel_ended
        ]
        return cls(LegacyListener.of(pool.resources.listener), pool.current.number, workers)


@dataclass(eq=False)
class Legacy:
    """What the old image leaves to the new."""

    version: str
    pid_file: int | None
    control: int | None
    clients: list[int]
    pools: dict[str, LegacyPool] = field(default_factory=dict)
    others: list[LegacyListener] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # of the new image, for who has asked for the upgrade

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
            name: LegacyPool(
                LegacyListener(**pool["listener"]),
                pool["generation"],
                [LegacyWorker(**worker) for worker in pool["workers"]],
            )
            for name, pool in record.pop("pools").items()
        }
        others = [LegacyListener(**one) for one in record.pop("others")]
        legacy = cls(**record, pools=pools, others=others)
        for number in legacy.descriptors():
            os.set_inheritable(number, False)
        return legacy

    def write(self, descriptor: int) -> None:
        """The record, for `take`."""
        os.write(descriptor, json.dumps({"format": FORMAT, **asdict(self)}).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)

    def descriptors(self) -> list[int]:
        """Every descriptor that goes over."""
        numbers = [*self.clients, *(number for number in (self.pid_file, self.control) if number is not None)]
        numbers += [one.listener for one in self.listeners()]
        for pool in self.pools.values():
            for worker in pool.workers:
                numbers += [worker.mailbox, *worker.pipes]
        return numbers

    def listeners(self) -> list[LegacyListener]:
        return [*(pool.listener for pool in self.pools.values()), *self.others]

    def sockets(self) -> list[socket.socket]:
        return [socket.socket(fileno=one.listener) for one in self.listeners()]

    def complain(self, log: ErrorLog, error: StartError, otherwise: str, pool: str | None = None) -> None:
        """The new image could not do what its configuration wants, and has done `otherwise`."""
        text = f"{error}; {otherwise}"
        log.error(error.code, text, pool)
        self.troubles.append(marked(f"[pool {pool}] {text}" if pool else text, error.code))

    # ── the new image opens what its configuration wants ────────────────────────────────────────────────────────────

    def open_all(
        self, daemon: Daemon, wanted: tuple[PoolSettings, ...], inherited: list[socket.socket], doors: Doors
    ) -> None:
        """Have the status address and the pools open; each where it was before, if it cannot be as it is wanted."""
        try:
            daemon.listen_for_status(inherited)
        except StartError as error:
            daemon.settings = replace(daemon.settings, status_listen=None)  # so that a reload tries it again
            self.complain(daemon.log, error, "there is none until the next reload")
        for settings in wanted:
            pool = self._open_pool(daemon, settings, inherited, doors)
            if pool is not None:
                daemon.pools.append(pool)

    def _open_pool(
        self, daemon: Daemon, settings: PoolSettings, inherited: list[socket.socket], doors: Doors
    ) -> Pool | None:
        """None for one that is new and cannot be opened."""
        try:
            return daemon.open_pool(settings, daemon.settings, doors)
        except StartError as error:
            refusal = error
        pool = self._open_as_before(daemon, settings, inherited)
        otherwise = "it is left out" if pool is None else "it goes on where it was"
        self.complain(daemon.log, refusal, f"{otherwise} until the next reload", settings.name)
        return pool

    def _open_as_before(self, daemon: Daemon, settings: PoolSettings, inherited: list[socket.socket]) -> Pool | None:
        """On the listener that the pool has, and without logs if it is for them that it could not be opened."""
        old = self.pools.get(settings.name)
        kept = next((one for one in inherited if old and one.fileno() == old.listener.listener), None)
        if old is None or kept is None:
            return None
        listener = Listener(kept, read_address(old.listener.address), inherited=True)
        inherited.remove(kept)
        settings = replace(settings, listen=listener.address, pm_status_listen=None)
        doors = Doors(lambda *_: listener, lambda *_: listener, lambda _: None)
        with contextlib.suppress(StartError):
            return daemon.open_pool(settings, daemon.settings, doors)
        bare = replace(settings, access_log=None, error_log=None, slowlog=None, request_slowlog_timeout=0.0)
        return daemon.open_pool(bare, daemon.settings, doors)

    # ── and takes over what there is ────────────────────────────────────────────────────────────────────────────────

    def take_over(self, daemon: Daemon) -> None:
        """Give the pools what the image before this one had: the right to remove a socket's file, and its workers."""
        now = daemon.loop.clock()
        self._own_files(daemon.listeners())
        for name, old in self.pools.items():
            pool = daemon.pool(name)
            if pool is None:
                _dismiss(old.workers)
            else:
                workers = [(one.pid, one.mailbox, tuple(one.pipes)) for one in old.workers]
                pool.adopt_legacy(old.generation, workers, now)

    def _own_files(self, listeners: list[Listener]) -> None:
        """Who got a listener of the old image has the say over its file, as that had. One of nobody is removed."""
        taken = {one.socket.fileno(): one for one in listeners if one.inherited}
        for old in self.listeners():
            file = _file_of(old)
            if (listener := taken.get(old.listener)) is not None:
                listener.file, listener.inherited = file, old.inherited
            elif file is not None:
                file.remove()

    def announce(self, control: Control, failing: list[str], now: float) -> None:
        """The new image is up: tell whoever asked the old one for it. `failing` are pools that do not serve with it."""
        text = f"upgraded from pyfpm {self.version} to {__version__}, pid {os.getpid()}"
        if failing:
            text += f"; not serving yet, their old workers go on: {', '.join(failing)}"
        text = "\n".join([text, *self.troubles])
        for descriptor in self.clients:
            with contextlib.suppress(OSError):
                request = control.adopt(socket.socket(fileno=descriptor), Verb.UPGRADE, now)
                request.finish(NOT_ALL if failing or self.troubles else 0, text)


@contextlib.contextmanager
def going_on(legacy: Legacy | None, log: ErrorLog, otherwise: str) -> Iterator[None]:
    """What fails in this context ends a start, and never a daemon that runs: then `otherwise` holds."""
    try:
        yield
    except StartError as error:
        if legacy is None:
            raise
        legacy.complain(log, error, otherwise)


def is_upgrade(environ: Mapping[str, str]) -> bool:
    """Whether this process is a new image that takes over from an old one."""
    return VARIABLE in environ


def _file_of(old: LegacyListener) -> SocketFile | None:
    """The file of this socket, if the old image has made it."""
    listener = socket.socket(fileno=old.listener)
    address = listener.getsockname()
    listener.detach()
    if old.inherited or old.file is None or not isinstance(address, str):
        return None
    return SocketFile(address, *old.file)


def _dismiss(workers: list[LegacyWorker]) -> None:
    """Of a pool that the new image does not have: they finish what they have in hand."""
    for worker in workers:
        for descriptor in (worker.mailbox, *worker.pipes):
            os.close(descriptor)
        with contextlib.suppress(OSError):  # no descriptor is left, not even one of these
            if (pidfd := processes.hold_child(worker.pid)) is not None:
                processes.send_signal(pidfd, signal.SIGQUIT)
                os.close(pidfd)
