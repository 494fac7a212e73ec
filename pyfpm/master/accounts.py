"""Users and groups by name or number.

Runs in: master.
Fails by: StartError in PHP-FPM's words for a name that does not exist.
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from pyfpm import catalogue
from pyfpm.config.directives import PoolSettings
from pyfpm.errors import StartError


class Identity(NamedTuple):
    """Whom a pool's processes run as. `name` and `home` are empty for a user given by number."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str = ""
    home: str = ""


def uid_of(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise StartError(catalogue.UNKNOWN_ACCOUNT, f"cannot get uid for user '{user}'") from None


def gid_of(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise StartError(catalogue.UNKNOWN_ACCOUNT, f"cannot get gid for group '{group}'") from None


def primary_group_of(user: str) -> int:
    """The primary group of a user; a number without an account is its own group, as useradd(8) makes them."""
    uid = uid_of(user)
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def identity_of(settings: PoolSettings) -> Identity | None:
    """Whom the pool runs as; None where nobody can be chosen, because the master is not root.

    A user given by name brings its supplementary groups, one given by number brings none: they are set in either case,
    so that none of root's are kept.
    """
    if os.geteuid() != 0 or settings.user is None:
        return None
    uid = uid_of(settings.user)
    gid = gid_of(settings.group) if settings.group else primary_group_of(settings.user)
    if settings.user.isdecimal():
        return Identity(uid, gid, (gid,))
    try:
        home = pwd.getpwnam(settings.user).pw_dir
    except KeyError:  # deleted a moment ago
        raise StartError(catalogue.UNKNOWN_ACCOUNT, f"cannot get uid for user '{settings.user}'") from None
    return Identity(uid, gid, tuple(os.getgrouplist(settings.user, gid)), settings.user, home)
