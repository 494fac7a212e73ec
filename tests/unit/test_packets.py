"""A message arrives whole, with its sender and nothing else; what is not permitted leaves no descriptor behind."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from pyfpm import messages, packets
from pyfpm.errors import MessageError
from pyfpm.messages import LARGEST_TEXT, MOST_DESCRIPTORS, PERMITTED, Message, Speaker
from pyfpm.packets import receive, send
from tests.harness.sockets import open_descriptors

KINDS = sorted({kind for permitted in PERMITTED.values() for kind in permitted}, key=lambda kind: kind.__name__)


@contextlib.contextmanager
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = packets.socket_pair()
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
            probe.setsockopt(socket.SOL_SOCKET, packets.SO_PASSRIGHTS, 0)
        except OSError:
            return False
    return True


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
            peer = packets.peer_of(end)
            assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())


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
    monkeypatch.setattr(packets, "SO_PASSRIGHTS", 9999)
    with channel() as (ours, theirs):
        send(theirs, messages.Ready(7))
        assert receive(ours, Speaker.NEW_WORKER) is not None
