"""The front server's way to a unix socket: can those it is meant for enter the folders above it?

Runs in: master, as root; nobody else can give a socket away.
Fails by: StartError for a user or group that does not exist; the caller has looked before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyfpm.config.directive import name_of
from pyfpm.config.directives import PoolSettings
from pyfpm.master.accounts import Identity, gid_of, primary_group_of, uid_of
from pyfpm.master.reach import Need, obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY = 2**32 - 1  # an id that no account has: (uid_t) -1
_FOR_OTHERS, _FOR_GROUP = 0o002, 0o020  # connect(2) asks for the right to write


def fault(pool: PoolSettings) -> str:
    """Why nobody but root could connect, though the settings are meant for others; "" when somebody can."""
    ways = _ways(pool)
    return ways[0] if ways and all(ways) else ""


def notices(pool: PoolSettings) -> list[str]:
    """Those among several who cannot connect, or that the settings let nobody connect."""
    if pool.listen.kind != "unix":
        return []
    ways = _ways(pool)
    if not ways:
        owner, users = name_of(PoolSettings, "listen_owner"), name_of(PoolSettings, "listen_acl_users")
        return [
            f"only root can connect to {pool.listen.path}: neither {owner} nor {users} names the front server's user; "
            f"write {owner} = www-data, or whoever it runs as"
        ]
    return [way for way in ways if way] if not all(ways) else []


def _ways(pool: PoolSettings) -> list[str]:
    """For each one that the socket is meant for: what stops him, or ""."""
    if pool.listen.kind != "unix":
        return []
    folder = os.path.dirname(pool.listen.path)
    if not os.path.isdir(folder):
        return []  # said elsewhere
    return [
        f"the socket is out of reach: {found}" if found else ""
        for found in (obstacle(folder, who, label, Need.ENTER) for who, label in _visitors(pool))
    ]


def _visitors(pool: PoolSettings) -> Iterator[tuple[Identity, str]]:
    """Whom owner, group, access list and mode let in, beside root."""
    if pool.listen_mode & _FOR_OTHERS:
        yield Identity(_NOBODY, _NOBODY, ()), "others"
    users, groups = pool.listen_acl_users, pool.listen_acl_groups
    if not users and not groups:
        users = (pool.listen_owner,) if pool.listen_owner else ()
        groups = (pool.listen_group,) if pool.listen_group and pool.listen_mode & _FOR_GROUP else ()
    for name in users:
        if uid_of(name) != 0:
            yield _user(name), f"user '{name}'"
    for name in groups:
        if gid_of(name) != 0:
            yield Identity(_NOBODY, gid_of(name), ()), f"group '{name}'"


def _user(name: str) -> Identity:
    gid = primary_group_of(name)
    groups = () if name.isdecimal() else tuple(os.getgrouplist(name, gid))
    return Identity(uid_of(name), gid, groups, name)
