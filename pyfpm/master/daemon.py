"""What the parts of the master share: settings, pools, log, loop.

Runs in: master.
Fails by: StartError when a pool's listener or log cannot be opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pyfpm.logs.error_log import Level, Manner
from pyfpm.master.backlog import Backlog
from pyfpm.master.listeners import Listener, Terms, open_listener
from pyfpm.master.monitor import Monitor
from pyfpm.master.notify import Notifier
from pyfpm.master.pools import Pool
from pyfpm.master.resources import open_resources

if TYPE_CHECKING:
    import socket

    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.loop import Loop
    from pyfpm.master.resources import Doors

JSON = "json"


class Launch(NamedTuple):
    """How this master was started. `announce` is told the exit code that the one who started it should get."""

    config_path: str
    prefix: str | None
    pid: str | None  # -g
    allow_root: bool
    announce: Callable[[int], None]


@dataclass(eq=False)
class Daemon:
    """The daemon as a whole. `leaving` are pools that the configuration has no more and that still finish requests.

    `status_listener` is where the monitor answers for all pools.
    """

    settings: GlobalSettings
    launch: Launch
    log: ErrorLog
    loop: Loop
    notifier: Notifier
    backlog: Backlog = field(default_factory=Backlog)
    pools: list[Pool] = field(default_factory=list)
    leaving: list[Pool] = field(default_factory=list)
    status_listener: Listener | None = None

    def __post_init__(self) -> None:
        self.monitor = Monitor(self.log)

    def all_pools(self) -> list[Pool]:
        return [*self.pools, *self.leaving]

    def pool(self, name: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.name == name), None)

    def room(self) -> int:
        """How many more workers process.max allows; plenty where it is not set."""
        most = self.settings.process_max
        return most - sum(pool.processes() for pool in self.all_pools()) if most else 1 << 30

    def open_all(self, wanted: Iterable[PoolSettings], inherited: list[socket.socket], doors: Doors) -> None:
        """Have all pools open, and the listener of the monitor for all of them."""
        for settings in wanted:
            self.pools.append(self.open_pool(settings, self.settings, doors))
        self.listen_for_status(inherited)

    def open_pool(self, settings: PoolSettings, daemon: GlobalSettings, doors: Doors) -> Pool:
        """A pool with its listeners and its logs open, and nobody in it yet."""
        with contextlib.ExitStack() as undo:
            resources = open_resources(settings, daemon, self.log, self.loop, doors)
            undo.callback(resources.close)
            pool = Pool(settings, resources, self.backlog)
            undo.pop_all()
        return pool

    def listen_for_status(self, inherited: list[socket.socket]) -> None:
        """Open the listener of the monitor for all pools, if there is to be one."""
        if self.settings.status_listen is not None:
            self.status_listener = open_listener(self.settings.status_listen, Terms(), inherited, self.log)

    def listeners(self) -> list[Listener]:
        """All that are open."""
        every = [pool.resources for pool in self.pools]
        found = [
            self.status_listener,
            *(one for resources in every for one in (resources.listener, resources.status_listener)),
        ]
        return [one for one in found if one is not None]

    def keep_monitor(self, now: float) -> None:
        """Have the monitor know what there is."""
        listener = None if self.status_listener is None else self.status_listener.socket
        self.monitor.reconcile(self.pools, listener, self.settings.status_user, now)

    def bury_left_pools(self) -> None:
        """Close what a reload took out of the configuration, once its last request is done."""
        for pool in [pool for pool in self.leaving if pool.is_gone]:
            pool.close()
            self.leaving.remove(pool)
            self.log.notice("this pool is closed", pool.name)

    def close(self) -> None:
        self.monitor.close()
        if self.status_listener is not None:
            self.status_listener.close()
        for pool in reversed(self.all_pools()):
            pool.close()
        self.backlog.close()

    def status(self) -> str:
        """A line for systemctl status."""
        failing = [pool.name for pool in self.pools if not pool.can_serve]
        return "Ready to handle connections" + (f"; not serving: {', '.join(failing)}" if failing else "")


def manner_of(settings: GlobalSettings) -> Manner:
    """How much the logs tell, and how."""
    return Manner(
        Level[settings.log_level.upper()],
        settings.log_limit,
        settings.log_format == JSON,
        settings.syslog_ident,
        settings.syslog_facility,
    )
