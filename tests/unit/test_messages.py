"""Every sentence survives the trip, and whatever is none is refused by name."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm import messages
from pyfpm.errors import MessageError
from pyfpm.messages import LARGEST_TEXT, MOST_DESCRIPTORS, PERMITTED, Message, Speaker, decode, encode, receive, send

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


@contextlib.contextmanager
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = messages.socket_pair()
    with ours, theirs:
        yield ours, theirs


@contextlib.contextmanager
def old_channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """As it is on a kernel that cannot refuse descriptors."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with ours, theirs:
        yield ours, theirs


def can_refuse_descriptors() -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, messages.SO_PASSRIGHTS, 0)
        except OSError:
            return False
    return True


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


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


def test_over_a_socket_the_sender_is_known() -> None:
    with channel() as (ours, theirs):
        send(theirs, messages.Ready(7))
        received = receive(ours, Speaker.NEW_WORKER)
        assert received is not None
        message, sender = received
        assert message == messages.Ready(7)
        assert (sender.pid, sender.uid, sender.gid) == (os.getpid(), os.getuid(), os.getgid())


def test_the_end_of_a_conversation() -> None:
    with channel() as (ours, theirs):
        with pytest.raises(BlockingIOError):
            receive(ours, Speaker.NEW_WORKER)
        theirs.close()
        assert receive(ours, Speaker.NEW_WORKER) is None


def test_descriptors_that_nobody_asked_for_are_closed() -> None:
    with old_channel() as (ours, theirs):
        before = open_descriptors()
        for count in (1, MOST_DESCRIPTORS, MOST_DESCRIPTORS + 3):
            socket.send_fds(theirs, [messages.Ready.kind], [0] * count)
            with pytest.raises(MessageError):
                receive(ours, Speaker.NEW_WORKER)
        assert open_descriptors() == before


def test_a_message_too_large_for_any_kind() -> None:
    with channel() as (ours, theirs):
        theirs.send(messages.Progress.kind + b"x" * (LARGEST_TEXT + 4096))
        with pytest.raises(MessageError, match="too large"):
            receive(ours, Speaker.NEW_WORKER)


def test_both_ends_know_their_peer() -> None:
    with channel() as (ours, theirs):
        for end in (ours, theirs):
            peer = messages.peer_of(end)
            assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())


# ── who may say what ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_who_may_say_what_is_total() -> None:
    assert set(PERMITTED) == set(Speaker)
    assert {kind for permitted in PERMITTED.values() for kind in permitted} == set(KINDS)


def test_nobody_may_send_descriptors_to_the_master() -> None:
    to_master = [speaker for speaker in Speaker if not speaker.name.startswith("MASTER_")]
    assert all(kind.descriptors_allowed == (0, 0) for speaker in to_master for kind in PERMITTED[speaker])


@pytest.mark.parametrize("speaker", Speaker)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_speaker_may_not_say_is_refused_and_closed(speaker: Speaker, kind: type[Message]) -> None:
    with old_channel() as (ours, theirs):
        before = open_descriptors()
        send(theirs, kind(*(0 for _ in kind.fields), descriptors=(0,) * kind.descriptors_allowed[0]))
        if kind in PERMITTED[speaker]:
            received = receive(ours, speaker)
            assert received is not None
            for descriptor in received[0].descriptors:
                os.close(descriptor)
        else:
            with pytest.raises(MessageError, match=f"{kind.__name__}, which .* may not say"):
                receive(ours, speaker)
        assert open_descriptors() == before


@pytest.mark.skipif(not can_refuse_descriptors(), reason="SO_PASSRIGHTS came with Linux 6.16")
def test_the_kernel_refuses_descriptors_to_the_master_and_not_from_it() -> None:
    with channel() as (ours, theirs):
        with pytest.raises(PermissionError):
            socket.send_fds(theirs, [messages.Ready.kind], [0])
        send(ours, messages.NewAccessLog(descriptors=(0,)))
        received = receive(theirs, Speaker.MASTER_POSTS)
        assert received is not None
        os.close(received[0].descriptors[0])


def test_a_kernel_that_cannot_refuse_descriptors_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SO_PASSRIGHTS", 9999)
    with channel() as (ours, theirs):
        send(theirs, messages.Ready(7))
        assert receive(ours, Speaker.NEW_WORKER) is not None
