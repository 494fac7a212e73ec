"""The connection in hand: one descriptor, one decoder; the worker's only reads from and writes to a peer.

Runs in: worker, Python 3.9 and up.
Fails by: PeerGone when the peer closes, aborts or is silent too long; PeerError for what is no FastCGI.

Nothing here may wait for ever. A plain `os.write` on a blocking descriptor is used only where it cannot block: for the
first answers on a fresh connection, whose send buffer is empty. In every other place the descriptor is made
non-blocking, and poll(2) waits with a limit. (The very first read is in main.py, and the master looks after its time
limit; main.py makes a connection that it keeps non-blocking.)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from os import dup2, read, write
from select import POLLIN, POLLOUT, poll
from socket import AF_UNIX, SHUT_WR, socket

from pyfpm.errors import PeerError, PeerGone
from pyfpm.protocols.events import Abort, Body, End, Head, Reply
from pyfpm.protocols.fastcgi import Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfpm.protocols.events import Environ, Event

READ_SIZE = 65536
# So much fits the send buffer of a fresh connection whatever the peer does: TCP begins with 16 KiB (net.ipv4.tcp_wmem),
# a unix socket with 208 KiB. The kernel charges each write for its own keeping as well, a unix socket 768 bytes: 280
# writes of one byte fill it.
NEVER_BLOCKS = 16384
A_WRITE = 1024
ENDLESS = 1 << 62
# A body that the application did not want is read and thrown away, so that closing does not reset the connection
# before the peer has read the answer. Not for long: nginx's lingering_timeout and lingering_time are 5 s and 30 s.
LINGER_SILENCE = 2.0
LINGER_TOTAL = 30.0


class Connection:
    """One object for all connections of a worker, one after the other: `open`, a request, `finish`."""

    def __init__(self, connections: int, head: float, body: float, send: float) -> None:
        self.base: Environ = {}  # to be set before the first request
        self._connections = connections
        self._head_timeout = head
        self._body_timeout = body
        self._send_timeout = send
        self._events: deque[Event] = deque()
        self.open(-1)

    def open(self, descriptor: int) -> None:
        """Begin with a request on `descriptor`, which stays the caller's to close."""
        self.descriptor = descriptor
        self._room = NEVER_BLOCKS
        self._decoder: Decoder | None = None
        self._at_end = True  # nothing more of the body is to come
        self._left = memoryview(b"")  # of a piece of the answer that is out in part

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read_head(self, piece: bytes) -> Head | None:
        """The head of a request that `piece` does not hold whole; None if it begins none."""
        self._decoder = decoder = Decoder(self.base, self._connections)
        self._at_end = False
        self._events.clear()
        self._stop_blocking()
        deadline = time.monotonic() + self._head_timeout
        while True:
            self._events.extend(decoder.feed(piece))
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Head):
                    return event
                if isinstance(event, Reply):
                    self.send(event.data)
                    if event.close:
                        raise PeerGone("the peer's request was refused, or aborted before it was whole")
            if decoder.is_idle:
                return None
            piece = self._receive(deadline - time.monotonic(), "sent no whole request head in time")
            if not piece:
                raise PeerGone("the peer closed in the middle of a request head")

    def more(self, until: float = ENDLESS) -> bytes:
        """The next piece of the body, which must come `until` then; b"" at its end. What `Input` calls."""
        while not self._at_end:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Body):
                    return event.data
                if isinstance(event, Reply):
                    self.send(event.data)
                elif isinstance(event, End):
                    self._at_end = True
                    return b""
                elif isinstance(event, Abort):
                    self._at_end = True
                    raise PeerGone("the front server aborted the request")
            assert self._decoder is not None
            seconds = min(self._body_timeout, until - time.monotonic())
            piece = self._receive(seconds, "was silent in the middle of a request's body")
            if not piece:
                raise PeerGone("the peer closed in the middle of a request's body")
            self._events.extend(self._decoder.feed(piece))
        return b""

    def _receive(self, seconds: float, complaint: str) -> bytes:
        while seconds > 0:
            try:
                return read(self.descriptor, READ_SIZE)
            except BlockingIOError:
                self._wait_for(POLLIN, seconds, complaint)
            except OSError as error:
                raise PeerGone(f"the peer's connection broke: {error.strerror}") from error
        raise PeerGone(f"the peer {complaint}")  # it does talk, but says nothing that counts

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, data: bytes) -> None:
        """Everything is on its way when this returns."""
        size = len(data)
        self._room -= size + A_WRITE
        written = 0
        try:
            if self._room >= 0:
                written = write(self.descriptor, data)
                if written == size:
                    return  # or a signal came in between
        except BlockingIOError:
            pass
        except OSError as error:
            raise _gone(error) from error
        self._send_patiently(memoryview(data)[written:])

    def cut(self, last: bytes) -> None:
        """Send `last`, with less patience than for an answer: the peer is to learn that it gets no whole one."""
        patience, self._send_timeout = self._send_timeout, min(self._send_timeout, LINGER_SILENCE)
        try:
            self.send(last)
        finally:
            self._send_timeout = patience

    def _send_patiently(self, data: memoryview) -> None:
        """Send also what is left of a piece that RequestTimeout has interrupted, or that record would stay torn."""
        self._left = memoryview(b"".join((self._left, data))) if self._left else data
        try:
            self._stop_blocking()
            while self._left:
                try:
                    self._left = self._left[write(self.descriptor, self._left) :]
                except BlockingIOError:
                    self._wait_for(POLLOUT, self._send_timeout, "took none of the answer")
        except OSError as error:
            raise _gone(error) from error
        finally:
            if self._left:
                self._room = -1  # and whatever is sent next comes here

    def _stop_blocking(self) -> None:
        if self._room < ENDLESS >> 1:
            os.set_blocking(self.descriptor, False)
            self._room = ENDLESS  # a write says now when it would block

    def _wait_for(self, what: int, seconds: float, complaint: str) -> None:
        waiting = poll()
        waiting.register(self.descriptor, what)
        if not waiting.poll(seconds * 1000):
            raise PeerGone(f"the peer {complaint} ({seconds:g} seconds)")

    # ── the end of a request ────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, keep: bool) -> bytes | None:
        """The answer is out. What has already come of a next request; None if the connection is of no more use."""
        if self._at_end and (keep or self._decoder is None):
            return self._decoder.rest() if self._decoder is not None else b""
        if not keep:
            self.hang_up()
        deadline = time.monotonic() + LINGER_TOTAL
        patience, self._body_timeout = self._body_timeout, LINGER_SILENCE
        try:
            while self.more(deadline):
                pass
        except (PeerGone, PeerError):
            return None
        finally:
            self._body_timeout = patience
        assert self._decoder is not None
        return self._decoder.rest() if keep else None

    def hang_up(self) -> None:
        """Tell the peer that nothing more comes, while we still read.

        A socket object closes its number, whatever interrupts us here. So it has one of its own.
        """
        with contextlib.suppress(OSError), socket(AF_UNIX) as end:
            dup2(self.descriptor, end.fileno(), inheritable=False)
            end.shutdown(SHUT_WR)


def _gone(error: OSError) -> PeerGone:
    return PeerGone(f"the peer did not wait for the answer: {error.strerror}")


def wait_readable(descriptors: list[int], seconds: float | None) -> list[int]:
    """Those of `descriptors` that have something to read, or have ended; [] when the time is over."""
    waiting = poll()
    for descriptor in descriptors:
        waiting.register(descriptor, POLLIN)
    return [descriptor for descriptor, _ in waiting.poll(None if seconds is None else max(seconds, 0) * 1000)]


def address_of(peer: tuple[str, int]) -> str:
    """The IP address of who connected over TCP: IPv4 as such, also where the listener is of IPv6."""
    address = peer[0]
    return address[7:] if address[:7] == "::ffff:" and "." in address else address
