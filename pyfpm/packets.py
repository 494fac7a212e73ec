"""How it travels: a message is one SOCK_SEQPACKET packet, with its descriptors and with its sender's credentials.

Runs in: every process, Python 3.9 and up.
Fails by: MessageError for a packet that is no message, or not one that its sender may say; OSError from the socket.

Descriptors ride along as SCM_RIGHTS. The sender is known by SCM_CREDENTIALS, which the kernel fills; who asks over the
control socket is known by SO_PEERCRED, which the kernel noted at connect(2).
"""

from __future__ import annotations

import array
import errno
import socket
import struct
from os import close

from pyfpm.errors import MessageError
from pyfpm.messages import LARGEST_TEXT, MOST_DESCRIPTORS, Message, Speaker, decode, encode

SO_PASSRIGHTS = 83  # Linux 6.16, asm-generic/socket.h; the socket module does not name it
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Sender:
    """Who sent a message, as the kernel knows it; all zero where credentials were not asked for."""

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int = 0, uid: int = 0, gid: int = 0) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel: ours, non-blocking and told who sends; theirs, blocking, to be handed over."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    refuse_descriptors(ours)
    return ours, theirs


def refuse_descriptors(channel: socket.socket) -> None:
    """Have the kernel refuse descriptors to whoever sends any to `channel`, which is the master's.

    Receiving one is too late: close(2) of a TCP socket with SO_LINGER and unsent data waits, for as long as its maker
    likes. Before Linux 6.16 there is no such refusal; see docs/security.md.
    """
    try:
        channel.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def peer_of(channel: socket.socket) -> Sender:
    """Who is at the other end of a connection: who connected, or on a client's side who called listen(2)."""
    return Sender(*_CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def send(channel: socket.socket, message: Message) -> None:
    """Send one message whole. OSError if the other end is gone; BlockingIOError if a non-blocking channel is full."""
    rights = array.array("i", message.descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    channel.sendmsg([encode(message)], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket, speaker: Speaker) -> tuple[Message, Sender] | None:
    """The next message of `speaker` and its sender; None when the other end has closed.

    BlockingIOError if a non-blocking channel has none. MessageError if it is none of ours, or none that `speaker` may
    say: what descriptors came with it are closed.

    recvmsg itself and not socket.recv_fds: with SO_PASSCRED on, credentials would take the room
    of the descriptors and MSG_CTRUNC would be the only sign of it.
    """
    try:
        packet, ancillary, flags = _receive_packet(channel)
    except ConnectionResetError:
        # It closed with words of ours unread. The kernel says so once, ahead of the last words of its own.
        packet, ancillary, flags = _receive_packet(channel)
    if not packet and not ancillary:
        return None
    descriptors, sender = _read_ancillary(ancillary)
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise MessageError("a message too large, or with too many descriptors")
        return decode(packet, descriptors, speaker), sender
    except MessageError:
        for descriptor in descriptors:
            close(descriptor)
        raise


def _receive_packet(channel: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize) + socket.CMSG_SPACE(_CREDENTIALS.size)
    return channel.recvmsg(LARGEST_TEXT + 64, room, socket.MSG_CMSG_CLOEXEC)[:3]


def _read_ancillary(ancillary: list[tuple[int, int, bytes]]) -> tuple[tuple[int, ...], Sender]:
    descriptors = array.array("i")
    sender = Sender()
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            sender = Sender(*_CREDENTIALS.unpack(payload[: _CREDENTIALS.size]))
    return tuple(descriptors), sender
