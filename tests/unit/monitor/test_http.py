"""HTTP as the monitor hears it: in pieces of any size, well or badly meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.monitor.http import BAD_REQUEST, Http, read_head
from pyfpm.monitor.questions import LARGEST_HEAD, Answer, Heard, Question

GOOD = b"GET /status?json&full HTTP/1.1\r\nHost: x\r\nAccept: a/b\r\nAccept: c/d\r\nCookie: \xe9\r\n\r\n"
PIECES = st.lists(st.integers(1, 40), max_size=10)


def heard_of(data: bytes, sizes: list[int]) -> Heard:
    """What comes of bytes that arrive in pieces."""
    http = Http()
    heard = Heard()
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        if piece:
            heard = http.hear(piece)
        if heard.is_over or heard.question:
            break
    return heard


@given(PIECES)
def test_a_request_in_any_pieces(sizes: list[int]) -> None:
    assert heard_of(GOOD, sizes).question == Question("GET", ("/status",), "json&full", "a/b,c/d", is_direct=True)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a/b?c?d", "/a/b", "c?d"),
        ("http://example.org", "/", ""),
        ("http://example.org?x", "/", "x"),
        ("HTTPS://example.org/a?x", "/a", "x"),
    ],
)
def test_targets(target: str, path: str, query: str) -> None:
    question = read_head(f"GET {target} HTTP/1.1\r\nHost: x".encode())
    assert isinstance(question, Question)
    assert (question.paths, question.query) == ((path,), query)


@pytest.mark.parametrize(
    "head",
    [
        b"GET  / HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1 \r\nHost: x",
        b"GET / HTTP/1.1\r\nHost : x",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y",
        b"GET / HTTP/1.1",
        b"GET * HTTP/1.1\r\nHost: x",
        b"GET /\xff HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1\r\nHost: x\x00",
        b"GET / http/1.1\r\nHost: x",
        b"G=T / HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1\rHost: x",
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(head: bytes) -> None:
    assert read_head(head) == BAD_REQUEST


@given(st.binary(max_size=300), PIECES)
def test_noise_is_refused_or_waited_for(noise: bytes, sizes: list[int]) -> None:
    heard = heard_of(noise, sizes)
    assert heard.question is None or heard.question.paths[0].startswith("/")
    assert heard.reply == b"" or (heard.is_over and heard.reply.startswith(b"HTTP/1.1 "))


@given(
    st.lists(st.sampled_from([b"GET", b" ", b"/", b"?", b"HTTP/1.1", b"\r\n", b"\n", b"Host", b":", b"x", b"\r", b"1"]))
)
def test_nearly_right_is_refused_or_waited_for(parts: list[bytes]) -> None:
    heard = heard_of(b"".join(parts), [])
    assert heard.reply == b"" or heard.is_over


@given(st.integers(LARGEST_HEAD + 1, 3 * LARGEST_HEAD), PIECES)
def test_too_much_is_refused(size: int, sizes: list[int]) -> None:
    assert heard_of(b"GET / HTTP/1.1\r\nX: " + b"x" * size, sizes).reply.startswith(b"HTTP/1.1 431 ")


def test_an_answer() -> None:
    sent = Http().encode(Answer("200 OK", b"abc", "text/plain", (("X", "y"),)), None)
    start, *headers, end, body = sent.split(b"\r\n")
    assert (start, end, body) == (b"HTTP/1.1 200 OK", b"", b"abc")
    assert headers[-4:] == [b"Content-Type: text/plain", b"X: y", b"Content-Length: 3", b"Connection: close"]
    head = Http().encode(Answer("200 OK", b"abc", "text/plain"), Question("HEAD", ("/",), ""))
    assert head.endswith(b"Content-Length: 3\r\nConnection: close\r\n\r\n")
