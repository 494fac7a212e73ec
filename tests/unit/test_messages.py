"""Every sentence survives the trip, and whatever is none is refused by name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm import messages
from pyfpm.errors import MessageError
from pyfpm.messages import LARGEST_TEXT, MOST_DESCRIPTORS, PERMITTED, Message, Speaker, decode, encode

KINDS = list(messages._KINDS.values())
LARGEST = {"B": 2**8 - 1, "H": 2**16 - 1, "I": 2**32 - 1, "Q": 2**64 - 1, "i": 2**31 - 1}


def numbers_for(kind: type[Message]) -> st.SearchStrategy[tuple[int, ...]]:
    letters = kind.layout.format.lstrip("<")
    return st.tuples(*(st.integers(-LARGEST[one] - 1 if one == "i" else 0, LARGEST[one]) for one in letters))


@st.composite
def sentences(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(KINDS))
    text = draw(st.text(st.characters(exclude_categories=["Cs"]))) if kind.has_text else ""
    return kind(*draw(numbers_for(kind)), text=text, descriptors=tuple(range(kind.descriptors_allowed[0])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_complete(kind: type[Message]) -> None:
    assert len(kind.kind) == 1
    assert len(kind.fields) == len(kind.layout.format.lstrip("<"))
    least, most = kind.descriptors_allowed
    assert 0 <= least <= most <= MOST_DESCRIPTORS
    assert (kind.__doc__ or "").rstrip().endswith((".", "?"))


def test_no_two_kinds_share_a_byte() -> None:
    subclasses = [kind for kind in Message.__subclasses__() if kind.__module__ == messages.__name__]
    assert sorted(kind.__name__ for kind in subclasses) == sorted(kind.__name__ for kind in KINDS)


@given(sentences())
def test_a_sentence_survives_the_trip(message: Message) -> None:
    assert decode(encode(message), message.descriptors) == message


@given(st.binary(max_size=64), st.integers(0, MOST_DESCRIPTORS + 1))
def test_any_bytes_are_a_sentence_or_a_message_error(packet: bytes, descriptors: int) -> None:
    with contextlib.suppress(MessageError):
        assert isinstance(decode(packet, tuple(range(descriptors))), Message)


@given(st.sampled_from(KINDS), st.binary(max_size=64))
def test_any_bytes_of_a_known_kind_are_no_worse(kind: type[Message], rest: bytes) -> None:
    least, _ = kind.descriptors_allowed
    with contextlib.suppress(MessageError):
        assert type(decode(kind.kind + rest, tuple(range(least)))) is kind


@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_are_counted(kind: type[Message]) -> None:
    packet = encode(kind(*(0 for _ in kind.fields)))
    least, most = kind.descriptors_allowed
    for count in range(MOST_DESCRIPTORS + 2):
        if least <= count <= most:
            decode(packet, tuple(range(count)))
        else:
            with pytest.raises(MessageError, match="descriptors"):
                decode(packet, tuple(range(count)))


def test_a_text_that_is_too_long_keeps_both_ends() -> None:
    whole = messages.Progress(text="a" * LARGEST_TEXT + "z" * LARGEST_TEXT)
    heard = decode(encode(whole))
    assert (heard.text[0], heard.text[-1]) == ("a", "z")
    assert len(heard.text) <= LARGEST_TEXT


def test_a_text_over_the_limit_is_refused() -> None:
    with pytest.raises(MessageError, match="bytes of text"):
        decode(messages.Progress.kind + b"x" * (LARGEST_TEXT + 1))


# ── who may say what ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_who_may_say_what_is_total() -> None:
    assert set(PERMITTED) == set(Speaker)
    assert {kind for permitted in PERMITTED.values() for kind in permitted} == set(KINDS)


def test_nobody_may_send_descriptors_to_the_master() -> None:
    to_master = [speaker for speaker in Speaker if not speaker.name.startswith("MASTER_")]
    assert all(kind.descriptors_allowed == (0, 0) for speaker in to_master for kind in PERMITTED[speaker])
