"""Wait for whatever comes first, and tell whoever waits for it.

Runs in: master.
Fails by: OSError from epoll.
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable, Iterator

Callback = Callable[[float], None]


class Loop:
    """Descriptors to read from, each with what to do; the only place where the master waits.

    `clock` gives monotonic seconds. Callbacks get the time of the wake-up: what a turn decides is of one moment.
    `guard` makes the context in which each callback runs, so that a fault in one is not the end of all.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        guard: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.clock = clock
        self._guard = guard
        self._selector = selectors.EpollSelector()
        self._reminders: dict[Callback, float] = {}

    def watch(self, descriptor: int, callback: Callback) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def watch_room(self, descriptor: int, callback: Callback) -> None:
        """Call when there is room to write again; nobody hears meanwhile what comes from there."""
        self.forget(descriptor)
        self._selector.register(descriptor, selectors.EVENT_WRITE, callback)

    def forget(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)

    def remind(self, callback: Callback, at: float) -> None:
        """Call it once when it is `at`; to be reminded of the same again moves the time."""
        self._reminders[callback] = at

    def forget_reminder(self, callback: Callback) -> None:
        self._reminders.pop(callback, None)

    def wait(self, seconds: float) -> float:
        """Wait at most so long, call what is due, and return the time."""
        if self._reminders:
            seconds = max(0.0, min(seconds, min(self._reminders.values()) - self.clock()))
        ready = self._selector.select(seconds)
        now = self.clock()
        for key, _ in ready:
            # An earlier callback of this round may have closed this one.
            if self._selector.get_map().get(key.fd) is key:
                with self._guard():
                    key.data(now)
        for callback in [one for one, at in self._reminders.items() if at <= now]:
            self.forget_reminder(callback)
            with self._guard():
                callback(now)
        return now

    @contextlib.contextmanager
    def watching(self, descriptor: int, callback: Callback) -> Iterator[None]:
        self.watch(descriptor, callback)
        try:
            yield
        finally:
            self.forget(descriptor)

    def close(self) -> None:
        self._selector.close()
