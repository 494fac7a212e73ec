"""Requests that take too long: logged with the stacks of their worker, ended by an exception, killed at last.

Runs in: master.
Fails by: nothing; what goes wrong with a slow log is logged.

Who is over time is decided in deadlines.py. Nobody tells the master that a request has begun; but none that begins
after it has looked can be over time before the shortest limit has passed, so it looks again then, and sooner for those
whose time it has seen.
"""

from __future__ import annotations

import functools
import math
import os
import signal
from typing import TYPE_CHECKING

from pyfpm import catalogue, messages
from pyfpm.config.directive import name_of
from pyfpm.config.directives import PoolSettings
from pyfpm.installed import OWN_FILES
from pyfpm.logs.slow_log import SlowRequest, entry, shorten, show_stacks
from pyfpm.logs.timestamp import stamp
from pyfpm.master import processes
from pyfpm.master.deadlines import Handled, RequestLimits, Step, next_step
from pyfpm.master.logfiles import open_slow_log
from pyfpm.master.spawn import trace_signal
from pyfpm.master.stacks import Dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.catalogue import Code
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.children import Child, Children
    from pyfpm.master.loop import Loop
    from pyfpm.master.quota import Quota
    from pyfpm.master.tally import Tally
    from pyfpm.scoreboard import Reading, Scoreboard

# The exception waits so long for the stacks, or they would show the clean-up.
STACKS_FIRST = 0.1
# A tenant writes what it likes in its slots; it does not keep the master busy with that.
LEAST_PAUSE = 0.01
NO_STACKS = "no stacks: the worker did not write any"


def limits_of(settings: PoolSettings) -> RequestLimits:
    return RequestLimits(
        settings.request_slowlog_timeout,
        settings.request_terminate_timeout,
        settings.request_terminate_grace,
        settings.request_terminate_timeout_track_finished,
    )


class Overtime:
    """Looks after the time limits of one generation's requests. `post` puts a message in a worker's mailbox."""

    def __init__(
        self,
        settings: PoolSettings,
        scoreboard: Scoreboard,
        children: Children,
        tally: Tally,
        log: ErrorLog,
        loop: Loop,
        quota: Quota,
        post: Callable[[Child, messages.Message], bool],
    ) -> None:
        self._settings = settings
        self._limits = limits_of(settings)
        self._is_limited = self._limits.shortest < math.inf
        self._signal = trace_signal(settings)
        self._scoreboard = scoreboard
        self._children = children
        self._tally = tally
        self._log = log
        self._loop = loop
        self._quota = quota
        self._post = post
        self._stamp = stamp("%d-%b-%Y %H:%M:%S")
        self._handled: dict[int, Handled] = {}  # by slot
        self._dumps: dict[int, Dump] = {}
        self._awaited: set[tuple[int, Step]] = set()  # slots whose stacks are to be logged, and for what
        self._next_look = -math.inf

    def next_due(self, now: float) -> float:
        """When to look, though no event has come."""
        look = self._next_look if self._is_limited and len(self._children) else math.inf
        due = min([look, *(dump.due for dump in self._dumps.values())])
        return max(due, now + LEAST_PAUSE)

    def look_after(self, now: float) -> None:
        """Do what is due."""
        for slot, dump in list(self._dumps.items()):
            dump.look_after(now)
            if dump.is_done and self._dumps.get(slot) is dump:  # whoever was told may have asked anew
                del self._dumps[slot]
        if not self._is_limited or now < self._next_look:
            return
        self._quota.refill(now)
        again = now + self._limits.shortest
        if any(self._scoreboard.has(stage) for stage in self._limits.stages):
            for child in self._children:
                if child.ready and self._scoreboard.stage(child.slot) in self._limits.stages:
                    again = min(again, self._look_at(child, now))
        self._next_look = max(again, now + LEAST_PAUSE)

    def forget(self, child: Child, now: float) -> None:
        """A worker is no more: what it has written of its stacks is still worth having."""
        self._handled.pop(child.slot, None)
        if (dump := self._dumps.pop(child.slot, None)) is not None:
            dump.end(now)
        if child.trace >= 0:
            os.close(child.trace)
            child.trace = -1

    def _look_at(self, child: Child, now: float) -> float:
        """Do what is to be done about a worker's request; when to look at it again."""
        reading = self._scoreboard.read_timed(child.slot)
        done = self._handled.get(child.slot)
        if done is None:
            done = Handled(reading.number)
        elif done.number != reading.number:
            done = done.followed_by(reading.number, self._limits)
        step, again = next_step(reading, done, self._limits, now)
        if step is Step.LOG:
            done = done.logged(now)
            self._log_slow(child, reading, now)
        elif step is Step.END:
            self._log_over(child, reading, now)
            done = done.over(now, STACKS_FIRST, self._limits.grace)
        elif step is Step.TELL:
            self._post(child, messages.TimedOut(reading.number))
            done = done.told(now)
        elif step is Step.FORGIVE:
            done = done.forgiven()
        elif step is Step.KILL and not child.timed_out:
            child.timed_out = True
            grace = self._limits.grace
            text = f"{self._named(child)} has not ended within {grace:g} sec, killing"
            self._log.warning(catalogue.OVER_TIME_KILLED, text, self._settings.name)
            processes.send_signal(child.pidfd, signal.SIGKILL)
        elif step is Step.KILL:
            again = math.inf
        self._handled[child.slot] = done
        return again

    def _log_slow(self, child: Child, reading: Reading, now: float) -> None:
        age = max(0.0, now - reading.since / 1e9)
        self._tally.slow += 1
        if not self._may_log(child, Step.LOG):
            return
        text = f"{self._named(child)} executing too slow ({age:.6f} sec), logging"
        self._warn(catalogue.SLOW_REQUEST, text)
        script, client = self._scoreboard.read_origin(child.slot)
        slow = SlowRequest(
            self._stamp(self._log.clock()), self._settings.name, child.pid, script, self._request(child), age, client
        )
        self._awaited.add((child.slot, Step.LOG))
        self.ask_stacks(child, now, functools.partial(self._write_entry, child, slow))

    def _log_over(self, child: Child, reading: Reading, now: float) -> None:
        age = max(0.0, now - reading.since / 1e9)
        self._tally.timed_out += 1
        if not self._may_log(child, Step.END):
            return
        text = f"{self._named(child)} execution timed out ({age:.6f} sec), terminating"
        self._warn(catalogue.REQUEST_OVER_TIME, text)
        self._awaited.add((child.slot, Step.END))
        self.ask_stacks(child, now, functools.partial(self._say_stacks, child, reading.number))

    def _may_log(self, child: Child, step: Step) -> bool:
        """Not while the stacks of its last request are awaited for the same, nor when the pool has no room left."""
        if (child.slot, step) in self._awaited:
            return False
        if not self._quota.has_room:
            self._quota.leave_out(1)
            return False
        return True

    def _warn(self, code: Code, text: str, detail: str = "") -> None:
        self._quota.charge(len(text) + len(detail))
        self._log.warning(code, text, self._settings.name, detail)

    def ask_stacks(self, child: Child, now: float, tell: Callable[[bytes, float], None]) -> None:
        """Have a worker write its stacks; `tell` gets them, or b"" if none come. One dump is for all who ask."""
        dump = self._dumps.get(child.slot)
        if dump is not None and not dump.is_done:
            dump.tell_too(tell)
        else:
            self._dumps[child.slot] = Dump(child, self._signal, self._loop, now, tell)

    def _write_entry(self, child: Child, slow: SlowRequest, text: bytes, _now: float) -> None:
        self._awaited.discard((child.slot, Step.LOG))
        path = self._settings.slowlog
        if path is None:
            return
        try:
            file = open_slow_log(path)
        except OSError as error:
            self._complain(path, error.strerror or str(error))
            return
        lines = entry(slow, self._stacks(child, text) or [NO_STACKS])
        self._quota.charge(len(lines))
        if not file.write(lines):
            self._complain(path, file.reason)
        file.close()

    def _complain(self, path: str, reason: str) -> None:
        text = f"cannot write {name_of(PoolSettings, 'slowlog')} ({path}): {reason}"
        self._log.error(catalogue.SLOW_LOG_FAILED, text, self._settings.name)

    def _say_stacks(self, child: Child, number: int, text: bytes, now: float) -> None:
        self._awaited.discard((child.slot, Step.END))
        detail = "\n".join(f"  {line}" for line in self._stacks(child, text))
        words = f"{child.label()} was here when its time was over:" if detail else f"{child.label()}: {NO_STACKS}"
        self._warn(catalogue.OVER_TIME_STACKS, words, detail)
        done = self._handled.get(child.slot)
        if done is not None and done.number == number and done.tell_at is not None:
            self._handled[child.slot] = done.sooner(now, self._limits.grace)
            self._next_look = now

    def _stacks(self, child: Child, text: bytes) -> list[str]:
        return show_stacks(text, child.main_thread, self._settings.request_slowlog_trace_depth, OWN_FILES)

    def _named(self, child: Child) -> str:
        script, _ = self._scoreboard.read_origin(child.slot)
        return f"{child.label()}, script '{script}' (request: \"{shorten(self._request(child))}\")"

    def _request(self, child: Child) -> str:
        reading = self._scoreboard.read_whole(child.slot)
        return f"{reading.method} {reading.uri}"
