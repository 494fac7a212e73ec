"""Generated requests: the shortcut, the decoder and every way to cut the bytes must agree; encodings come back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pyfpm.protocols import cgi, fastcgi
from pyfpm.protocols.events import Body, End, Head
from tests.harness import fcgi_client as client
from tests.wire.feeding import BASE, outcome, shortcut

LATIN = st.text(st.characters(max_codepoint=255), max_size=300)
PAIRS = st.lists(st.tuples(LATIN, LATIN), max_size=30)
BODIES = st.one_of(st.just(b""), st.binary(max_size=2000), st.integers(0, 70_000).map(lambda size: b"b" * size))
PADDING = st.integers(0, 255)


@st.composite
def streams(draw: st.DrawFn, kind: int, data: bytes) -> bytes:
    """The data in records cut anywhere, each with padding, and the end of the stream; often in one record."""
    cuts = [] if draw(st.booleans()) else draw(st.lists(st.integers(0, len(data)), max_size=5))
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    whole = [part[at : at + 65535] for part in pieces for at in range(0, len(part), 65535)]
    records = [client.record(kind, 1, part, draw(PADDING) if draw(st.booleans()) else 0) for part in whole]
    return b"".join(records) + client.record(kind, 1)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[tuple[str, str]], bytes, bool, bytes]:
    """(parameters, body, keep, the bytes on the wire)."""
    pairs, body, keep = draw(PAIRS), draw(BODIES), draw(st.booleans())
    wire = client.begin(keep=keep) + draw(streams(client.PARAMS, client.pairs(pairs)))
    return pairs, body, keep, wire + draw(streams(client.STDIN, body))


@given(requests(), st.data())
@settings(deadline=None, max_examples=300)
def test_however_it_comes_it_is_the_same(request: tuple[Any, bytes, bool, bytes], data: st.DataObject) -> None:
    pairs, body, keep, wire = request
    expected = [Head({**dict(pairs), **BASE}, keep, 1), *([Body(body)] if body else []), End()]
    assert outcome([wire]) == (expected, b"")
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20))), len(wire)]
    assert outcome(wire[a:b] for a, b in pairwise(edges)) == (expected, b"")
    if len(wire) < 5000:
        assert outcome(wire[at : at + 1] for at in range(len(wire))) == (expected, b"")
    assert shortcut(wire) in (None, expected)


@given(PAIRS.filter(bool), BODIES.filter(lambda body: len(body) <= 65535), st.booleans(), PADDING, PADDING)
@settings(deadline=None)
def test_the_shortcut_takes_the_common_form(
    pairs: list[tuple[str, str]], body: bytes, keep: bool, one: int, two: int
) -> None:
    wire = client.begin(keep=keep) + client.record(client.PARAMS, 1, client.pairs(pairs), one)
    wire += client.record(client.PARAMS, 1) + (client.record(client.STDIN, 1, body, two) if body else b"")
    assert fastcgi.decode(wire + client.record(client.STDIN, 1), {}) == (dict(pairs), keep, 1, body)


@given(requests(), st.data())
@settings(deadline=None)
def test_the_shortcut_agrees_about_damaged_requests(
    request: tuple[Any, bytes, bool, bytes], data: st.DataObject
) -> None:
    """Taken, or refused in the same words, or left to the decoder."""
    wire = bytearray(request[3])
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, min(len(wire), 200) - 1))] = data.draw(st.integers(0, 255))
    short = shortcut(bytes(wire))
    assert short is None or outcome([bytes(wire)]) == (short, b"")


VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=100)
TOKENS = st.text("ABCabc012-_", min_size=1, max_size=20).map(lambda name: "X" + name)


@given(st.integers(100, 999), VISIBLE, st.lists(st.tuples(TOKENS, VISIBLE)), st.binary(max_size=70_000))
@settings(deadline=None)
def test_answers_come_back(code: int, reason: str, headers: list[tuple[str, str]], body: bytes) -> None:
    head, length = cgi.head(f"{code} {reason}", headers)
    answer = client.answer(client.output(fastcgi.whole(1, head, body)))
    expected = [("status", f"{code} {reason}"), *((name.lower(), value) for name, value in headers)]
    assert (answer.status, answer.headers, answer.body, length) == (code, expected, body, None)
