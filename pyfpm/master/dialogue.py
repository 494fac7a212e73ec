"""What the processes of a pool have to say: on their channels, and on their stdout and stderr.

Runs in: master.
Fails by: nothing. What a process says is gossip: nonsense is logged and ends the conversation, not the process.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyfpm import catalogue, messages, packets
from pyfpm.errors import MessageError
from pyfpm.logs.error_log import Level
from pyfpm.logs.worker_output import OutputLines
from pyfpm.master.outputs import Output
from pyfpm.master.reason import Reason

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.children import Process
    from pyfpm.master.loop import Callback, Loop
    from pyfpm.master.quota import Quota

MOST_AT_A_TIME = 64  # messages from one process, before the others get their turn
TEXT_AT_A_TIME = 256 * 1024  # and characters of them
# Lines of one message: a traceback of a recursion has a few, as the interpreter folds what repeats itself; 96 KiB of
# newlines would be 98,000.
MOST_LINES = 200
# What a pool's processes may say of themselves; other codes are the master's word.
_POOLS_OWN = {int(code): code for code in catalogue.codes().values() if code // 100 in catalogue.SAID_BY_POOLS}


class Dialogue:
    """Listens to the processes of one pool, and holds the pipes and sockets for it."""

    def __init__(self, settings: PoolSettings, daemon: GlobalSettings, log: ErrorLog, loop: Loop, quota: Quota) -> None:
        self._settings = settings
        self._daemon = daemon
        self._log = log
        self._loop = loop
        self._quota = quota

    def begin(self, process: Process, on_message: Callback) -> None:
        """Call `on_message` whenever the process has something to say."""
        self._loop.watch(process.channel.fileno(), on_message)

    def listen_to_prints(self, process: Process) -> None:
        """From now on its prints go to the log. It must have its pid by then, which stands before each line."""
        for descriptor, stream in zip(process.pipes, ("stdout", "stderr"), strict=False):
            decorate = self._settings.decorate_workers_output
            frame = functools.partial(self._log.frame, self._settings.name, process.pid, stream, decorate=decorate)
            lines = OutputLines(frame, limit=self._daemon.log_limit, buffering=self._daemon.log_buffering)
            process.outputs.append(Output(descriptor, lines, self._log, self._loop, self._quota))
        process.pipes = ()

    def hear(self, process: Process) -> Iterator[tuple[messages.Message, packets.Sender]]:
        """What it has to say now. `process.channel_ended` is set when nothing more can come."""
        if process.channel_ended:
            return
        text = 0
        try:
            for _ in range(MOST_AT_A_TIME):
                received = packets.receive(process.channel, process.speaker)
                if received is None:
                    self.hang_up(process)
                    return
                process.speaker = messages.PERMITTED[process.speaker][type(received[0])]
                yield received
                text += len(received[0].text)
                if process.channel_ended or text >= TEXT_AT_A_TIME:
                    return
        except BlockingIOError:
            return
        except (MessageError, OSError) as error:
            complaint = f"{process.label()} does not speak our language: {error}"
            self._log.warning(catalogue.NOT_OUR_LANGUAGE, complaint, self._settings.name)
            self.hang_up(process)

    def log_said(self, process: Process, said: messages.Said, now: float) -> None:
        """Log what it wants logged; each line of a traceback shows whose it is."""
        level = Level(min(max(said.level, Level.DEBUG), Level.ALERT))
        if level < self._log.manner.level:
            return
        self._quota.refill(now)
        if not self._quota.has_room:
            self._quota.leave_out(said.text.count("\n") + 1)
            return
        text, who = few_lines(said.text), process.label()
        self._quota.charge(len(said.text) + text.count("\n") * len(who))
        self._log.relay(level, _POOLS_OWN.get(said.code), text, self._settings.name, who, process.pid)

    def tell_left_out(self, now: float = math.inf) -> None:
        """Say how much of the pool's output was left out, once in a while."""
        if summary := self._quota.summary(now):
            self._log.warning(catalogue.OUTPUT_LEFT_OUT, summary, self._settings.name)

    def end(self, process: Process) -> None:
        """It is no more: take the last of what it printed and close everything that the master held of it."""
        self.listen_to_prints(process)
        for output in process.outputs:
            output.close()
        self.hang_up(process)
        process.channel.close()
        if process.pidfd >= 0:
            os.close(process.pidfd)

    def hang_up(self, process: Process) -> None:
        """Listen no more; what it says from now on fails at its own end, instead of waiting there to be heard."""
        if not process.channel_ended:
            self._loop.forget(process.channel.fileno())
            process.channel_ended = True
            with contextlib.suppress(OSError):
                process.channel.shutdown(socket.SHUT_RD)


def reason_of(failed: messages.LoadFailed) -> Reason:
    """Why a process cannot go on, in its own words."""
    return Reason(_POOLS_OWN.get(failed.code, catalogue.CANNOT_LOAD), few_lines(failed.text))


def few_lines(text: str) -> str:
    """`text`, without the middle of what has too many lines: both ends of a traceback matter."""
    count = text.count("\n") + 1
    if count <= MOST_LINES:
        return text
    head = text.split("\n", MOST_LINES // 2)[: MOST_LINES // 2]
    tail = text.rsplit("\n", MOST_LINES // 2)[-(MOST_LINES // 2) :]
    return "\n".join((*head, f"[... {count - len(head) - len(tail)} lines left out]", *tail))
