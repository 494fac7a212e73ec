"""One answer: start_response, write, the iterable and its end, as PEP 3333 has them.

Runs in: worker, Python 3.9 and up.   Pure: no system call, no clock, no log (`send` has the effects).
Fails by: ApplicationError when the application broke the contract; what the application or `send` raises goes through.
The caller then looks at two attributes: not `sent`, and `plain_answer` can still tell the client; `incomplete`, and the
connection must be closed without an end, after the codec's `cut()`, so that the client learns that the answer is cut.
"""

from __future__ import annotations

from pyfpm.errors import ApplicationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, Callable

    from pyfpm.protocols.events import Environ

    Headers = list[tuple[str, str]]
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
    Application = Callable[[Environ, Callable[..., Any]], Any]

# A block above this goes out in pieces, so that its copy in records does not double the worker's memory.
_LARGE = 1 << 20


class Response:
    """The answer to the request in hand. One object serves a worker for life: `begin`, then `run` or `plain_answer`.

    `send` takes finished bytes and returns when they are on their way; the other four are the codec's functions.
    """

    __slots__ = (
        "_bodyless", "_end", "_head", "_head_only", "_length", "_make_head", "_send", "_start", "_stdout", "_whole",
        "_write", "body_bytes", "finished", "headers", "ignored", "is_last", "request_id", "sent", "status",
    )  # fmt: skip

    def __init__(
        self,
        send: Callable[[bytes], object],
        head: Callable[[str, Headers], tuple[bytes, int | None]],
        whole: Callable[[int, bytes, bytes], bytes],
        stdout: Callable[[int, Any], bytes],
        end: Callable[[int], bytes],
    ) -> None:
        self._send = send
        self._make_head = head
        self._whole = whole
        self._stdout = stdout
        self._end = end
        self._start = self.start  # bound once, not for each request
        self._write = self.write
        self.begin(0, False)

    def begin(self, request_id: int, head_only: bool) -> None:
        """Forget the last request. `head_only` for the method HEAD."""
        self.request_id = request_id
        self._head_only = head_only
        self._bodyless = head_only  # nothing but the head is sent: HEAD, 1xx, 204, 304
        self._head = b""  # empty until start_response
        self._length: int | None = None  # Content-Length, once known
        self.status = 0
        self.headers: Headers | None = None
        self.sent = False  # the head is out
        self.finished = False  # and so is the end
        self.body_bytes = 0
        self.is_last = False  # the connection ends with this answer, and so does what the client gets of the code

    @property
    def incomplete(self) -> bool:
        """The client has a part of the answer, and must not take it for the whole."""
        return self.sent and not self.finished

    def start(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        """start_response. Errors are raised here, where the application can be seen in the traceback."""
        if exc_info:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle from this frame through the traceback (PEP 3333)
        elif self._head:
            raise ApplicationError("start_response was called a second time, without exc_info")
        self._head, self._length = self._make_head(status, headers)
        self.headers = headers
        self.status = code = int(status[:3])
        self._bodyless = self._head_only or code < 200 or code in (204, 304)
        return self._write

    def write(self, block: bytes) -> None:
        """What start_response returns. The block is on its way when it returns."""
        if self._must_be_bytes(block):
            self._block(block)

    def run(self, application: Application, environ: Environ) -> None:
        """Call the application, send its answer block by block as it comes, and close its iterable whatever happens."""
        result = application(environ, self._start)
        kind = type(result)
        if kind is list or kind is tuple:
            if len(result) == 1 and self._head and not self.sent:
                self._run_one(result[0])
            else:
                self._run_blocks(result)
            return
        try:
            self._run_blocks(self._iterator(result))
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def finish(self) -> None:
        """End the answer here; what the application gives from now on is counted in `ignored` and not sent."""
        if not self._head:
            raise ApplicationError("pyfpm.finish_request was called before start_response")
        self._close()
        self.is_last = True
        self.ignored = 0

    def plain_answer(self, status: str, text: str = "") -> None:
        """Answer in place of the application, while nothing is sent. The page shows `text`, or the status's reason."""
        body = f"{text or status[4:]}\n".encode("utf-8", "replace")
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        self._head = b""
        self.start(status, headers)
        self._block(body)

    def _run_one(self, block: bytes) -> None:
        """A list of one block: nearly every answer. It tells the length (PEP 3333, "Content-Length Header")."""
        if type(block) is bytes and not self._bodyless and len(block) <= _LARGE:
            size = len(block)
            if self._length is None:
                self._add_length(size)
            if self._length == size:
                # What `_block` would do, in a straight line: 15 % less from `begin` to the end.
                self.sent = True
                self.body_bytes = size
                self._send(self._whole(self.request_id, self._head, block))
                self.finished = True
                return
        # For HEAD, an empty block tells nothing: many applications leave out the body, and its length with it.
        if self._length is None and isinstance(block, bytes) and (not self._bodyless or (block and self.status == 200)):
            self._add_length(len(block))
        self._run_blocks((block,))

    def _run_blocks(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            if self._must_be_bytes(block):
                self._block(block)
                if self._bodyless:
                    break  # no further block would be sent: there is nothing to wait for
        self._close()

    def _iterator(self, result: Any) -> Iterator[bytes]:
        try:
            return iter(result)
        except TypeError as error:
            raise ApplicationError(f"the application returned {result!r:.100}, not an iterable of bytes") from error

    def _must_be_bytes(self, block: object) -> bool:
        """Whether there is something to send."""
        if not self._head:
            raise ApplicationError("the application gave a block of its answer before it called start_response")
        if not isinstance(block, bytes):
            raise ApplicationError(f"the application gave {block!r:.100} as a block of its answer; it must be bytes")
        return bool(block)

    def _add_length(self, length: int) -> None:
        self._length = length
        self._head = b"%bContent-Length: %d\r\n\r\n" % (self._head[:-2], length)

    def _block(self, block: bytes) -> None:
        """One block that is not empty, at once; with the head if it is the first, with the end if it is the last."""
        if self._bodyless:
            self._close()
            return
        size = len(block)
        if self.is_last:
            self.ignored += size
            return
        total = self.body_bytes + size
        length = self._length
        if length is not None and total > length:
            raise ApplicationError(f"the answer is longer than its Content-Length of {length} bytes")
        head = b"" if self.sent else self._head
        self.sent = True
        if size > _LARGE:
            self._send_large(head, block)
            head = block = b""
        self.body_bytes = total
        if total == length:
            self._send(self._whole(self.request_id, head, block))
            self.finished = True
        elif block:
            self._send(self._stdout(self.request_id, head + block))

    def _send_large(self, head: bytes, block: bytes) -> None:
        if head:
            self._send(self._stdout(self.request_id, head))
        view = memoryview(block)
        for at in range(0, len(block), _LARGE):
            piece = view[at : at + _LARGE]
            self.body_bytes += len(piece)
            self._send(self._stdout(self.request_id, piece))

    def _close(self) -> None:
        """The application has no more to give."""
        if self.finished:
            return
        if not self._head:
            raise ApplicationError("the application returned without calling start_response")
        if self._bodyless:
            self._send_end()
            return
        if self._length is None and not self.sent:
            self._add_length(0)
        if self._length is not None and self.body_bytes < self._length:
            given = f"{self.body_bytes} of {self._length} bytes"
            raise ApplicationError(f"the answer is shorter than its Content-Length: {given}")
        self._send_end()

    def _send_end(self) -> None:
        last = self._end(self.request_id) if self.sent else self._whole(self.request_id, self._head, b"")
        self.sent = True
        self._send(last)
        self.finished = True


class FileWrapper:
    """wsgi.file_wrapper: a file in blocks, closed with the answer (PEP 3333, "Platform-Specific File Handling")."""

    __slots__ = ("_read", "_size", "close")

    def __init__(self, file: Any, block_size: int = 65536) -> None:
        self._read = file.read
        self._size = block_size
        self.close: Callable[[], object] = getattr(file, "close", _nothing)

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block: bytes = self._read(self._size)
        if not block:
            raise StopIteration
        return block


def _nothing() -> None:
    """The file has no close of its own."""
