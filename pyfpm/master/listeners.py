"""The sockets of the pools: bind, inherit, give to an owner, take away.

Runs in: master, as root if it was started so.
Fails by: StartError naming the address and the reason.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from pyfpm import catalogue
from pyfpm.config.directives import PoolSettings
from pyfpm.config.values import Address
from pyfpm.errors import StartError
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master import socket_file
from pyfpm.master.accounts import gid_of, primary_group_of, uid_of
from pyfpm.master.socket_file import SocketFile

FIRST_INHERITED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
KERNEL_MAXIMUM = 65535  # listen(2) cuts it to net.core.somaxconn; CPython would read -1 as 0
BIND_TRIES = 20  # workers of a killed master drop its listener within moments; nginx tries five times, too
BIND_PAUSE = 0.05


@dataclass
class Listener:
    """A listening socket, and the file that it may have, which is ours to change and to remove unless inherited."""

    socket: socket.socket
    address: Address
    inherited: bool = False
    file: SocketFile | None = None

    def close(self) -> None:
        """Close it; a unix socket's file goes with it, unless somebody else made it or has replaced it."""
        if self.file is not None and not self.inherited:
            self.file.remove()
        self.socket.close()


def take_inherited(environ: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets that systemd or another parent hands over (LISTEN_FDS), if they are meant for `pid`.

    The variables are removed, so that nobody below us takes them for his own.
    """
    meant_for, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant_for != str(pid) or not count.isdecimal():
        return []
    taken = []
    for descriptor in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        with contextlib.suppress(OSError):  # not a socket, or not open at all
            os.set_inheritable(descriptor, False)
            taken.append(socket.socket(fileno=descriptor))
    return taken


def open_listener(
    settings: PoolSettings, inherited: list[socket.socket], log: ErrorLog, *, patient: bool = True
) -> Listener:
    """The listener of a pool: an inherited socket with the same address, or a new one.

    `patient`: wait a second for an address that is in use. Only at a start: a running master must not stand still.
    """
    for candidate in inherited:
        if _is_at(candidate, settings.listen):
            inherited.remove(candidate)
            candidate.setblocking(True)
            log.notice(f'using inherited socket fd={candidate.fileno()}, "{settings.listen.show()}"')
            return Listener(candidate, settings.listen, inherited=True)
    try:
        if settings.listen.kind == "unix":
            return _listen_unix(settings)
        made = _bind_tcp(settings.listen, log, patient)
        made.listen(_backlog_of(settings))
    except OSError as error:
        raise StartError(
            catalogue.CANNOT_BIND,
            f"unable to bind listening socket for address '{settings.listen.show()}': {error.strerror} ({error.errno})",
        ) from error
    return Listener(made, settings.listen)


def apply_ownership(listener: Listener, settings: PoolSettings) -> str:
    """Owner, mode, ACL and backlog once more, after a reload may have changed them; what went wrong, or ""."""
    if listener.inherited:
        return ""  # whoever made it has the say
    try:
        listener.socket.listen(_backlog_of(settings))
        if listener.file is not None:
            _give_to_owner(listener.file, settings, mode=settings.listen_mode)
    except (OSError, StartError) as error:
        return f"cannot apply owner, mode and backlog to {listener.address.show()}: {error}"
    return ""


def close_strangers(inherited: Iterable[socket.socket], log: ErrorLog) -> None:
    """Close what was handed over and belongs to no pool: an open socket that nobody accepts from hangs its clients."""
    for stranger in inherited:
        text = f"inherited socket fd={stranger.fileno()} at {stranger.getsockname()!r} belongs to no pool: closed"
        log.warning(catalogue.STRANGE_SOCKET, text)
        stranger.close()


def _backlog_of(settings: PoolSettings) -> int:
    return KERNEL_MAXIMUM if settings.listen_backlog < 0 else settings.listen_backlog


def _is_at(candidate: socket.socket, address: Address) -> bool:
    name = candidate.getsockname()
    if address.kind == "unix":
        return candidate.family == socket.AF_UNIX and name == address.path
    if candidate.family not in (socket.AF_INET, socket.AF_INET6) or name[1] != address.port:
        return False
    if not address.host:
        return name[0] in ("::", "0.0.0.0")
    return any(name[0] == known[0] for _, known in _resolve(address))


# ── unix ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _listen_unix(settings: PoolSettings) -> Listener:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        file = _bind_unix(made, settings.listen.path, settings.listen_mode)
        undo.callback(file.remove)
        _give_to_owner(file, settings)
        made.listen(_backlog_of(settings))
        undo.pop_all()
    return Listener(made, settings.listen, file=file)


def _bind_unix(made: socket.socket, path: str, mode: int) -> SocketFile:
    try:
        return socket_file.bind(made, path, mode)
    except FileExistsError:
        reason = f"{path} exists and is not a socket: remove it, or choose another path to listen on"
        raise StartError(catalogue.BAD_SOCKET_PATH, reason) from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        text = f"Another pyfpm instance seems to already listen on {path}"
        raise StartError(catalogue.ADDRESS_IN_USE, text) from None


def _give_to_owner(file: SocketFile, settings: PoolSettings, mode: int | None = None) -> None:
    if settings.listen_acl_users or settings.listen_acl_groups:
        file.own(mode=mode, acl=_acl_of(settings))
        return
    owner = uid_of(settings.listen_owner) if settings.listen_owner else -1
    group = -1
    if settings.listen_group:
        group = gid_of(settings.listen_group)
    elif settings.listen_owner:
        group = primary_group_of(settings.listen_owner)
    file.own(mode=mode, owner=owner, group=group)


_ACL_HEADER = struct.Struct("<I")  # version 2, linux/posix_acl_xattr.h
_ACL_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_READ_WRITE = 6
_NO_ID = 0xFFFFFFFF


def _acl_of(settings: PoolSettings) -> bytes:
    """A list, as acl(5) has it: the ACL users and groups read and write, the classes of the mode stay as they are."""
    mode = settings.listen_mode
    entries = [(_USER_OBJ, mode >> 6 & 7, _NO_ID)]
    entries += sorted((_USER, _READ_WRITE, uid_of(name)) for name in settings.listen_acl_users)
    entries.append((_GROUP_OBJ, mode >> 3 & 7, _NO_ID))
    entries += sorted((_GROUP, _READ_WRITE, gid_of(name)) for name in settings.listen_acl_groups)
    entries += [(_MASK, _READ_WRITE | mode >> 3 & 7, _NO_ID), (_OTHER, mode & 7, _NO_ID)]
    return _ACL_HEADER.pack(2) + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


# ── TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _resolve(address: Address) -> list[tuple[int, tuple[Any, ...]]]:
    """(family, socket address) of everything that the host's name stands for."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [(family, name) for family, _, _, _, name in found]
    except socket.gaierror as error:
        text = f"cannot resolve '{address.host}' of '{address.show()}': {error.strerror}"
        raise StartError(catalogue.CANNOT_RESOLVE, text) from error


def _bind_tcp(address: Address, log: ErrorLog, patient: bool) -> socket.socket:
    if not address.host:
        try:
            return _bind_one(socket.AF_INET6, ("::", address.port), patient, dual_stack=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            log.notice("Failed implicitly binding to ::, retrying with 0.0.0.0")
            return _bind_one(socket.AF_INET, ("0.0.0.0", address.port), patient)
    found = _resolve(address)
    for _, other in found[1:]:
        text = f"Found multiple addresses for {address.host}, {other[0]} ignored"
        log.warning(catalogue.SEVERAL_ADDRESSES, text)
    return _bind_one(*found[0], patient)


def _bind_one(family: int, name: tuple[Any, ...], patient: bool, *, dual_stack: bool = False) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack))
        _bind(made, name, BIND_TRIES if patient else 1)
    except OSError:
        made.close()
        raise
    return made


def _bind(made: socket.socket, name: tuple[Any, ...], tries: int) -> None:
    for left in range(tries - 1, -1, -1):
        try:
            made.bind(name)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not left:
                raise
        time.sleep(BIND_PAUSE)
