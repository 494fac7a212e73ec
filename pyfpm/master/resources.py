"""What a pool has open as long as it lives: its listeners and its logs. Generations come and go beside them.

Runs in: master.
Fails by: StartError or OSError when something cannot be opened, and then nothing of it is left open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import catalogue
from pyfpm.catalogue import marked
from pyfpm.errors import StartError
from pyfpm.logs.error_log import PoolLog
from pyfpm.master import logfiles
from pyfpm.master.listeners import Listener, Terms
from pyfpm.master.quota import Quota

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.config.values import Address
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.logs.files import LogFile
    from pyfpm.master.loop import Loop


class Doors(NamedTuple):
    """How listeners are come by: those that workers accept from, and those where the monitor answers."""

    listen: Callable[[Address, Terms], Listener]
    listen_for_status: Callable[[Address, Terms], Listener]
    give_back: Callable[[Listener], None] = Listener.close  # one for which there is no use


@dataclass(eq=False)
class OpenedLog:
    """A pool's access log and how often it was opened: workers with another number write to a file that was rotated."""

    file: LogFile
    opened: int = 1

    def reopen(self) -> None:
        self.file.reopen()
        self.opened += 1

    def close(self) -> None:
        self.file.close()


@dataclass
class PoolResources:
    """What all generations of a pool share."""

    listener: Listener
    daemon: GlobalSettings
    log: ErrorLog
    loop: Loop
    status_listener: Listener | None = None  # where the monitor answers for this pool
    access_log: OpenedLog | None = None
    error_log: LogFile | None = None  # the pool's own; `log` writes to the one of the generation that serves
    quota: Quota = field(default_factory=Quota)

    def close(self) -> None:
        """Close the listeners and the logs."""
        for one in self._opened():
            one.close()

    def close_listeners(self) -> None:
        """Nobody can connect any more; the logs stay."""
        self.listener.close()
        if self.status_listener is not None:
            self.status_listener.close()
            self.status_listener = None

    def close_unshared(self, others: PoolResources) -> None:
        """Close those that `others` does not use."""
        kept = others._opened()
        for one in self._opened():
            if not any(one is other for other in kept):
                one.close()
        if self.access_log is not others.access_log:
            self.access_log = None  # or workers that leave might be handed whatever has its number by then

    def _opened(self) -> list[Listener | OpenedLog | LogFile]:
        every = (self.listener, self.status_listener, self.access_log, self.error_log)
        return [one for one in every if one is not None]


def open_resources(
    settings: PoolSettings, daemon: GlobalSettings, log: ErrorLog, loop: Loop, doors: Doors
) -> PoolResources:
    """All that a new pool needs."""
    _try_slow_log(settings)
    terms = Terms.of(settings)
    resources = PoolResources(doors.listen(settings.listen, terms), daemon, PoolLog(log), loop)
    with contextlib.ExitStack() as undo:
        undo.callback(doors.give_back, resources.listener)
        if settings.pm_status_listen is not None:
            resources.status_listener = doors.listen_for_status(settings.pm_status_listen, terms)
            undo.callback(doors.give_back, resources.status_listener)
        resources.access_log = access_log_of(settings, log)
        if resources.access_log is not None:
            undo.callback(resources.access_log.close)
        resources.error_log = error_log_of(settings, log)
        resources.log.write_to(resources.error_log)
        undo.pop_all()
    return resources


def adapt_resources(
    old: PoolResources, before: PoolSettings, settings: PoolSettings, log: ErrorLog, doors: Doors
) -> PoolResources:
    """What new settings want in the place of `before`: what is open already where that stays the same."""
    terms = Terms.of(settings)
    resources = replace(old)
    with contextlib.ExitStack() as undo:
        undo.callback(resources.close_unshared, old)
        if settings.listen != before.listen:
            resources.listener = doors.listen(settings.listen, terms)
        if settings.pm_status_listen != before.pm_status_listen:
            address = settings.pm_status_listen
            resources.status_listener = None if address is None else doors.listen_for_status(address, terms)
        # A file is opened with the rights of the pool's user, so another user is to have another. And what could not be
        # opened the last time is tried again.
        is_another_user = (settings.user, settings.group) != (before.user, before.group)
        if is_another_user or settings.access_log != before.access_log or old.access_log is None:
            resources.access_log = access_log_of(settings, log)
        if is_another_user or settings.error_log != before.error_log or old.error_log is None:
            resources.error_log = error_log_of(settings, log)
        undo.pop_all()
    return resources


def reopen_logs(every: Iterable[tuple[str, PoolResources]]) -> list[str]:
    """Open all logs of the pools of these names anew, each once. Returns what went wrong."""
    faults = []
    logs = {
        id(log): (name, resources.log, which, log)
        for name, resources in every
        for which, log in (("error", resources.error_log), ("access", resources.access_log))
        if log is not None
    }
    for name, speaker, which, log in logs.values():
        try:
            log.reopen()
            speaker.notice(f"{which} log file re-opened", name)
        except OSError as error:
            fault = f"failed to re-open the {which} log, the old file stays in use: {error}"
            speaker.error(catalogue.LOG_NOT_REOPENED, fault, name)
            faults.append(marked(f"[pool {name}] {fault}", catalogue.LOG_NOT_REOPENED))
    return faults


def access_log_of(settings: PoolSettings, log: ErrorLog) -> OpenedLog | None:
    """The access log, if the pool has one. What a tenant made of his own folder must not stop the others."""
    if settings.access_log is None:
        return None
    try:
        return OpenedLog(logfiles.open_access_log(settings.access_log, settings))
    except OSError as error:
        text = f"failed to open access log ({settings.access_log}): {error.strerror}"
        if not logfiles.is_tenants(settings.access_log):
            raise StartError(catalogue.LOG_NOT_OPENED, text) from error
        going_on = f"{text}; the pool serves without it until the next reload"
        log.error(catalogue.POOL_WITHOUT_LOG, going_on, settings.name)
        return None


def error_log_of(settings: PoolSettings, log: ErrorLog) -> LogFile | None:
    """The pool's own error log, if it is to have one and can; as with the access log."""
    if settings.error_log is None:
        return None
    try:
        return logfiles.open_pool_log(settings.error_log, settings)
    except OSError as error:
        text = f"failed to open error log ({settings.error_log}): {error.strerror}"
        if not logfiles.is_tenants(settings.error_log):
            raise StartError(catalogue.LOG_NOT_OPENED, f"[pool {settings.name}] {text}") from error
        going_on = f"{text}; the pool has none of its own until the next reload"
        log.error(catalogue.POOL_WITHOUT_LOG, going_on, settings.name)
        return None


def _try_slow_log(settings: PoolSettings) -> None:
    """It is opened for each entry; the start is when somebody looks whether it can be."""
    if settings.slowlog is not None:
        try:
            logfiles.open_slow_log(settings.slowlog).close()
        except OSError as error:
            text = f"Unable to create or open slowlog({settings.slowlog}): {error.strerror}"
            raise StartError(catalogue.LOG_NOT_OPENED, text) from error
