"""What must hold between directives, and between pools.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: returning problems; the caller raises them together with all others.
"""

from __future__ import annotations

from itertools import combinations
from posixpath import normpath
from typing import TYPE_CHECKING

from pyfpm.config.directive import name_of
from pyfpm.config.directives import GlobalSettings, PoolSettings
from pyfpm.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyfpm.config.values import Address

JSON_FORMAT = "json"


def problems_of(pools: Sequence[PoolSettings]) -> list[Problem]:
    """Everything that makes this configuration unusable although each value alone is right."""
    problems = [problem for pool in pools for problem in (*_two_interpreters(pool), *_constant_log_line(pool))]
    for first, second in combinations(pools, 2):
        problems.extend(_same_address(first, second))
    return problems


def problems_of_control(settings: GlobalSettings, pools: Sequence[PoolSettings]) -> list[Problem]:
    """A control socket where a pool listens. Where nobody asked for it, the master does without."""
    if not settings.is_set("control") or settings.control is None:
        return []
    path, name = normpath(settings.control), name_of(GlobalSettings, "control")
    return [
        Problem(settings.where("control"), name, f"the pool '{pool.name}' listens on {path}", "choose another path")
        for pool in pools
        if pool.is_set("listen") and pool.listen.kind == "unix" and normpath(pool.listen.path) == path
    ]


def warnings_of(pools: Sequence[PoolSettings]) -> list[str]:
    """Everything that is odd, and does not stop a start."""
    return [warning for pool in pools for warning in _ignored_owner(pool)]


def _two_interpreters(pool: PoolSettings) -> Iterator[Problem]:
    if pool.python and pool.virtualenv:
        python, virtualenv = _name("python"), _name("virtualenv")
        reason = f"cannot stand beside '{python}', set at {pool.where('python')}"
        yield Problem(pool.where("virtualenv"), virtualenv, reason, "leave one of the two out")


def _constant_log_line(pool: PoolSettings) -> Iterator[Problem]:
    text = pool.access_format
    if "%" not in text and text != JSON_FORMAT:
        reason = f"'{text}' has no % code, so every line would be the same"
        advice = f"did you mean '{JSON_FORMAT}'?" if text.lower() == JSON_FORMAT else ""
        yield Problem(pool.where("access_format"), _name("access_format"), reason, advice)


def _same_address(first: PoolSettings, second: PoolSettings) -> Iterator[Problem]:
    both_set = first.is_set("listen") and second.is_set("listen")
    if both_set and _overlap(first.listen, second.listen):
        reason = (
            f"[pool {second.name}] unable to set listen address as it's already used in another pool '{first.name}'"
        )
        advice = f"pool '{first.name}' listens on {first.listen.show()} by {first.where('listen')}"
        yield Problem(second.where("listen"), _name("listen"), reason, advice)


def _overlap(first: Address, second: Address) -> bool:
    if first.kind != second.kind:
        return False
    if first.kind == "unix":
        return normpath(first.path) == normpath(second.path)
    # Without a host a pool has the port on every interface, and nobody else can bind it on one of them.
    same_host = first.host.lower() == second.host.lower() or not first.host or not second.host
    return first.port == second.port and same_host


def _ignored_owner(pool: PoolSettings) -> Iterator[str]:
    if pool.listen_acl_users or pool.listen_acl_groups:
        for attribute in ("listen_owner", "listen_group"):
            if value := getattr(pool, attribute):
                yield f"[pool {pool.name}] ACL set, {_name(attribute)} = '{value}' is ignored"


def _name(attribute: str) -> str:
    return name_of(PoolSettings, attribute)
