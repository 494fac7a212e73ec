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
from typing import Any, NamedTuple

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


class Terms(NamedTuple):
    """Who may connect to a unix socket, and how many may wait at any."""

    owner: str | None = None
    group: str | None = None
    mode: int = 0o660
    acl_users: tuple[str, ...] = ()
    acl_groups: tuple[str, ...] = ()
    backlog: int = -1

    @classmethod
    def of(cls, pool: PoolSettings) -> Terms:
        """Those of a pool, for whatever it listens on."""
        return cls(
            pool.listen_owner,
            pool.listen_group,
            pool.listen_mode,
            pool.listen_acl_users,
            pool.listen_acl_groups,
            pool.listen_backlog,
        )


@dataclass(eq=False)
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
            self.file = None  # whoever binds there next may get its inode
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


def give_back(listener: Listener, inherited: list[socket.socket]) -> None:
    """What came of the listener came to nothing; another may take it over, if we were handed it."""
    if listener.inherited:
        inherited.append(listener.socket)
    else:
        listener.close()


def open_listener(
    address: Address, terms: Terms, inherited: list[socket.socket], log: ErrorLog, *, patient: bool = True
) -> Listener:
    """The listener at an address: an inherited socket that is there already, or a new one.

    `patient`: wait a second for an address that is in use. Only at a start: a running master must not stand still.
    """
    for candidate in inherited:
        if _is_at(candidate, address):
            inherited.remove(candidate)
            candidate.setblocking(True)
            log.notice(f'using inherited socket fd={candidate.fileno()}, "{address.show()}"')
            return Listener(candidate, address, inherited=True)
    try:
        if address.kind == "unix":
            return _listen_unix(address, terms)
        made = _bind_tcp(address, log, patient)
        made.listen(_backlog_of(terms))
    except OSError as error:
        raise _cannot_bind(address, error) from error
    return Listener(made, address)


def _cannot_bind(address: Address, error: OSError) -> StartError:
    text = f"unable to bind listening socket for address '{address.show()}': {error.strerror} ({error.errno})"
    return StartError(catalogue.CANNOT_BIND, text)


def apply_ownership(listener: Listener, terms: Terms) -> str:
    """Owner, mode, ACL and backlog once more, after a reload may have changed them; what went wrong, or ""."""
    if listener.inherited:
        return ""  # whoever made it has the say
    try:
        listener.socket.listen(_backlog_of(terms))
        if listener.file is not None:
            _give_to_owner(listener.file, terms, mode=terms.mode)
    except (OSError, StartError) as error:
        return f"cannot apply owner, mode and backlog to {listener.address.show()}: {error}"
    return ""


def close_strangers(inherited: Iterable[socket.socket], log: ErrorLog) -> None:
    """Close what was handed over and belongs to no pool: an open socket that nobody accepts from hangs its clients."""
    for stranger in inherited:
        text = f"inherited socket fd={stranger.fileno()} at {stranger.getsockname()!r} belongs to no pool: closed"
        log.warning(catalogue.STRANGE_SOCKET, text)
        stranger.close()


def _backlog_of(terms: Terms) -> int:
    return KERNEL_MAXIMUM if terms.backlog < 0 else terms.backlog


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


def _listen_unix(address: Address, terms: Terms) -> Listener:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        file = _bind_unix(made, address.path, terms.mode)
        undo.callback(file.remove)
        _give_to_owner(file, terms)
        made.listen(_backlog_of(terms))
        undo.pop_all()
    return Listener(made, address, file=file)


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


def _give_to_owner(file: SocketFile, terms: Terms, mode: int | None = None) -> None:
    if terms.acl_users or terms.acl_groups:
        file.own(mode=mode, acl=_acl_of(terms))
        return
    owner = uid_of(terms.owner) if terms.owner else -1
    group = -1
    if terms.group:
        group = gid_of(terms.group)
    elif terms.owner:
        group = primary_group_of(terms.owner)
    file.own(mode=mode, owner=owner, group=group)


_ACL_HEADER = struct.Struct("<I")  # version 2, linux/posix_acl_xattr.h
_ACL_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_READ_WRITE = 6
_NO_ID = 0xFFFFFFFF


def _acl_of(terms: Terms) -> bytes:
    """A list, as acl(5) has it: the ACL users and groups read and write, the classes of the mode stay as they are."""
    mode = terms.mode
    entries = [(_USER_OBJ, mode >> 6 & 7, _NO_ID)]
    entries += sorted((_USER, _READ_WRITE, uid_of(name)) for name in terms.acl_users)
    entries.append((_GROUP_OBJ, mode >> 3 & 7, _NO_ID))
    entries += sorted((_GROUP, _READ_WRITE, gid_of(name)) for name in terms.acl_groups)
    entries += [(_MASK, _READ_WRITE | mode >> 3 & 7, _NO_ID), (_OTHER, mode & 7, _NO_ID)]
    return _ACL_HEADER.pack(2) + b"".join(_ACL_ENTRY.pack(*entry) for entry in entries)


# ── TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _resolve(address: Address) -> list[tuple[int, tuple[Any, ...]]]:
    """(family, socket address) of everything that the host's name stands for."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [(family, name) for family, _, _, _, name in found]
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: what cannot be a name at all
        reason = error.strerror if isinstance(error, OSError) else error
        text = f"cannot resolve '{address.host}' of '{address.show()}': {reason}"
        raise StartError(catalogue.CANNOT_RESOLVE, text) from error


def hosts_of(address: Address) -> frozenset[str]:
    """The numbers of all that the host's name stands for; none if it stands for nothing."""
    try:
        return frozenset(name[0] for _, name in _resolve(address))
    except StartError:
        return frozenset()


def try_host(address: Address) -> None:
    """StartError if nobody could listen at this host on this machine. The port is left alone."""
    if address.host:
        family, name = _resolve(address)[0]
        try:
            _bind_one(family, (name[0], 0, *name[2:]), patient=False).close()
        except OSError as error:
            raise _cannot_bind(address, error) from error


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
