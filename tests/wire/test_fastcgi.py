"""The FastCGI corpus: each case fed whole, byte by byte and with a tail. Section numbers are the specification's."""

from __future__ import annotations

import struct
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pyfpm.protocols import fastcgi
from tests.harness import fcgi_client as client
from tests.wire.feeding import BASE, Abort, Body, End, Head, Reply, outcome, shortcut, three_ways

if TYPE_CHECKING:
    from pyfpm.protocols.events import Event
    from tests.wire.feeding import Outcome

NGINX = Path(__file__).parent / "nginx-1.22"

BEGIN = client.begin()
GET = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/"}
PARAMS = client.record(client.PARAMS, 1, client.pairs(GET))
END_PARAMS = client.record(client.PARAMS, 1)
END_STDIN = client.record(client.STDIN, 1)
ABORT = client.record(client.ABORT, 1)
HEAD = Head({**GET, **BASE}, False, 1)
WHOLE = client.request_bytes(GET)


def stdin(data: bytes, padding: int = 0) -> bytes:
    return client.record(client.STDIN, 1, data, padding)


def ended(request_id: int, protocol_status: int) -> bytes:
    return client.record(client.END, request_id, struct.pack(">IB3x", 0, protocol_status))


def get_values(*names: str) -> bytes:
    return client.record(client.GET_VALUES, 0, client.pairs([(name, "") for name in names]))


def values(**pairs: str) -> Reply:
    return Reply(client.record(client.GET_VALUES_RESULT, 0, client.pairs(pairs)))


class Case(NamedTuple):
    name: str
    data: bytes
    expected: list[Event] | str


MANY = client.pairs([(str(n), "") for n in range(10_001)])
BIG = client.pairs({"A": "x" * (1 << 20)})

UNDERSTOOD: list[Case] = [
    Case("nothing", b"", []),
    Case("half a header", b"\1\1\0", []),
    Case("a request without body", WHOLE, [HEAD, End()]),
    Case("a request without parameters", BEGIN + END_PARAMS + END_STDIN, [Head(dict(BASE), False, 1), End()]),
    Case("the connection is to be kept", client.request_bytes(GET, keep=True), [Head(HEAD.environ, True, 1), End()]),
    Case("unknown flags", client.record(1, 1, b"\0\1\xfe" + bytes(5)) + WHOLE[16:], [HEAD, End()]),
    Case("a body", client.request_bytes(GET, b"hello"), [HEAD, Body(b"hello"), End()]),
    Case("a body in many records", client.request_bytes(GET, b"ab" * 40_000), [HEAD, Body(b"ab" * 40_000), End()]),
    Case(
        "the fullest record and the longest padding",
        BEGIN + PARAMS + END_PARAMS + stdin(b"x" * 65535, 255) + END_STDIN,
        [HEAD, Body(b"x" * 65535), End()],
    ),
    Case(
        "padding everywhere",
        client.record(1, 1, b"\0\1" + bytes(6), 3)
        + client.record(client.PARAMS, 1, client.pairs(GET), 7)
        + client.record(client.PARAMS, 1, b"", 8)
        + stdin(b"hi", 6)
        + client.record(client.STDIN, 1, b"", 1),
        [HEAD, Body(b"hi"), End()],
    ),
    Case(
        "pairs split over records of one byte",
        BEGIN + client.stream(client.PARAMS, 1, client.pairs({"N" * 130: "v" * 300}), 1) + END_STDIN,
        [Head({"N" * 130: "v" * 300, **BASE}, False, 1), End()],
    ),
    Case(
        "four-byte lengths for short texts (3.4)",
        BEGIN + client.record(client.PARAMS, 1, b"\x80\0\0\1\x80\0\0\2Abc") + END_PARAMS + END_STDIN,
        [Head({"A": "bc", **BASE}, False, 1), End()],
    ),
    Case(
        "every byte in a value, as latin-1",
        client.request_bytes({"A": bytes(range(256)).decode("latin-1")}),
        [Head({"A": bytes(range(256)).decode("latin-1"), **BASE}, False, 1), End()],
    ),
    Case(
        "the last of a name wins",
        client.request_bytes([("A", "1"), ("A", "2")]),
        [Head({"A": "2", **BASE}, False, 1), End()],
    ),
    Case(
        "the server's own keys cannot be sent",
        client.request_bytes([("wsgi.version", "(9, 9)")]),
        [Head(dict(BASE), False, 1), End()],
    ),
    Case(
        "the highest request id",
        client.request_bytes(GET, b"x", request_id=65535),
        [Head(HEAD.environ, False, 65535), Body(b"x"), End()],
    ),
    Case(
        "requests one after the other on a kept connection",
        client.request_bytes(GET, b"1", keep=True) + client.request_bytes(GET, b"2", request_id=2),
        [Head(HEAD.environ, True, 1), Body(b"1"), End(), Head(HEAD.environ, False, 2), Body(b"2"), End()],
    ),
    Case(
        "FCGI_GET_VALUES before a request (4.1)",
        get_values("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS") + WHOLE,
        [values(FCGI_MAX_CONNS="3", FCGI_MAX_REQS="3", FCGI_MPXS_CONNS="0"), HEAD, End()],
    ),
    Case("unknown names are left out (4.1)", get_values("NOBODY", "FCGI_MAX_REQS"), [values(FCGI_MAX_REQS="3")]),
    Case("nothing is asked", get_values(), [values()]),
    Case(
        "FCGI_GET_VALUES in the middle of parameters and of the body",
        BEGIN
        + get_values("FCGI_MPXS_CONNS")
        + PARAMS
        + END_PARAMS
        + stdin(b"a")
        + get_values()
        + stdin(b"b")
        + END_STDIN,
        [values(FCGI_MPXS_CONNS="0"), HEAD, Body(b"a"), values(), Body(b"b"), End()],
    ),
    Case(
        "an unknown management type (4.2)",
        client.record(200, 0, b"what?") + WHOLE,
        [Reply(client.record(client.UNKNOWN, 0, b"\xc8" + bytes(7))), HEAD, End()],
    ),
    Case(
        "a management type that only applications send",
        client.record(client.GET_VALUES_RESULT, 0),
        [Reply(client.record(client.UNKNOWN, 0, b"\x0a" + bytes(7)))],
    ),
    Case(
        "a second request beside the first is refused, the first goes on",
        BEGIN
        + PARAMS
        + client.begin(2)
        + END_PARAMS
        + client.begin(3)
        + stdin(b"1")
        + client.request_bytes(GET, b"no", request_id=2)[16:]
        + END_STDIN,
        [Reply(ended(2, 1)), HEAD, Reply(ended(3, 1)), Body(b"1"), End()],
    ),
    Case("role authorizer", client.begin(1, role=2), [Reply(ended(1, 3), close=True)]),
    Case(
        "role filter, connection kept, then a responder",
        client.begin(1, role=3, keep=True) + client.request_bytes(GET)[16:] + WHOLE,
        [Reply(ended(1, 3)), HEAD, End()],
    ),
    Case("role 0", client.begin(7, role=0), [Reply(ended(7, 3), close=True)]),
    Case("role 65535", client.begin(1, role=65535), [Reply(ended(1, 3), close=True)]),
    Case("ABORT before the parameters end", BEGIN + PARAMS + ABORT, [Reply(ended(1, 0), close=True)]),
    Case(
        "ABORT before the parameters end, connection kept, the next request has nothing of it",
        client.begin(keep=True) + client.record(client.PARAMS, 1, client.pairs({"OLD": "1"})) + ABORT + PARAMS + WHOLE,
        [Reply(ended(1, 0)), HEAD, End()],
    ),
    Case("ABORT before the body", BEGIN + PARAMS + END_PARAMS + ABORT, [HEAD, Abort()]),
    Case("ABORT in the body", BEGIN + PARAMS + END_PARAMS + stdin(b"12") + ABORT, [HEAD, Body(b"12"), Abort()]),
    Case("ABORT after the request is ignored (3.3)", WHOLE + ABORT + WHOLE, [HEAD, End(), HEAD, End()]),
    Case("ABORT for nothing is ignored (3.3)", ABORT, []),
    Case(
        "STDIN after its end is ignored (3.3)", WHOLE + stdin(b"late") + END_STDIN + WHOLE, [HEAD, End(), HEAD, End()]
    ),
    Case(
        "records for unknown ids are ignored (3.3)",
        client.record(client.PARAMS, 9, b"junk") + client.record(77, 9) + WHOLE,
        [HEAD, End()],
    ),
    Case(
        "10,000 parameters",
        client.request_bytes([(str(n), "") for n in range(10_000)]),
        [Head({**{str(n): "" for n in range(10_000)}, **BASE}, False, 1), End()],
    ),
    Case(
        "parameters beyond one record",
        client.request_bytes({"A": "x" * 200_000}),
        [Head({"A": "x" * 200_000, **BASE}, False, 1), End()],
    ),
]

REFUSED: list[Case] = [
    Case("HTTP", b"GET / HTTP/1.1\r\n\r\n", "this looks like HTTP (b'GET / HT'…); the pool speaks FastCGI"),
    Case("HTTP with a long method", b"PROPFIND / HTTP/1.1\r\n\r\n", "this looks like HTTP"),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "this looks like TLS"),
    Case("version 0", b"\0" + BEGIN[1:], "this is not FastCGI: version 1 was expected"),
    Case("version 2 in the middle", BEGIN + client.record(client.PARAMS, 1, b"", version=2), "version 1 was expected"),
    Case("BEGIN of 7 bytes", client.record(client.BEGIN, 1, bytes(7)), "BEGIN_REQUEST record of 7 bytes instead of 8"),
    Case("BEGIN of 9 bytes", client.record(client.BEGIN, 1, bytes(9)), "BEGIN_REQUEST record of 9 bytes instead of 8"),
    Case("BEGIN twice", BEGIN + BEGIN, "type 1 where it has no place: before the end of PARAMS"),
    Case("BEGIN with id 0", client.begin(0), "type 1 with request id 0"),
    Case("PARAMS with id 0", client.record(client.PARAMS, 0), "type 4 with request id 0"),
    Case("STDIN in the parameters", BEGIN + END_STDIN, "type 5 where it has no place: before the end of PARAMS"),
    Case(
        "PARAMS after their end", BEGIN + END_PARAMS + PARAMS, "type 4 where it has no place: before the end of STDIN"
    ),
    Case("DATA for a responder", BEGIN + END_PARAMS + client.record(client.DATA, 1), "type 8 where it has no place"),
    Case("an answer instead of a request", BEGIN + client.record(client.STDOUT, 1), "type 6 where it has no place"),
    Case("management with an id in use", BEGIN + client.record(client.GET_VALUES, 1), "type 9 where it has no place"),
    *(
        Case(
            name,
            BEGIN + client.record(client.PARAMS, 1, block) + END_PARAMS + END_STDIN,
            "malformed FastCGI parameters",
        )
        for name, block in {
            "a name beyond the end": b"\x05\0abc",
            "a value beyond the end": b"\1\5Aabc",
            "a length alone": b"\1",
            "half a long length": b"\x80\0",
            "half a second length": b"\1\x80\0\0",
            "the longest lengths": b"\xff\xff\xff\xff\xff\xff\xff\xffA",
            "a pair and a byte": b"\1\1AB\0",
        }.items()
    ),
    Case("malformed FCGI_GET_VALUES", client.record(client.GET_VALUES, 0, b"\5"), "malformed FastCGI parameters"),
    Case("10,001 parameters", BEGIN + client.stream(client.PARAMS, 1, MANY), "more than 10000 FastCGI parameters"),
    Case("more than 1 MiB of parameters", BEGIN + client.stream(client.PARAMS, 1, BIG), "more than 1048576 bytes"),
]


@pytest.mark.parametrize("case", UNDERSTOOD, ids=lambda case: case.name)
def test_understood(case: Case) -> None:
    assert three_ways(case.data) == case.expected


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case: Case) -> None:
    words = three_ways(case.data)
    assert isinstance(words, str), words
    assert isinstance(case.expected, str)
    assert case.expected in words


def recorded(name: str) -> tuple[bytes, Outcome]:
    data = (NGINX / f"{name}.bin").read_bytes()
    return data, three_ways(data)


@pytest.mark.parametrize(
    ("name", "method", "script_name", "body"),
    [
        ("get", "GET", "/a/b c", b""),
        ("get_utf8", "GET", "/caf\xc3\xa9/", b""),
        ("get_proxy_header", "GET", "/", b""),
        ("get_keep", "GET", "/k", b""),
        ("head", "HEAD", "/", b""),
        ("post_small", "POST", "/form", b"a=1&b=hello"),
        ("post_50k", "POST", "/up", bytes(i * 7 % 251 for i in range(50_000))),
        ("chunked_buffered", "POST", "/c", b"hello world"),
        ("chunked_unbuffered", "POST", "/raw/c", b"hello world"),
    ],
)
def test_as_nginx_sends_it(name: str, method: str, script_name: str, body: bytes) -> None:
    _, events = recorded(name)
    assert not isinstance(events, str)
    first = events[0]
    assert isinstance(first, Head)
    assert (first.environ["REQUEST_METHOD"], first.environ["SCRIPT_NAME"]) == (method, script_name)
    assert (first.keep, first.request_id) == (name == "get_keep", 1)
    assert events[1:] == ([Body(body), End()] if body else [End()])


@pytest.mark.parametrize("name", ["get", "get_utf8", "get_keep", "head", "post_small", "chunked_buffered"])
def test_the_shortcut_takes_what_nginx_sends(name: str) -> None:
    data, events = recorded(name)
    assert shortcut(data) == events


@pytest.mark.parametrize("request_id", [1, 500])
@pytest.mark.parametrize("size", [1, 70_000])
def test_answers_as_a_front_reads_them(request_id: int, size: int) -> None:
    """With a complaint in front, and the next answer of the connection behind."""
    body = b"x" * size
    one = fastcgi.stderr(request_id, body, last=True) + fastcgi.stdout(request_id, body)
    wire = one + fastcgi.whole(request_id, b"", body)
    assert client.output(wire, request_id) == (body + body, body, (0, fastcgi.REQUEST_COMPLETE), False)
    assert client.output(one + fastcgi.end(request_id, 1), request_id) == (body, body, (1, 0), False)
    assert client.output(one + fastcgi.cut(), request_id) == (body, body, None, True)


def test_one_byte_at_a_time_is_linear() -> None:
    """16 times the bytes: 16 times the calls, each with a bounded amount of work, so no more than a few times 16."""

    def cost(size: int) -> float:
        data = client.request_bytes({"A": "x" * size}, b"y" * size)
        best = 1e9
        for _ in range(3):
            start = process_time()
            outcome(data[at : at + 1] for at in range(len(data)))
            best = min(best, process_time() - start)
        return best

    assert cost(64_000) < 16 * cost(4_000) * 3


def test_constants_agree_with_the_client() -> None:
    """Two readings of section 8: ours and the harness's."""
    ours = [fastcgi.BEGIN_REQUEST, fastcgi.END_REQUEST, fastcgi.STDOUT, fastcgi.GET_VALUES_RESULT, fastcgi.UNKNOWN_TYPE]
    assert ours == [client.BEGIN, client.END, client.STDOUT, client.GET_VALUES_RESULT, client.UNKNOWN]
