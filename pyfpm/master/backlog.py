"""The listen queue: how many connections wait to be accepted, asked of the kernel.

Runs in: master. One system call for a TCP listener, two for a unix one: a few microseconds.
Fails by: None. What the kernel does not tell is unknown, and never 0: an empty queue looks healthy.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import closing
from itertools import count
from typing import NamedTuple
from weakref import WeakSet

LISTENING = 10  # TCP_LISTEN of linux/net/tcp_states.h, which unix sockets use too


class Queue(NamedTuple):
    """Connections that wait now, and how many may: the kernel's limit, after net.core.somaxconn."""

    waiting: int
    limit: int


def listen_queue(listener: socket.socket) -> Queue | None:
    """The listen queue of one listener, asked once. Who asks again keeps a Backlog."""
    with closing(Backlog()) as backlog:
        return backlog.of(listener)


class Backlog:
    """Asks for listen queues. It holds one netlink socket, or none where the system has no such thing."""

    def __init__(self) -> None:
        self._netlink = _open_netlink()
        self._sequence = count(1)
        # A kernel without unix_diag tries to load the module at every question, which takes milliseconds.
        self._silent: WeakSet[socket.socket] = WeakSet()

    def of(self, listener: socket.socket) -> Queue | None:
        """The queue of a TCP or unix listener; None when it is unknown."""
        if listener.family != socket.AF_UNIX:
            return _tcp_queue(listener)
        if self._netlink is None or listener in self._silent:
            return None
        return self._unix_queue(self._netlink, listener)

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _unix_queue(self, netlink: socket.socket, listener: socket.socket) -> Queue | None:
        sequence = next(self._sequence) & 0xFFFFFFFF
        try:
            netlink.send(question(os.fstat(listener.fileno()).st_ino, sequence))
            # The kernel answers before send(2) returns, so that nothing here can wait.
            while True:
                reply = netlink.recv(REPLY_ROOM, socket.MSG_DONTWAIT)
                if sequence_of(reply) == sequence:  # what came late for an earlier question is dropped
                    found = read_reply(reply)
                    break
        except (OSError, struct.error):
            return None
        if found is None:
            self._silent.add(listener)
        return found


# ── TCP: tcp_info, see tcp(7) ───────────────────────────────────────────────────────────────────────────────────────

# Of a listening socket the kernel gives the length of its queue as tcpi_unacked, and its limit as tcpi_sacked.
_TCP_INFO = struct.Struct("=B23xII")


def _tcp_queue(listener: socket.socket) -> Queue | None:
    try:
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        state, waiting, limit = _TCP_INFO.unpack(told)
    except (OSError, struct.error):  # not TCP, or a kernel that is not Linux's own
        return None
    return Queue(waiting, limit) if state == LISTENING else None


# ── unix: sock_diag(7) ──────────────────────────────────────────────────────────────────────────────────────────────

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
UDIAG_SHOW_RQLEN = 0x10
UNIX_DIAG_RQLEN = 4
ANY_COOKIE = 0xFFFFFFFF
REPLY_ROOM = 4096

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, pad, states, inode, show, cookie
_FOUND = struct.Struct("=BBBxIII")  # unix_diag_msg: family, type, state, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length with this head, type
_RQLEN = struct.Struct("=II")  # unix_diag_rqlen: of a listener its queue and limit, of others bytes


def question(inode: int, sequence: int) -> bytes:
    """The datagram that asks for the queue of one unix socket."""
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << LISTENING, inode, UDIAG_SHOW_RQLEN, ANY_COOKIE, ANY_COOKIE)
    return _HEADER.pack(_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, sequence, 0) + body


def sequence_of(reply: bytes) -> int:
    """Which question this answers."""
    return int(_HEADER.unpack_from(reply)[3])


def read_reply(reply: bytes) -> Queue | None:
    """What a reply says of a listener; None for NLMSG_ERROR (nobody knows the inode here), and for other sockets."""
    length, kind, *_ = _HEADER.unpack_from(reply)
    if kind != SOCK_DIAG_BY_FAMILY:
        return None
    _, _, state, *_ = _FOUND.unpack_from(reply, _HEADER.size)
    at, end = _HEADER.size + _FOUND.size, min(length, len(reply))
    while state == LISTENING and at + _ATTRIBUTE.size <= end:
        size, name = _ATTRIBUTE.unpack_from(reply, at)
        if name == UNIX_DIAG_RQLEN:
            return Queue(*_RQLEN.unpack_from(reply, at + _ATTRIBUTE.size))
        at += max(size + 3 & ~3, _ATTRIBUTE.size)
    return None


def _open_netlink() -> socket.socket | None:
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    except OSError:  # not in this kernel, or forbidden by a sandbox (systemd's RestrictAddressFamilies)
        return None
    try:
        made.connect((0, 0))  # the kernel
    except OSError:
        made.close()
        return None
    return made
