"""What the processes of a pool have to say: on their channels, and on their stdout and stderr.

Runs in: master.
Fails by: nothing. What a process says is gossip: nonsense is logged and ends the conversation, not the process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyfpm import messages
from pyfpm.errors import MessageError
from pyfpm.logs.error_log import Level
from pyfpm.logs.worker_output import OutputLines
from pyfpm.master.outputs import Output

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.children import Process
    from pyfpm.master.loop import Callback, Loop

MOST_AT_A_TIME = 64  # messages from one process, before the others get their turn


class Dialogue:
    """Listens to the processes of one pool, and holds the pipes and sockets for it."""

    def __init__(self, settings: PoolSettings, daemon: GlobalSettings, log: ErrorLog, loop: Loop) -> None:
        self._settings = settings
        self._daemon = daemon
        self._log = log
        self._loop = loop

    def begin(self, process: Process, on_message: Callback) -> None:
        """Call `on_message` whenever the process has something to say."""
        self._loop.watch(process.channel.fileno(), on_message)

    def listen_to_prints(self, process: Process) -> None:
        """From now on its prints go to the log. It must have its pid by then, which stands before each line."""
        for descriptor, stream in zip(process.pipes, ("stdout", "stderr"), strict=False):
            decorate = self._settings.decorate_workers_output
            frame = functools.partial(self._log.frame, self._settings.name, process.pid, stream, decorate=decorate)
            lines = OutputLines(frame, limit=self._daemon.log_limit, buffering=self._daemon.log_buffering)
            process.outputs.append(Output(descriptor, lines, self._log, self._loop))
        process.pipes = ()

    def hear(self, process: Process) -> Iterator[tuple[messages.Message, messages.Sender]]:
        """What it has to say now. `process.channel_ended` is set when nothing more can come."""
        try:
            for _ in range(MOST_AT_A_TIME):
                received = messages.receive(process.channel)
                if received is None:
                    self._hang_up(process)
                    return
                yield received
        except BlockingIOError:
            return
        except (MessageError, OSError) as error:
            self._log.warning(f"{process.label()} does not speak our language: {error}", self._settings.name)
            self._hang_up(process)

    def log_said(self, process: Process, said: messages.Said) -> None:
        """Log what it wants logged."""
        level = Level(min(max(said.level, Level.DEBUG), Level.ALERT))
        self._log.relay(level, said.text, self._settings.name, process.label(), process.pid)

    def end(self, process: Process) -> None:
        """It is no more: take the last of what it printed and close everything that the master held of it."""
        self.listen_to_prints(process)
        for output in process.outputs:
            output.close()
        self._hang_up(process)
        process.channel.close()
        if process.pidfd >= 0:
            os.close(process.pidfd)

    def _hang_up(self, process: Process) -> None:
        if not process.channel_ended:
            self._loop.forget(process.channel.fileno())
            process.channel_ended = True
