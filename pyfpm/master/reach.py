"""Whether a user can get to a path, and if not, what stops him first.

Runs in: master, as root or not; it only looks, it becomes nobody.
Fails by: nothing; what cannot be looked at is an obstacle itself.
"""

from __future__ import annotations

import os
import pwd
import stat
import struct
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfpm.master.accounts import Identity

MOST_LINKS = 40  # as many as the kernel follows
_READ, _WRITE, _EXECUTE = 4, 2, 1

# An access control list as the kernel keeps it: acl(5), linux/posix_acl_xattr.h.
ACL = "system.posix_acl_access"
_ACL_ENTRY = struct.Struct("<HHI")
_USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x02, 0x04, 0x08, 0x10, 0x20


class Need(Enum):
    """What is to be done with the thing at the end of the way: the permission, and the word for it."""

    ENTER = (_EXECUTE, "entered")
    IMPORT = (_READ | _EXECUTE, "read")
    RUN = (_EXECUTE, "executed")
    WRITE = (_WRITE, "written")
    CREATE = (_WRITE | _EXECUTE, "written")  # a file in this folder


def obstacle(path: str, who: Identity, label: str, need: Need, *, root: str = "/") -> str:
    """Why `who` cannot get to `path` inside `root`, naming the first thing that stops him; "" when nothing does."""
    try:
        for place, found, is_last in _way(path, root):
            bits, word = need.value if is_last else Need.ENTER.value
            if need is Need.IMPORT and is_last and not stat.S_ISDIR(found.st_mode):
                bits = _READ
            if not _allows(place, found, who, bits):
                return f"{_describe(place, found)} cannot be {word} by {label}"
    except OSError as error:
        return f"{error.filename or path}: {error.strerror}"
    return ""


def _way(path: str, root: str) -> Iterator[tuple[str, os.stat_result, bool]]:
    """Every folder from `root` to `path` and the thing at its end, through symbolic links as the kernel goes."""
    here, links, pending = root, 0, deque(parts(path))
    yield here, os.stat(here), not pending
    while pending:
        part = pending.popleft()
        if part == "..":
            here = os.path.dirname(here) if here != root else root
            continue
        place = os.path.join(here, part)
        found = os.lstat(place)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MOST_LINKS:
                raise OSError(0, "too many symbolic links", place)
            target = os.readlink(place)
            here = root if target.startswith("/") else here
            pending.extendleft(reversed(parts(target)))
            continue
        if pending and not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(0, "is not a directory", place)
        here = place
        yield place, found, not pending


def parts(path: str) -> list[str]:
    """The names that lead there, one after the other."""
    return [part for part in path.split("/") if part not in ("", ".")]


def _allows(place: str, found: os.stat_result, who: Identity, bits: int) -> bool:
    if who.uid == 0:
        # Root passes everywhere, but executes only what somebody may execute.
        return bits != _EXECUTE or stat.S_ISDIR(found.st_mode) or bool(found.st_mode & 0o111)
    if who.uid == found.st_uid:
        return _covers(found.st_mode >> 6, bits)
    try:
        return _allowed_by_acl(os.getxattr(place, ACL), found, who, bits)
    except OSError:  # there is no list
        shift = 3 if _is_member(who, found.st_gid) else 0
        return _covers(found.st_mode >> shift, bits)


def _allowed_by_acl(acl: bytes, found: os.stat_result, who: Identity, bits: int) -> bool:
    """The order of acl(5): the named user, then any group that grants it, then all others."""
    entries = list(_ACL_ENTRY.iter_unpack(acl[4:]))
    mask = next((granted for tag, granted, _ in entries if tag == _MASK), 7)
    for tag, granted, owner in entries:
        if tag == _USER and owner == who.uid:
            return _covers(granted & mask, bits)
    of_groups = [
        granted & mask
        for tag, granted, owner in entries
        if (tag == _GROUP and _is_member(who, owner)) or (tag == _GROUP_OBJ and _is_member(who, found.st_gid))
    ]
    if of_groups:
        return any(_covers(granted, bits) for granted in of_groups)
    return any(_covers(granted, bits) for tag, granted, _ in entries if tag == _OTHER)


def _covers(granted: int, bits: int) -> bool:
    return granted & bits == bits


def _is_member(who: Identity, gid: int) -> bool:
    return gid == who.gid or gid in who.groups


def _describe(place: str, found: os.stat_result) -> str:
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return f"{place} (mode 0{stat.S_IMODE(found.st_mode):03o}, owner {owner})"
