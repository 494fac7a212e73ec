"""wsgi.input: the request's body, all here or still to come.

Runs in: worker, Python 3.9 and up.   Pure: no system call, no clock, no log (`more` has the effects).
Fails by: PeerGone inside the application's read when the body ends early: never a body cut short in silence.
PeerError for a CONTENT_LENGTH that is no number.
"""

from __future__ import annotations

from io import BytesIO

from pyfpm.errors import PeerError, PeerGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Union

    from pyfpm.protocols.events import Environ

    Stream = Union[BytesIO, "Input"]


def content_length(environ: Environ) -> int | None:
    """CONTENT_LENGTH in bytes; None when it is absent or empty (RFC 3875, 4.1.2), as for a chunked upload.

    Caddy before 2.7 says "-1" of such an upload: it is taken out of the environ, where it would mislead.
    """
    text = environ.get("CONTENT_LENGTH")
    if not text:
        return None
    if text == "-1":
        del environ["CONTENT_LENGTH"]
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise PeerError(f"CONTENT_LENGTH is {text!r}, not a number of bytes")
    return int(text)


def received(environ: Environ, body: bytes) -> Stream:
    """wsgi.input for a body that has come whole; shorter or longer than CONTENT_LENGTH as `Input` treats it."""
    length = content_length(environ)
    if length is None or length == len(body):
        return BytesIO(body)
    return Input(body, length, _no_more)


def _no_more() -> bytes:
    return b""


class Input:
    """A body that is still coming: reads what the application asks for and holds at most one piece beyond that.

    `first` has come already; `more()` gives the next piece, b"" at the end, and may raise PeerGone or PeerError, which
    reach the application. With a `length` the body is that long: `more` is not called for what is behind, and an
    earlier end raises PeerGone. With None it goes on to the end that `more` tells.
    """

    __slots__ = ("_at", "_failure", "_left", "_more", "_piece")

    def __init__(self, first: bytes, length: int | None, more: Callable[[], bytes]) -> None:
        self._more = more
        self._left = length  # bytes that `_piece` does not have yet; 0 when all have come
        self._failure: BaseException | None = None
        self._piece = b""
        self._at = 0
        if first:
            self._piece = self._within(first)

    def read(self, size: int | None = -1) -> bytes:
        """All of the body, or up to `size` bytes: fewer only at its end."""
        wanted = -1 if size is None or size < 0 else size
        parts: list[bytes] = []
        while wanted != 0:
            part = self._take(wanted)
            if not part:
                break
            parts.append(part)
            if wanted > 0:
                wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, size: int | None = -1) -> bytes:
        """A line with its newline, or what there is of it in `size` bytes."""
        wanted = -1 if size is None or size < 0 else size
        parts: list[bytes] = []
        while wanted != 0:
            part = self._take(wanted, to_newline=True)
            parts.append(part)
            if not part or part.endswith(b"\n"):
                break
            if wanted > 0:
                wanted -= len(part)
        return b"".join(parts)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """The lines that are left; with a `hint`, no more once that many bytes are read."""
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Input:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _take(self, size: int, to_newline: bool = False) -> bytes:
        """From one piece: up to `size` bytes (all if negative), at most to the end of the line; b"" at the end."""
        if self._at == len(self._piece):
            self._piece = self._next()
            self._at = 0
        start = self._at
        stop = len(self._piece) if size < 0 else min(start + size, len(self._piece))
        if to_newline:
            stop = self._piece.find(b"\n", start, stop) + 1 or stop
        self._at = stop
        return self._piece[start:stop]

    def _next(self) -> bytes:
        if self._left == 0:
            return b""
        if self._failure is not None:
            raise self._failure
        try:
            piece = self._more()
            if not piece and self._left is not None:
                raise PeerGone(f"the request's body ended {self._left} bytes before its CONTENT_LENGTH")
        except BaseException as error:
            # An application that catches it and reads on must not be told that the body is complete. That holds for
            # RequestTimeout, too: what `read` had gathered is lost.
            self._failure = error
            raise
        if not piece:
            self._left = 0
            return b""
        return self._within(piece)

    def _within(self, piece: bytes) -> bytes:
        """No more of `piece` than CONTENT_LENGTH allows."""
        if self._left is None:
            return piece
        piece = piece[: self._left]
        self._left -= len(piece)
        return piece
