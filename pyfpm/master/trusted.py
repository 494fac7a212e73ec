"""Whether a path leads where root put it: through nothing that somebody else could exchange.

Runs in: master; it only looks.
Fails by: PermissionError (EPERM) naming the first place that is not safe; OSError of what cannot be looked at.

A folder is safe if it belongs to root or to us, and nobody else may write in it. In a sticky one (/tmp) what is there
is safe if it belongs to root or to us, for then nobody else can rename or remove it; what is not there yet has to be
made with O_EXCL. A symbolic link is as safe as the folder that it is in.
"""

from __future__ import annotations

import errno
import grp
import os
import re
import stat
from collections import deque
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from pyfpm.master.reach import ACL, MOST_LINKS, parts

# Ubuntu's /var/log is root:syslog 0775. Who is the syslog daemon could have any log written where he likes, with us or
# without; no pool should be of that group.
_SYSTEM_GROUPS = ("root", "syslog")
_OPEN_FILES = re.compile(r"/proc/\d+(/task/\d+)?/fd")  # where links are descriptors and their text is no path


class Place(NamedTuple):
    """The end of a safe way: `path` has no symbolic link any more, but in /proc/PID/fd."""

    path: str
    found: os.stat_result | None  # None: nothing is there
    in_sticky: bool  # others make files in the same folder
    is_open_file: bool = False  # a descriptor of some process, which is not opened without being followed


def walk(path: str, uid: int) -> Place:
    """Where `path` leads, if that is safe for somebody who is `uid`; PermissionError if it is not."""
    here, links, pending = "/", 0, deque(parts(os.path.abspath(path)))
    while pending:
        folder = os.lstat(here)
        if not stat.S_ISDIR(folder.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), here)
        is_sticky = _judge_folder(here, folder, uid)
        part = pending.popleft()
        if part == "..":
            here = os.path.dirname(here)
            continue
        place = os.path.join(here, part)
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            if pending:
                raise
            return Place(place, None, is_sticky)
        if is_sticky and found.st_uid not in (0, uid):
            raise _untrusted(f"{place} belongs to uid {found.st_uid}, in a folder where everybody may write")
        if not stat.S_ISLNK(found.st_mode):
            here = place
            continue
        if _OPEN_FILES.fullmatch(here):
            return Place(place, os.stat(place), in_sticky=False, is_open_file=True)
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)
        target = os.readlink(place)
        here = "/" if target.startswith("/") else here
        pending.extendleft(reversed(parts(target)))
    return Place(here, os.lstat(here), is_sticky if here != "/" else False)


def fault(path: str, uid: int) -> str:
    """What is not safe about the way to `path`; "" if it is safe, or if there is another error, which opening shows."""
    try:
        walk(path, uid)
    except OSError as error:
        return (error.strerror or "") if is_untrusted(error) else ""
    return ""


def is_untrusted(error: OSError) -> bool:
    """Whether `walk` says that the way is not safe, and not the kernel that there is none."""
    return isinstance(error, PermissionError) and error.errno == errno.EPERM


def _untrusted(reason: str) -> PermissionError:
    return PermissionError(errno.EPERM, reason)


def _judge_folder(path: str, folder: os.stat_result, uid: int) -> bool:
    """Whether it is one that everybody may write in and nobody spoil (sticky); PermissionError for an unsafe one."""
    who = "root" if uid == 0 else f"root or uid {uid}"
    if folder.st_uid not in (0, uid):
        raise _untrusted(f"{path} belongs to uid {folder.st_uid}, not to {who}")
    if folder.st_mode & stat.S_IWOTH or (folder.st_mode & stat.S_IWGRP and not _is_own_group(path, folder, uid)):
        if folder.st_mode & stat.S_ISVTX:
            return True
        raise _untrusted(f"{path} can be written by others than {who} (mode 0{stat.S_IMODE(folder.st_mode):03o})")
    return False


def _is_own_group(path: str, folder: os.stat_result, uid: int) -> bool:
    with suppress(OSError):
        os.getxattr(path, ACL)
        return False  # the bits of the group stand for a list of users
    return folder.st_gid in _system_groups() or (uid != 0 and folder.st_gid == os.getegid())


@cache
def _system_groups() -> frozenset[int]:
    found = set()
    for name in _SYSTEM_GROUPS:
        with suppress(KeyError):
            found.add(grp.getgrnam(name).gr_gid)
    return frozenset(found)
