"""Encoding, and the edges of the shortcut. What the decoder understands is in tests/wire/."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pyfpm.protocols import fastcgi
from tests.harness import fcgi_client as client

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = b"Status: 200 OK\r\n\r\n"


@pytest.mark.parametrize("request_id", [1, 2, 65535])
@pytest.mark.parametrize("size", [0, 1, 65535 - len(HEAD), 65536 - len(HEAD), 200_000])
def test_whole(request_id: int, size: int) -> None:
    found = client.output(fastcgi.whole(request_id, HEAD, b"x" * size), request_id)
    assert found == (HEAD + b"x" * size, b"", (0, fastcgi.REQUEST_COMPLETE), False)


def test_whole_closes_the_stream_before_it_ends() -> None:
    kinds = [record.kind for record in client.records(fastcgi.whole(1, HEAD, b"x"))[0]]
    assert kinds == [client.STDOUT, client.STDOUT, client.END]


def test_whole_of_nothing_is_an_end() -> None:
    assert client.output(fastcgi.whole(1, b"", b"")) == (b"", b"", (0, 0), False)


@pytest.mark.parametrize(("function", "kind"), [(fastcgi.stdout, client.STDOUT), (fastcgi.stderr, client.STDERR)])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 131_070, 131_071])
def test_streams_have_no_empty_record(function: Callable[[int, memoryview], bytes], kind: int, size: int) -> None:
    data = bytes(range(256)) * 512
    found, rest = client.records(function(3, memoryview(data)[:size]))
    assert b"".join(record.content for record in found) == data[:size]
    assert all(record.content and record[:2] == (kind, 3) for record in found)
    assert len(found) == -(-size // 65535)
    assert not rest


def test_end() -> None:
    assert client.records(fastcgi.end(5, 258, fastcgi.OVERLOADED))[0] == [
        (client.STDOUT, 5, b""),
        (client.END, 5, struct.pack(">IB3x", 258, 2)),
    ]
    assert [record.kind for record in client.records(fastcgi.end(5, with_empty_stdout=False))[0]] == [client.END]


def test_the_last_of_stderr_ends_the_stream() -> None:
    text = fastcgi.stderr(2, b"first ") + fastcgi.stderr(2, b"last", last=True)
    assert client.output(text + fastcgi.whole(2, HEAD, b""), 2) == (HEAD, b"first last", (0, 0), False)
    assert client.records(fastcgi.stderr(2, b"", last=True))[0] == [(client.STDERR, 2, b"")]


def test_idle_until_the_first_byte_and_after_what_was_refused() -> None:
    decoder = fastcgi.Decoder({})
    seen = [decoder.is_idle]
    for piece in (b"\1", client.begin(role=2)[1:], client.begin()):
        decoder.feed(piece)
        seen.append(decoder.is_idle)
    assert seen == [True, False, True, False]


GET = client.request_bytes({"A": "b"})
POST = client.request_bytes({"A": "b"}, b"body")


def test_decode() -> None:
    assert fastcgi.decode(GET, {"wsgi.x": 1}) == ({"A": "b", "wsgi.x": 1}, False, 1, b"")
    assert fastcgi.decode(client.request_bytes({"A": "b"}, b"body", keep=True), {}) == ({"A": "b"}, True, 1, b"body")


def test_decode_leaves_base_alone() -> None:
    base = {"A": 1}
    taken = fastcgi.decode(GET, base)
    assert taken is not None
    taken[0]["B"] = 2
    assert base == {"A": 1}
    assert taken[0]["A"] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET[:-1],
        GET + b"\1",
        GET + GET,
        POST[:-8],
        POST + client.record(client.STDIN, 1),
        client.request_bytes({"A": "b"}, request_id=2),
        client.begin(role=2) + GET[16:],
        client.begin() + client.record(client.PARAMS, 1) + client.record(client.STDIN, 1) + bytes(16),
        client.begin() + client.record(client.PARAMS, 1) * 2 + client.record(client.STDIN, 1),
        client.request_bytes({"A": "b"}, b"x" * 40_000),
        GET[:-8] + client.record(client.STDIN, 1, b"", 9) + client.record(client.STDIN, 1),
        GET[:-8] + client.record(client.STDIN, 2),
        GET[:-16] + client.record(client.STDIN, 1) * 2,
        b"\2" + GET[1:],
    ],
)
def test_decode_leaves_the_rest_to_the_decoder(data: bytes) -> None:
    assert fastcgi.decode(data, {}) is None
