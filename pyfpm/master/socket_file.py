"""The file of a unix socket: bind it, own it, know it again, remove it.

Runs in: master, as root if it was started so; the folder may be a tenant's, who can put anything in its place.
Fails by: OSError; EADDRINUSE for a path that somebody serves, EEXIST for one where a file is.

So nothing is done to a path, and everything to the very inode that bind(2) made: it is held by O_PATH, compared, and
changed through /proc/self/fd.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from pyfpm.master.reach import ACL

if TYPE_CHECKING:
    from collections.abc import Iterator

_UCRED = struct.Struct("3i")


class SocketFile(NamedTuple):
    """What we have bound at `path`, known by its inode."""

    path: str
    device: int
    inode: int

    def own(self, *, mode: int | None = None, owner: int = -1, group: int = -1, acl: bytes | None = None) -> None:
        """Give it a mode, an owner and a list. OSError if somebody has put something else there."""
        with self._held() as handle:
            if mode is not None:
                with contextlib.suppress(OSError):
                    os.removexattr(handle, ACL)
                os.chmod(handle, mode)
            if (owner, group) != (-1, -1):
                os.chown(handle, owner, group)
            if acl is not None:
                os.setxattr(handle, ACL, acl)

    def remove(self) -> None:
        """Remove it, if it is still there; what somebody else has put in its place stays."""
        name = os.path.basename(self.path)
        with contextlib.suppress(OSError), _folder_of(self.path) as folder:
            if self._is(os.lstat(name, dir_fd=folder)):
                os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _held(self) -> Iterator[str]:
        descriptor = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not self._is(os.fstat(descriptor)):
                raise OSError(errno.ESTALE, "somebody has put something else in its place", self.path)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def _is(self, found: os.stat_result) -> bool:
        return stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == (self.device, self.inode)


def bind(made: socket.socket, path: str, mode: int) -> SocketFile:
    """Bind at `path`; a socket that nobody serves is replaced. OSError for one that is served, and for a file."""
    _clear_the_way(path, made.type)
    # The umask, not a later chmod: the socket must at no moment be open to more than its mode allows.
    before = os.umask(0o777 & ~mode)
    try:
        made.bind(path)
    finally:
        os.umask(before)
    found = os.lstat(path)
    # A moment has passed. What is not fresh and ours is a second name of somebody's socket, or no socket at all.
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        raise OSError(errno.ESTALE, "somebody has put something else in its place", path)
    return SocketFile(path, found.st_dev, found.st_ino)


def adopt(path: str) -> SocketFile | None:
    """The socket that is at `path` now, which an image before this one has bound there."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode):
            return SocketFile(path, found.st_dev, found.st_ino)
    return None


def _clear_the_way(path: str, kind: int) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket")
    if _is_served(path, kind):
        raise OSError(errno.EADDRINUSE, "another process listens there")
    SocketFile(path, found.st_dev, found.st_ino).remove()


def _is_served(path: str, kind: int) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # EAGAIN: its queue is full. EPROTOTYPE: a socket of another kind. EACCES: not for us to say
            return True
        # The credentials are those of the process that called listen(2). When that was a master that has been killed,
        # what answers is a worker of his that finishes its last request.
        owner, _, _ = _UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return owner == 0 or _is_alive(owner)  # 0: of another pid namespace


def _is_alive(pid: int) -> bool:
    """Not by /proc, where other users' processes may be hidden (hidepid, ProtectProc=)."""
    try:
        os.close(os.pidfd_open(pid))
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _folder_of(path: str) -> Iterator[int]:
    """The folder, held: between a look and an act nobody exchanges it."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
