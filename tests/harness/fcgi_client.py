"""The other side of FastCGI: what a front server sends, and how it reads the answer.

Runs in: tests.   Pure but for `Connection` and `request`, which speak over a socket.
Fails by: AssertionError for an answer that breaks the protocol, socket.timeout for none.

It shares no line with pyfpm.protocols, so that no misunderstanding of the specification can hide in both.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from tests.harness.waits import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Address = str | tuple[str, int]
    """A path of a unix socket, or host and port."""
    Pairs = Mapping[str, str] | Iterable[tuple[str, str]]

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT, UNKNOWN = range(1, 12)


def record(kind: int, request_id: int, content: bytes = b"", padding: int = 0, version: int = 1) -> bytes:
    """One record; at most 65,535 bytes of content."""
    return struct.pack(">BBHHBB", version, kind, request_id, len(content), padding, 0) + content + b"\xaa" * padding


def stream(kind: int, request_id: int, data: bytes, size: int = 32768) -> bytes:
    """Data and the end of its stream, in records of at most `size` bytes."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(record(kind, request_id, piece) for piece in [*pieces, b""])


def begin(request_id: int = 1, role: int = 1, keep: bool = False) -> bytes:
    return record(BEGIN, request_id, struct.pack(">HB5x", role, int(keep)))


def pairs(parameters: Pairs) -> bytes:
    """Name-value pairs; text is latin-1, as in an environ."""
    items = parameters.items() if hasattr(parameters, "items") else parameters
    return b"".join(_pair(name.encode("latin-1"), value.encode("latin-1")) for name, value in items)


def _pair(name: bytes, value: bytes) -> bytes:
    return _length(len(name)) + _length(len(value)) + name + value


def _length(size: int) -> bytes:
    return bytes((size,)) if size < 128 else struct.pack(">I", size | 1 << 31)


def request_bytes(parameters: Pairs, body: bytes = b"", keep: bool = False, request_id: int = 1) -> bytes:
    """A whole request as nginx sends it: parameters in one record where they fit, the body in records of 32 KiB."""
    return (
        begin(request_id, keep=keep)
        + stream(PARAMS, request_id, pairs(parameters), 65535)
        + stream(STDIN, request_id, body)
    )


def get_parameters(path: str, query: str = "", **more: str) -> dict[str, str]:
    """The parameters of a GET as nginx's stock fastcgi_params give them, `more` on top."""
    return {
        "QUERY_STRING": query,
        "REQUEST_METHOD": "GET",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "SCRIPT_NAME": path,
        "REQUEST_URI": path + ("?" + query if query else ""),
        "DOCUMENT_URI": path,
        "DOCUMENT_ROOT": "/srv/www",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "nginx/1.22.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "localhost",
        "REDIRECT_STATUS": "200",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "tests",
        **more,
    }


class Record(NamedTuple):
    kind: int
    request_id: int
    content: bytes


def records(data: bytes) -> tuple[list[Record], bytes]:
    """The whole records at the beginning of `data`, and what is left; zeros when the answer is cut on purpose."""
    found: list[Record] = []
    at = 0
    while len(data) - at >= 8:
        version, kind, request_id, size, padding = struct.unpack_from(">BBHHB", data, at)
        if data[at : at + 8] == bytes(8):
            break
        assert version == 1, f"a record of version {version}: {data[at : at + 40]!r}"
        if len(data) - at < 8 + size + padding:
            break
        found.append(Record(kind, request_id, data[at + 8 : at + 8 + size]))
        at += 8 + size + padding
    return found, data[at:]


class Ended(NamedTuple):
    """END_REQUEST."""

    app_status: int
    protocol_status: int


class Output(NamedTuple):
    """All that was said for one request. `ended` is None when END_REQUEST is missing; `cut` when that is on purpose."""

    stdout: bytes
    stderr: bytes
    ended: Ended | None
    cut: bool = False


def output(data: bytes, request_id: int = 1) -> Output:
    """The answer to one request, its form checked: no record after the end of its stream, nothing after END_REQUEST."""
    found, rest = records(data)
    texts = {STDOUT: b"", STDERR: b""}
    closed: set[int] = set()
    ended = None
    for kind, of, content in found:
        assert of == request_id, f"a record for request {of}"
        assert ended is None, f"a record of type {kind} after END_REQUEST"
        if kind == END:
            assert len(content) == 8, content
            ended = Ended(*struct.unpack(">IB3x", content))
            continue
        assert kind in texts, f"a record of type {kind}"
        assert kind not in closed, f"a record of type {kind} after the end of its stream"
        if not content:
            closed.add(kind)
        texts[kind] += content
    assert not rest or ended is None, f"bytes after END_REQUEST: {rest[:40]!r}"
    return Output(texts[STDOUT], texts[STDERR], ended, rest == bytes(8))


class Answer(NamedTuple):
    """One answer as HTTP sees it. Header names are lower-case; `ended` is None when the connection just closed, and
    `cut` says that the pool first told the front server so."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    stderr: bytes
    ended: Ended | None
    cut: bool = False

    def header(self, name: str) -> str | None:
        """The last value of a header."""
        return dict(self.headers).get(name.lower())


def answer(found: Output) -> Answer:
    """Read the CGI head (RFC 3875, section 6). Status 0 when there is none."""
    head, blank, body = found.stdout.partition(b"\r\n\r\n")
    if not blank:
        return Answer(0, [], found.stdout, found.stderr, found.ended, found.cut)
    split = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")]
    headers = [(name.lower(), value) for name, value in split]
    status = int(dict(headers).get("status", "200")[:3])
    return Answer(status, headers, body, found.stderr, found.ended, found.cut)


class Connection:
    """A connection to a pool, for one request after the other."""

    def __init__(self, address: Address, timeout: float = PATIENCE) -> None:
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, request_id: int = 1) -> Answer:
        """Read to END_REQUEST, or to the end of the connection."""
        data = bytearray()
        at = 0  # the beginning of the last record that has not come whole: 50 MB must not take quadratic time
        while True:
            piece = self.socket.recv(1 << 16)
            data += piece
            ended = False
            while len(data) - at >= 8:
                size = 8 + int.from_bytes(data[at + 4 : at + 6], "big") + data[at + 6]
                if len(data) - at < size:
                    break
                ended = data[at + 1] == END
                at += size
            if ended or not piece:
                return answer(output(bytes(data), request_id))

    def request(self, parameters: Pairs, body: bytes = b"", keep: bool = True, request_id: int = 1) -> Answer:
        self.send(request_bytes(parameters, body, keep, request_id))
        return self.receive(request_id)


def request(address: Address, parameters: Pairs, body: bytes = b"", keep: bool = False) -> Answer:
    """One request over a connection of its own; waits for the pool to close it unless `keep`."""
    with Connection(address) as connection:
        found = connection.request(parameters, body, keep)
        if not keep and found.ended is not None:
            assert connection.socket.recv(1) == b"", "bytes after END_REQUEST"
        return found
