"""What a reload opens before it changes anything: the listeners and logs that the new configuration wants.

Runs in: master.
Fails by: StartError or OSError, and then nothing of it is left open.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.errors import StartError
from pyfpm.master.job import Roll
from pyfpm.master.listeners import Listener, Terms, open_listener
from pyfpm.master.logfiles import open_error_log
from pyfpm.master.resources import Doors, adapt_resources

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyfpm.config.directives import Configuration, GlobalSettings
    from pyfpm.config.values import Address
    from pyfpm.logs.error_log import ErrorLog, Sink
    from pyfpm.master.daemon import Daemon
    from pyfpm.master.pools import Pool


@dataclass(eq=False)
class Opened:
    """Pools that are new, what those that stay would roll to, and what is not one pool's: monitor and error log."""

    new: list[Pool] = field(default_factory=list)
    rolls: list[Roll] = field(default_factory=list)
    status_listener: Listener | None = None
    error_log: Sink | None = None
    taken: list[tuple[Listener, Listener]] = field(default_factory=list)  # whose it was, whose it is to be

    def keep(self) -> None:
        """It is decided: who took over a listener has the say over its file, and who had it no more."""
        for old, new in self.taken:
            new.inherited, old.inherited = old.inherited, True

    def close(self) -> None:
        for pool in self.new:
            pool.close()
        for roll in self.rolls:
            roll.close()
        for one in (self.status_listener, self.error_log):
            if one is not None:
                one.close()


def open_all(daemon: Daemon, configuration: Configuration, chosen: Collection[str], *, is_whole: bool) -> Opened:
    """Open what the `chosen` pools want; where the configuration is taken over as a whole, what is no pool's, too."""
    opened = Opened()
    with contextlib.ExitStack() as undo:
        undo.callback(opened.close)
        _open_pools(daemon, configuration, chosen, configuration.global_ if is_whole else daemon.settings, opened)
        if is_whole:
            _open_for_all(daemon, configuration.global_, opened)
        undo.pop_all()
    opened.keep()
    return opened


def _open_pools(
    daemon: Daemon, configuration: Configuration, chosen: Collection[str], global_: GlobalSettings, opened: Opened
) -> None:
    doors = _doors(daemon, configuration, chosen, opened)
    for settings in [one for one in configuration.pools if one.name in chosen]:
        pool = daemon.pool(settings.name)
        if pool is None:
            opened.new.append(daemon.open_pool(settings, global_, doors))
        else:
            resources = adapt_resources(pool.resources, pool.settings, settings, daemon.log, doors)
            opened.rolls.append(Roll(pool, settings, resources))


def _doors(daemon: Daemon, configuration: Configuration, chosen: Collection[str], opened: Opened) -> Doors:
    """New listeners, or those of pools that go or move, if others want them: a pool that is renamed, most often.

    Those where the monitor answers are apart: they do not block, and a worker's must.
    """
    wanted = {settings.name: settings for settings in configuration.pools}
    free: list[Listener] = []
    free_for_status: list[Listener] = []
    for pool in [pool for pool in daemon.pools if pool.name in chosen]:
        new, old = wanted.get(pool.name), pool.settings
        if new is None or new.listen != old.listen:
            free.append(pool.resources.listener)
        if pool.resources.status_listener and (new is None or new.pm_status_listen != old.pm_status_listen):
            free_for_status.append(pool.resources.status_listener)
    return Doors(
        partial(_take_or_open, free, opened, daemon.log), partial(_take_or_open, free_for_status, opened, daemon.log)
    )


def _take_or_open(free: list[Listener], opened: Opened, log: ErrorLog, address: Address, terms: Terms) -> Listener:
    for old in free:
        if old.address == address:
            new = Listener(old.socket.dup(), address, inherited=True, file=old.file)
            opened.taken.append((old, new))
            return new
    return open_listener(address, terms, [], log, patient=False)


def _open_for_all(daemon: Daemon, new: GlobalSettings, opened: Opened) -> None:
    old, sink = daemon.settings, daemon.log.sink
    if new.status_listen is not None and new.status_listen != old.status_listen:
        opened.status_listener = open_listener(new.status_listen, Terms(), [], daemon.log, patient=False)
    # Standard error, by -O or on a terminal, stays what it is whatever error_log says.
    if new.error_log != old.error_log and sink is not None and not sink.is_stderr:
        try:
            opened.error_log = open_error_log(new.error_log)
        except OSError as error:
            text = f"failed to open error_log ({new.error_log}): {error.strerror}"
            raise StartError(catalogue.LOG_NOT_OPENED, text) from error
