"""Open log files: the master's own, and those of pools, which may lie in folders of their tenants.

Runs in: master, as root; for a path that a tenant could bend, in a child that has become the pool's user.
Fails by: OSError with the reason.

A descriptor that root has opened is root's permission, and an access log's goes to the pool's workers. So root opens
only what nobody but root can exchange (see trusted.py). What a tenant can exchange is opened as the pool's user: then
it is something that he may write anyway. Where it is the master who writes, that is not enough: see mounts.py.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
from functools import partial
from typing import TYPE_CHECKING

from pyfpm.config.values import SYSLOG
from pyfpm.errors import StartError
from pyfpm.fork import fork_child
from pyfpm.logs.files import FLAGS, LogFile
from pyfpm.logs.syslog import Syslog
from pyfpm.master import mounts, trusted
from pyfpm.master.accounts import identity_of
from pyfpm.master.privileges import change_user

if TYPE_CHECKING:
    from pyfpm.config.directives import PoolSettings
    from pyfpm.logs.error_log import Sink
    from pyfpm.master.accounts import Identity

OPEN_TIMEOUT = 1.0  # seconds; a tenant can stop what runs as him, and the master waits for it
_LONGEST_REASON = 1000


def open_error_log(path: str | None) -> Sink:
    """The master's log: what `error_log` names, None for standard error."""
    return Syslog() if path == SYSLOG else _open_masters(path)


def open_slow_log(path: str) -> LogFile:
    """Opened for each entry, at moments that a tenant can choose: so nowhere where the master would wait for him."""
    return _open_masters(path)


def open_access_log(path: str, settings: PoolSettings) -> LogFile:
    """The access log of a pool."""
    identity = identity_of(settings)
    return LogFile(path, opener=_open_plainly if identity is None else partial(_open_workers, identity))


def open_pool_log(path: str, settings: PoolSettings) -> LogFile:
    """The error log of a pool. A new file belongs to the pool's user."""
    identity = identity_of(settings)
    return LogFile(path, opener=_open_plainly if identity is None else partial(_open_own, identity))


def is_tenants(path: str) -> bool:
    """Whether it is not root's alone: somebody else can exchange what is at `path`, or owns it."""
    if os.geteuid() != 0:
        return False
    try:
        found = trusted.walk(path, 0).found
    except OSError as error:
        return trusted.is_untrusted(error)
    return found is not None and found.st_uid != 0


def _open_masters(path: str | None) -> LogFile:
    """A plain user can open nothing that is not his, so only root has to be careful."""
    return LogFile(path, opener=_open_plainly if os.geteuid() else _open_trusted)


def _open_own(identity: Identity, path: str, mode: int) -> int:
    """It is the master who writes it: a FIFO could make him wait for the tenant, and /proc would obey him."""
    is_trusted, descriptor = _open_for(identity, path, mode, owner=identity)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        if not is_trusted:
            mounts.check_local(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open_workers(identity: Identity, path: str, mode: int) -> int:
    """What is written with the rights of the pool's user, by his workers."""
    return _open_for(identity, path, mode)[1]


def _open_for(identity: Identity, path: str, mode: int, owner: Identity | None = None) -> tuple[bool, int]:
    """Whether it is root's alone, and its descriptor."""
    try:
        return True, _open_trusted(path, mode, owner)
    except PermissionError as error:
        if identity.uid == 0 or not trusted.is_untrusted(error):
            raise
    return False, _open_as(identity, path, mode)


def _open_plainly(path: str, mode: int) -> int:
    return _checked(os.open(path, FLAGS, mode), path)


def _open_trusted(path: str, mode: int, owner: Identity | None = None) -> int:
    """`owner` is to have the file if it is new."""
    place = trusted.walk(path, os.geteuid())
    flags = FLAGS
    if not place.is_open_file:
        flags |= os.O_NOFOLLOW
        if place.in_sticky:
            # What has appeared in the meantime was made by somebody else; what is gone is not made by following a link.
            flags = flags & ~os.O_CREAT if place.found else flags | os.O_EXCL
    descriptor = _checked(os.open(place.path, flags, mode), path)
    found = os.fstat(descriptor)
    # A second name of a file is how somebody gets it into a folder where he may write.
    if stat.S_ISREG(found.st_mode) and found.st_nlink != 1 and not place.is_open_file:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, f"it has {found.st_nlink} names (hard links)")
    if place.in_sticky and found.st_uid not in (0, os.geteuid()):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, f"it belongs to uid {found.st_uid}")
    if owner is not None and place.found is None:
        os.fchown(descriptor, owner.uid, owner.gid)
    return descriptor


def _checked(descriptor: int, path: str) -> int:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is neither a file nor a FIFO nor a terminal", path)


# ── as the pool's user ──────────────────────────────────────────────────────────────────────────────────────────────


def _open_as(identity: Identity, path: str, mode: int) -> int:
    """What `identity` gets when it opens `path`: a child becomes that user and sends the descriptor back."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            pid = fork_child(partial(_send_opened, identity, path, mode, theirs))
        pidfd = os.pidfd_open(pid)
        try:
            return _receive_opened(ours, identity)
        finally:
            _end(pid, pidfd)
            os.close(pidfd)


def _send_opened(identity: Identity, path: str, mode: int, channel: socket.socket) -> None:
    """In the child, from root to the pool's user. It is not dumpable then: the tenant cannot look into it."""
    try:
        change_user(identity)
        socket.send_fds(channel, [b"+"], [_open_plainly(path, mode)])
    except OSError as error:
        channel.send(f"{error.errno} {error.strerror}".encode()[:_LONGEST_REASON])
    except StartError as error:
        channel.send(f"{errno.EPERM} {error}".encode()[:_LONGEST_REASON])


def _receive_opened(channel: socket.socket, identity: Identity) -> int:
    label = identity.name or f"uid {identity.uid}"
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(OPEN_TIMEOUT * 1000):
        raise TimeoutError(errno.ETIMEDOUT, f"{label} did not open it within {OPEN_TIMEOUT:.0f} s")
    said, descriptors, _, _ = socket.recv_fds(channel, _LONGEST_REASON, 1, socket.MSG_CMSG_CLOEXEC)
    if descriptors:
        return descriptors[0]
    number, _, reason = said.decode("utf-8", "replace").partition(" ")
    raise OSError(int(number) if number.isdecimal() else errno.EIO, f"{reason or 'no answer'}, as {label}")


def _end(pid: int, pidfd: int) -> None:
    """It has answered, or never will. One that does not even die is left to the master's ordinary reaping."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    if poll.poll(OPEN_TIMEOUT * 1000):
        os.waitpid(pid, 0)
