"""What the master will make, in one table: files and sockets. And which of them would get in each other's way.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: returning problems. What a file alone cannot tell (links, names of hosts) is for master/places.py, which looks
at the same table.
"""

from __future__ import annotations

from collections import defaultdict
from enum import Enum, auto
from posixpath import normpath
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import catalogue
from pyfpm.config.directive import name_of
from pyfpm.config.directives import PoolSettings
from pyfpm.config.values import NOWHERE, SYSLOG
from pyfpm.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.config.directive import Settings
    from pyfpm.config.directives import GlobalSettings, Remark
    from pyfpm.config.values import Address


class Use(Enum):
    """What something is made for."""

    PID_FILE = auto()
    MASTERS_LOG = auto()  # the master opens it as himself
    POOLS_LOG = auto()  # as the pool's user, where it is his; and writes it himself
    WORKERS_LOG = auto()  # the same, and workers write it
    CONTROL = auto()
    LISTENER = auto()

    @property
    def is_log(self) -> bool:
        return self in (Use.MASTERS_LOG, Use.POOLS_LOG, Use.WORKERS_LOG)

    @property
    def is_file(self) -> bool:
        return self.is_log or self is Use.PID_FILE


class Claim(NamedTuple):
    """One thing to be made, at a path or at a TCP address, and the directive that says so."""

    settings: Settings
    attribute: str
    use: Use
    path: str = ""
    tcp: Address | None = None
    hosts: frozenset[str] = frozenset()  # what the host of `tcp` is known by; empty for every interface

    @property
    def name(self) -> str:
        return name_of(type(self.settings), self.attribute)

    def __str__(self) -> str:
        of_whom = f" of pool '{self.owner}'" if self.owner else ""
        return f"{self.name}{of_whom} ({self.settings.where(self.attribute)})"

    @property
    def owner(self) -> str:
        """The pool's name, "" for the daemon's own."""
        return self.settings.name if isinstance(self.settings, PoolSettings) else ""

    def meets(self, other: Claim) -> bool:
        """Whether both cannot be had. Logs may share a file."""
        if self.path or other.path:
            return normpath(self.path) == normpath(other.path) and not (self.use.is_log and other.use.is_log)
        assert self.tcp is not None
        assert other.tcp is not None
        # Without a host a pool has the port on every interface, and nobody else can bind it on one of them.
        same_host = not self.hosts or not other.hosts or bool(self.hosts & other.hosts)
        return self.tcp.port == other.tcp.port and same_host


def claims_of_pool(pool: PoolSettings) -> list[Claim]:
    return [
        *_listener(pool, "listen"),
        *_listener(pool, "pm_status_listen"),
        *_path(pool, "access_log", Use.WORKERS_LOG, pool.access_log),
        *_path(pool, "error_log", Use.POOLS_LOG, pool.error_log),
        *_path(pool, "slowlog", Use.MASTERS_LOG, pool.slowlog),
    ]


def claims_of_daemon(settings: GlobalSettings) -> list[Claim]:
    return [
        *_listener(settings, "status_listen"),
        *(_control(settings) if settings.is_set("control") else ()),
        *_path(settings, "pid", Use.PID_FILE, settings.pid),
        *_path(settings, "error_log", Use.MASTERS_LOG, None if settings.error_log == SYSLOG else settings.error_log),
    ]


def collisions(claims: Iterable[Claim]) -> list[Problem]:
    """What of these cannot be made beside each other. Each problem is at the later one."""
    problems = []
    earlier: dict[object, list[Claim]] = defaultdict(list)
    for claim in claims:
        there = earlier[normpath(claim.path) if claim.path else claim.tcp and claim.tcp.port]
        problems += [_collision(other, claim) for other in there if other.meets(claim)]
        there.append(claim)
    return problems


def warnings_of_control(settings: GlobalSettings, claims: Iterable[Claim]) -> list[Remark]:
    """One that nobody has asked for is no reason to refuse a start: the master does without."""
    if settings.is_set("control"):
        return []
    rivals = [(control, claim) for control in _control(settings) for claim in claims if claim.meets(control)]
    return [
        (catalogue.NO_CONTROL_SOCKET, f"no control socket ({control.path}): {claim} is there; signals work as ever")
        for control, claim in rivals
    ]


def _control(settings: GlobalSettings) -> list[Claim]:
    return _path(settings, "control", Use.CONTROL, None if settings.control == NOWHERE else settings.control)


def _listener(settings: Settings, attribute: str) -> list[Claim]:
    address: Address | None = getattr(settings, attribute)
    # Where the address of a pool is missing, that of the example stands in, which nobody claims.
    if address is None or not settings.is_set(attribute):
        return []
    if address.kind == "unix":
        return _path(settings, attribute, Use.LISTENER, address.path)
    hosts = frozenset([address.host.lower()] if address.host else [])
    return [Claim(settings, attribute, Use.LISTENER, tcp=address, hosts=hosts)]


def _path(settings: Settings, attribute: str, use: Use, path: str | None) -> list[Claim]:
    return [] if path is None else [Claim(settings, attribute, use, path)]


def _collision(first: Claim, second: Claim) -> Problem:
    if first.use is second.use is Use.LISTENER:  # in PHP-FPM's words
        reason = "unable to set listen address as it's already used"
        if first.owner and second.owner and first.owner != second.owner:
            reason += f" in another pool '{first.owner}'"
        whose = f"pool '{first.owner}' listens" if first.owner else "the daemon listens"
        advice = (
            f"{whose} on {first.tcp.show() if first.tcp else first.path} by {first.settings.where(first.attribute)}"
        )
    else:
        reason = f"{second.path} is the place of {first} as well"
        advice = f"choose another path: {second.name} = PATH"
    if second.owner:
        reason = f"[pool {second.owner}] {reason}"
    return Problem(catalogue.SHARED_ADDRESS, second.settings.where(second.attribute), second.name, reason, advice)
