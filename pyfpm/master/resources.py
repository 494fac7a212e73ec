"""What a pool has open as long as it lives: its listeners and its logs. Generations come and go beside them.

Runs in: master.
Fails by: nothing; `close` is for who has opened it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyfpm.master.quota import Quota

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.logs.files import LogFile
    from pyfpm.master.listeners import Listener
    from pyfpm.master.loop import Loop


@dataclass
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
    access_log: OpenedLog | None
    error_log: LogFile | None  # the pool's own; `log` writes to the one of the generation that serves
    daemon: GlobalSettings
    log: ErrorLog
    loop: Loop
    status_listener: Listener | None = None  # where the monitor answers for this pool
    quota: Quota = field(default_factory=Quota)

    def close(self) -> None:
        """Close the listeners and the logs."""
        for one in self._opened():
            one.close()

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
