"""Files that the master opens for a pool, in folders that may be the tenant's.

Runs in: master, as root.
Fails by: OSError, as open(2) does.

A tenant who owns the folder can put a symbolic link in the place of the file, to /etc/passwd. So root's rights are used
only where nobody but root could have put anything: every folder on the way is root's and nobody else may write to it.
Anywhere else the file is opened with the rights of the pool's user, who gains nothing by tricks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyfpm.logs.files import FLAGS, MODE
from pyfpm.master.accounts import identity_of
from pyfpm.master.privileges import acting_as

if TYPE_CHECKING:
    from pyfpm.config.directives import PoolSettings
    from pyfpm.master.accounts import Identity


def open_pool_file(settings: PoolSettings) -> Callable[[str], int] | None:
    """How to open a log of this pool, for `LogFile`; None for as any other, where the master is not root."""
    identity = identity_of(settings)
    return None if identity is None else lambda path: _open_for(identity, path)


def _open_for(identity: Identity, path: str) -> int:
    folder, name = os.path.split(os.path.abspath(path))
    folder = os.path.realpath(folder)
    whole = os.path.join(folder, name)
    if not _is_roots(folder):
        try:
            with acting_as(identity):
                return _open_regular(whole, FLAGS)
        except PermissionError as error:
            reason = f"{error.strerror} for the pool's user, as whom it is opened where others than root can write"
            raise PermissionError(error.errno, reason, path) from error
    try:
        descriptor = _open_regular(whole, FLAGS | os.O_EXCL)
    except FileExistsError:
        return _open_regular(whole, FLAGS)  # whoever made it, logrotate most often, has said whose it is
    os.fchown(descriptor, identity.uid, identity.gid)
    return descriptor


def _open_regular(path: str, flags: int) -> int:
    """A pipe or a device could make the master wait for the tenant; a link could lead anywhere."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW, MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return descriptor


def _is_roots(folder: str) -> bool:
    """Whether only root can put anything here, or something else in the place of a folder on the way from `/`.

    `folder` has no links in it. On the way a sticky folder such as /tmp will do: what is root's in it stays there.
    """
    on_the_way = 0
    while True:
        status = os.stat(folder)
        if status.st_uid != 0 or (status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & on_the_way):
            return False
        if folder == "/":
            return True
        folder, on_the_way = os.path.dirname(folder), stat.S_ISVTX
