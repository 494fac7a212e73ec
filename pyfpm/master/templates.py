"""The template of a generation: started when it is wanted, started again when it fails, ended when its part is done.

Runs in: master.
Fails by: nothing; a template that does not start is counted in `failures`, and tried again with patience.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyfpm import catalogue, messages, packets
from pyfpm.errors import StartError
from pyfpm.master import deadlines, processes
from pyfpm.master.backoff import YOUNG
from pyfpm.master.children import Template
from pyfpm.master.dialogue import reason_of
from pyfpm.master.failures import Failures
from pyfpm.master.reason import Reason

if TYPE_CHECKING:
    from pyfpm.config.directives import PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.dialogue import Dialogue
    from pyfpm.master.spawn import Spawned

TIME_TO_LEAVE = 1.0  # seconds; a template has nothing in hand, so it is killed if it does not go when told


class Templates:
    """The template that there is, if any. `start` makes a process for a `preload` mode; `on_fork_failed` is told."""

    def __init__(
        self,
        settings: PoolSettings,
        dialogue: Dialogue,
        log: ErrorLog,
        *,
        start: Callable[[str], Spawned],
        on_fork_failed: Callable[[messages.ForkFailed, float], None],
    ) -> None:
        self.current: Template | None = None
        self.failures = Failures(settings.name, log)
        self.files_changed: str | None = None  # its answer to `ask_files`
        self._name = settings.name
        self._preload = settings.preload
        self._patience = settings.spawn_timeout
        self._dialogue = dialogue
        self._log = log
        self._start = start
        self._on_fork_failed = on_fork_failed

    @property
    def has_loaded(self) -> bool:
        """It can fork workers."""
        return self.current is not None and self.current.ready and self.current.finished_since is None

    @property
    def state(self) -> str:
        """In one of the words of facts.TEMPLATES."""
        if self.has_loaded:
            return "ready"
        if self.current is not None and self.current.finished_since is None:
            return "loading"
        return "failed" if self.failures.streak.failures else "none"

    def is_ending(self, now: float) -> bool:
        """Whether there is none, or soon will be: what it has been ordered and has not begun ends with it."""
        template = self.current
        if template is None or template.finished_since is not None:
            return True
        self._hear(template, now)  # its end closes its channel first, then the mailboxes in the orders that wait there
        if template.channel_ended:
            processes.send_signal(template.pidfd, signal.SIGKILL)  # one that only hangs up is of no use
        return template.channel_ended

    def may_start(self, now: float) -> bool:
        return self.current is not None or self.failures.streak.allows(now)

    def next_due(self, now: float) -> float:
        """When one that is wanted may be started."""
        return max(self.failures.streak.not_before, now) if self.current is None else math.inf

    def keep(self, now: float, wanted: bool) -> None:
        """Have one if it is `wanted`, and none if not; give up one that is late."""
        template = self.current
        if template is None:
            if wanted and self.failures.streak.allows(now):
                self._begin(now)
        elif not template.ready:
            if deadlines.is_late(template.since, now, self._patience):
                self.kill(catalogue.TEMPLATE_LATE, f"was not ready within {self._patience:g} s")
        elif not wanted:
            self.end(signal.SIGTERM, now)
        elif self.failures.streak.failures and deadlines.is_late(template.since, now, YOUNG):
            self.failures.end(template.since)

    def end(self, number: signal.Signals, now: float) -> None:
        """It has done its part, its workers go on."""
        template = self.current
        if template is None:
            return
        if template.finished_since is None:
            template.finished_since = now
            processes.send_signal(template.pidfd, number)
        elif number is signal.SIGKILL or deadlines.is_late(template.finished_since, now, TIME_TO_LEAVE):
            processes.send_signal(template.pidfd, signal.SIGKILL)

    def kill(self, code: catalogue.Code, reason: str) -> None:
        """It does not do its part; its end is a failure for this reason."""
        if self.current is not None:
            self.current.reason = Reason(code, f"{self.current.label()} {reason}")
            processes.send_signal(self.current.pidfd, signal.SIGKILL)

    def ask_files(self) -> bool:
        """Ask whether the application's files have changed; False if there is nobody to ask."""
        self.files_changed = None
        if self.current is None or not self.has_loaded:
            return False
        try:
            packets.send(self.current.channel, messages.AskFiles())
        except OSError:
            return False
        return True

    def bury(self, end: processes.End, now: float) -> bool:
        """It has ended; False if it was another process."""
        template = self.current
        if template is None or template.pid != end.pid:
            return False
        self._hear(template, now)  # it may have left its reason behind
        self._dialogue.end(template)
        self.current = None
        how = f"{template.label()} {processes.describe_end(end)} after {now - template.since:.6f} seconds"
        how += processes.describe_crash(end)
        if template.finished_since is not None:
            self._log.debug(how, self._name)
        else:
            going_on = "; its workers go on, another template is started" if template.ready else ""
            self.failures.count(template.reason or Reason(catalogue.TEMPLATE_DIED, how + going_on), now)
        return True

    def _begin(self, now: float) -> None:
        try:
            spawned = self._start(self._preload)
        except (OSError, StartError) as error:  # no process to be had, or an account that was deleted
            reason = Reason(catalogue.CANNOT_START_TEMPLATE, f"cannot start a template: {error}")
            self.failures.count(reason, now)
            return
        template = Template(spawned.channel, now, spawned.pid, spawned.pidfd, pipes=spawned.pipes)
        self.current = template
        self._dialogue.listen_to_prints(template)
        self._dialogue.begin(template, lambda now: self._hear(template, now))
        self._log.debug(f"{template.label()} started", self._name)

    def _hear(self, template: Template, now: float) -> None:
        for message, _ in self._dialogue.hear(template):
            match message:
                case messages.Loaded():
                    template.ready, template.since = True, now
                    if message.text:
                        text = f"preloaded, although the import left {message.text}"
                        self._log.warning(catalogue.UNCLEAN_IMPORT, text, self._name)
                case messages.Unclean() if self._preload == "auto" and not template.ready:
                    text = f"not preloaded, every worker imports the application itself: its import left {message.text}"
                    self._log.notice(text, self._name)
                    self._preload = "no"
                    template.finished_since = now
                case messages.LoadFailed():
                    template.reason = reason_of(message)
                case messages.FilesChanged():
                    self.files_changed = message.text
                case messages.ForkFailed():
                    self._on_fork_failed(message, now)
                case messages.Said():
                    self._dialogue.log_said(template, message, now)
                case _:
                    raise AssertionError(f"messages.PERMITTED lets a template say {message!r}")
