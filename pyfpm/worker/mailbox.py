"""A worker's mailbox: what it says to the master, and what the master leaves in it.

Runs in: worker, Python 3.9 and up.
Fails by: nothing; a master that does not listen any more is no reason to fail a request.
"""

from __future__ import annotations

from os import close, dup2
from select import POLLOUT, poll

from pyfpm import messages, packets
from pyfpm.errors import MessageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from pyfpm.catalogue import Code

DEBUG, NOTICE, WARNING, ERROR = range(1, 5)  # the levels of logs.events, which workers do not load
PATIENCE_MS = 10_000


class Mailbox:
    """`access_log` is the descriptor to write it to; its number never changes, what is behind it may."""

    def __init__(self, channel: socket.socket, access_log: int | None) -> None:
        self.timed_out = -1  # the number of the last request that the master wants ended for the time it took
        self.access_log = access_log
        self.is_closed = False
        self._channel = channel
        channel.setblocking(False)

    def say(self, message: messages.Message) -> bool:
        """Send to the master; it is given some time if it is busy, for log lines should not be lost.

        False if it does not listen any more.
        """
        try:
            while True:
                try:
                    packets.send(self._channel, message)
                    return True
                except BlockingIOError:
                    waiting = poll()
                    waiting.register(self._channel.fileno(), POLLOUT)
                    if not waiting.poll(PATIENCE_MS):
                        return True
        except OSError:
            return False

    def debug(self, text: str) -> None:
        self.say(messages.Said(DEBUG, 0, text=text))

    def warn(self, code: Code, text: str) -> None:
        self.say(messages.Said(WARNING, code, text=text))

    def error(self, code: Code, text: str) -> None:
        self.say(messages.Said(ERROR, code, text=text))

    def close(self) -> None:
        """Say nothing more, and hear nothing."""
        self.is_closed = True
        self._channel.close()

    def look(self) -> int | None:
        """Take everything out. The number of the request that the master wants given up, if there is such a message."""
        given_up = None
        while True:
            try:
                received = packets.receive(self._channel, messages.Speaker.MASTER_POSTS)
            except BlockingIOError:
                return given_up
            except (OSError, MessageError):
                received = None
            if received is None:
                self.is_closed = True
                return given_up
            message = received[0]
            if isinstance(message, messages.GiveUp):
                given_up = message.number
            elif isinstance(message, messages.TimedOut):
                self.timed_out = message.number
            elif isinstance(message, messages.NewAccessLog):
                self._switch_access_log(message.descriptors[0])

    def _switch_access_log(self, descriptor: int) -> None:
        if self.access_log is not None:
            dup2(descriptor, self.access_log, inheritable=False)
        close(descriptor)
