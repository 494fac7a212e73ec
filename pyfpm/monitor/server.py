"""Connections: accept, hear the question, answer, end; many at once, and none of them waited for.

Runs in: monitor.
Fails by: nothing that a client does. A fault of our own is answered 500, and its traceback goes to stderr.

A client has little time and little room for its question, and little time to take the answer. Where there are too many,
the one that has been at it the longest goes: who speaks at once is answered at once, however many are silent.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING

from pyfpm.errors import PeerError
from pyfpm.monitor.fastcgi import FIRST_BYTE, FastCgi
from pyfpm.monitor.http import Http
from pyfpm.monitor.pages import answer
from pyfpm.monitor.questions import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.monitor.questions import Answer, Dialect, Question
    from pyfpm.monitor.shown import Shown

MOST_CONNECTIONS = 64
MOST_AT_A_TIME = 16  # accepted before others have their turn
READ_SIZE = 8192
TIME_TO_ASK = 5.0  # seconds
TIME_TO_TAKE = 5.0
TIME_TO_LEAVE = 1.0  # what a client still sends is read for so long: to close with bytes unread resets the connection
SHORTAGE_PAUSE = 0.5


class Connection:
    """One client. It asks until `output` is there, takes that, and leaves."""

    def __init__(self, channel: socket.socket, scope: int, until: float) -> None:
        self.channel = channel
        self.scope = scope
        self.until = until
        self.dialect: Dialect | None = None
        self.output = memoryview(b"")
        self.has_asked = False

    def hear(self, data: bytes) -> Question | None:
        """Take bytes; the question if it is whole now. Whoever need not go on has asked."""
        if self.dialect is None:
            self.dialect = FastCgi() if data.startswith(FIRST_BYTE) else Http()
        heard = self.dialect.hear(data)
        self.output = memoryview(bytes(self.output) + heard.reply)
        self.has_asked = heard.is_over or heard.question is not None
        return heard.question

    def say(self, what: Answer, question: Question) -> None:
        assert self.dialect is not None
        self.output = memoryview(bytes(self.output) + self.dialect.encode(what, question))

    def send(self) -> bool:
        """Send what can be sent now; whether that was all."""
        if self.output:
            with contextlib.suppress(BlockingIOError):
                self.output = self.output[self.channel.send(self.output) :]
        return not self.output


class Server:
    """All listeners and connections."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[int, tuple[socket.socket, int]] = {}  # with the pool that each is for
        self._connections: set[Connection] = set()
        self._deaf_until: float | None = None

    def watch(self, channel: socket.socket, callback: Callable[[float], None]) -> None:
        """Call back whenever `channel` can be read."""
        self._selector.register(channel, selectors.EVENT_READ, callback)

    def listen(self, number: int, listener: socket.socket, scope: int) -> None:
        """Answer on this listener from now on."""
        self.forget(number)
        listener.setblocking(False)
        self._listeners[number] = listener, scope
        if self._deaf_until is None:
            self._hear_of(listener, scope)

    def forget(self, number: int) -> None:
        """Listen there no more; who has connected already is answered."""
        if number in self._listeners:
            listener, scope = self._listeners.pop(number)
            self._accept(listener, scope, time.monotonic())
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener)
            listener.close()

    def run(self) -> None:
        """Serve for ever."""
        while True:
            ready = self._selector.select(self._patience(time.monotonic()))
            now = time.monotonic()
            for key, _ in ready:
                if self._selector.get_map().get(key.fd) is key:  # an earlier one of this round may have closed it
                    key.data(now)
            for late in [one for one in self._connections if one.until <= now]:
                self._close(late)
            if self._deaf_until is not None and self._deaf_until <= now:
                self._deaf_until = None
                for listener, scope in self._listeners.values():
                    self._hear_of(listener, scope)

    def close(self) -> None:
        """Close everything, and leave whoever is there without an answer."""
        for connection in list(self._connections):
            self._close(connection)
        for listener, _ in self._listeners.values():
            listener.close()
        self._selector.close()

    def _patience(self, now: float) -> float | None:
        """Until somebody's time is over; without end where nobody is there."""
        moments = [one.until for one in self._connections]
        if self._deaf_until is not None:
            moments.append(self._deaf_until)
        return max(0.0, min(moments) - now) if moments else None

    def _hear_of(self, listener: socket.socket, scope: int) -> None:
        self.watch(listener, lambda now: self._accept(listener, scope, now))

    def _accept(self, listener: socket.socket, scope: int, now: float) -> None:
        for _ in range(MOST_AT_A_TIME):
            try:
                channel, peer = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError:
                self._pause(now)
                return
            if self._shown.admits(scope, peer):
                self._begin(channel, scope, now)
            else:
                channel.close()

    def _pause(self, now: float) -> None:
        """The system is short of something: trying again at once would only burn time."""
        self._deaf_until = now + SHORTAGE_PAUSE
        for listener, _ in self._listeners.values():
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener)

    def _begin(self, channel: socket.socket, scope: int, now: float) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            self._close(min(self._connections, key=lambda one: one.until))
        channel.setblocking(False)
        connection = Connection(channel, scope, now + TIME_TO_ASK)
        self._connections.add(connection)
        self.watch(channel, lambda now: self._on_readable(connection, now))
        self._on_readable(connection, now)  # nearly always the question is there

    def _on_readable(self, connection: Connection, now: float) -> None:
        try:
            data = connection.channel.recv(READ_SIZE)
            if not data:
                self._close(connection)
            elif not connection.has_asked:
                self._hear(connection, data, now)
        except BlockingIOError:
            pass
        except (OSError, PeerError):
            self._close(connection)

    def _hear(self, connection: Connection, data: bytes, now: float) -> None:
        question = connection.hear(data)
        if question is not None:
            connection.say(self._answer(question, connection.scope), question)
        if connection.has_asked:
            connection.until = now + TIME_TO_TAKE
        self._send(connection, now)

    def _answer(self, question: Question, scope: int) -> Answer:
        try:
            return answer(question, self._shown, scope)
        except Exception:
            with contextlib.suppress(OSError):  # full: nobody reads it before the end, and the first is what counts
                print(traceback.format_exc(), file=sys.stderr, end="", flush=True)
            return refusal("500 Internal Server Error")

    def _send(self, connection: Connection, now: float) -> None:
        """Send; then wait for more room, for more of the question, or for the client to leave."""
        try:
            is_done = connection.send()
            if is_done and connection.has_asked:
                connection.channel.shutdown(socket.SHUT_WR)
                connection.until = now + TIME_TO_LEAVE
        except OSError:
            self._close(connection)
            return
        if is_done:
            self._selector.modify(
                connection.channel, selectors.EVENT_READ, lambda now: self._on_readable(connection, now)
            )
        else:
            self._selector.modify(connection.channel, selectors.EVENT_WRITE, lambda now: self._send(connection, now))

    def _close(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.channel)
            connection.channel.close()
