"""wsgi.input: as a file would, to the last byte and not beyond, and never short in silence."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.errors import PeerError, PeerGone, RequestTimeout
from pyfpm.gateway.body import Input, content_length, received

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def coming(*pieces: bytes) -> Callable[[], bytes]:
    """The pieces, b"" once, and then no further call is right."""
    left = iter([*pieces, b""])
    return lambda: next(left)


def never() -> bytes:
    raise AssertionError("read beyond the body")


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.one_of(st.none(), st.integers(-1, 40))),
    max_size=12,
)


@given(st.lists(st.text("ab\n", max_size=30).map(str.encode)), OPERATIONS, st.booleans())
def test_reads_as_a_file_does(pieces: list[bytes], operations: list[tuple[str, int | None]], known: bool) -> None:
    whole = b"".join(pieces)
    first, *others = pieces or [b""]
    ours = Input(first, len(whole) if known else None, coming(*[piece for piece in others if piece]))
    file = io.BytesIO(whole)
    for name, size in operations:
        assert getattr(ours, name)(size) == getattr(file, name)(size)
    assert list(ours) == list(file)
    assert (ours.read(), ours.read(5), ours.readline(), ours.readlines()) == (b"", b"", b"", [])


def test_iteration_gives_lines() -> None:
    assert list(Input(b"a\nb", None, coming(b"c\n\nd"))) == [b"a\n", b"bc\n", b"\n", b"d"]


def test_cut_at_content_length() -> None:
    assert Input(b"hello, this is more", 5, never).read() == b"hello"
    assert Input(b"hel", 5, coming(b"lo, this is more")).read() == b"hello"
    assert Input(b"", 0, never).read() == b""


def test_a_line_over_many_pieces_and_a_limit() -> None:
    body = Input(b"ab", None, coming(b"cd", b"ef\ng"))
    assert [body.readline(5), body.readline(5), body.readline(5)] == [b"abcde", b"f\n", b"g"]


def test_what_is_here_is_read_without_waiting() -> None:
    body = Input(b"line\nmore", 100, never)
    assert (body.read(2), body.readline(), body.read(4), body.read(0)) == (b"li", b"ne\n", b"more", b"")


@pytest.mark.parametrize("read", ["read", "readline", "readlines"])
def test_shorter_than_content_length(read: str) -> None:
    body = Input(b"abc", 5, coming(b"d"))
    for _ in range(2):  # an application that catches it and goes on learns it again
        with pytest.raises(PeerGone, match="ended 1 bytes before its CONTENT_LENGTH"):
            getattr(body, read)()


def test_a_failure_of_the_peer_reaches_the_application_each_time() -> None:
    calls = []

    def more() -> bytes:
        calls.append(1)
        raise PeerGone("aborted")

    body = Input(b"abc", None, more)
    assert body.read(3) == b"abc"
    for _ in range(3):
        with pytest.raises(PeerGone, match="aborted"):
            body.read(1)
    assert len(calls) == 1


def test_what_an_interrupted_read_has_lost_is_not_skipped() -> None:
    pieces: Iterator[bytes | RequestTimeout] = iter([b"abc", RequestTimeout("now"), b"ghi"])

    def more() -> bytes:
        piece = next(pieces)
        if isinstance(piece, bytes):
            return piece
        raise piece

    body = Input(b"", 9, more)
    for _ in range(2):
        with pytest.raises(RequestTimeout):
            body.read()


def test_flat_memory() -> None:
    """50 MB in pieces of 64 KiB, read in blocks that fit none of them: one piece is held, no more."""
    piece = bytes(65536)
    count = 800
    left = iter(range(count))
    body = Input(b"", count * 65536, lambda: piece if next(left, None) is not None else b"")
    total = 0
    while block := body.read(10_000):
        total += len(block)
        assert len(body._piece) <= 65536
    assert total == count * 65536


def test_small_reads_of_large_pieces_copy_only_what_they_give() -> None:
    body = Input(b"\n" * 300_000, None, coming())
    assert sum(1 for _ in body) == 300_000  # quadratic time would take minutes


@pytest.mark.parametrize(("text", "length"), [(None, None), ("", None), ("0", 0), ("12", 12), ("007", 7)])
def test_content_length(text: str | None, length: int | None) -> None:
    assert content_length({} if text is None else {"CONTENT_LENGTH": text}) == length


def test_an_unknown_length_as_caddy_tells_it() -> None:
    environ = {"CONTENT_LENGTH": "-1"}
    assert received(environ, b"chunked").read() == b"chunked"
    assert environ == {}, "int(environ['CONTENT_LENGTH']) is common"


@pytest.mark.parametrize("text", ["-2", "+1", " 1", "1 ", "1_0", "²", "0x10", "1,1", "9" * 20, "abc"])
def test_bad_content_length(text: str) -> None:
    with pytest.raises(PeerError, match="not a number of bytes"):
        content_length({"CONTENT_LENGTH": text})


def test_received() -> None:
    assert type(received({}, b"")) is io.BytesIO
    assert received({}, b"chunked").read() == b"chunked"
    assert type(received({"CONTENT_LENGTH": "4"}, b"body")) is io.BytesIO
    assert received({"CONTENT_LENGTH": "2"}, b"body").read() == b"bo"
    with pytest.raises(PeerGone):
        received({"CONTENT_LENGTH": "5"}, b"body").read()
    with pytest.raises(PeerGone):
        received({"CONTENT_LENGTH": "5"}, b"").readline()
