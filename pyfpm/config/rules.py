"""What must hold between directives, and between pools.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: returning problems; the caller raises them together with all others.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config.directive import name_of
from pyfpm.config.directives import GlobalSettings, PoolSettings, Remark
from pyfpm.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pyfpm.config.directive import Settings

JSON_FORMAT = "json"
DYNAMIC = "dynamic"
ONDEMAND = "ondemand"
_SPARES = ("pm_min_spare_servers", "pm_max_spare_servers")


def problems_of(pools: Sequence[PoolSettings], earlier: Collection[Problem] = ()) -> list[Problem]:
    """Everything that makes this configuration unusable although each value alone is right.

    A directive that `earlier` problems are about has no value that could be compared with others.
    """
    amiss = {(problem.where, problem.subject) for problem in earlier}
    problems = [problem for pool in pools for problem in (*_two_interpreters(pool), *_constant_log_line(pool))]
    for pool in pools:
        problems.extend(_spare_servers(pool, amiss))
        problems.extend(_slow_requests(pool, amiss))
    return problems


def warnings_of(settings: GlobalSettings, pools: Sequence[PoolSettings]) -> list[Remark]:
    """Everything that is odd, and does not stop a start."""
    warnings = [(catalogue.WITHOUT_EFFECT, text) for text in _half_an_emergency(settings)]
    warnings += [(catalogue.SEEN_BY_STRANGERS, text) for text in _seen_by_strangers(settings)]
    for pool in pools:
        warnings += [(catalogue.OWNER_IGNORED, text) for text in _ignored_owner(pool)]
        warnings += [(catalogue.WITHOUT_EFFECT, text) for text in _without_effect(pool)]
    return warnings


def notices_of(pools: Sequence[PoolSettings]) -> list[str]:
    """What a start adds to the configuration on its own account."""
    return [
        f"[pool {pool.name}] {_name('pm_start_servers')} is not set. It's been set to {start_servers_of(pool)}."
        for pool in pools
        if start_servers_of(pool) != pool.pm_start_servers
    ]


def start_servers_of(pool: PoolSettings) -> int:
    """What pm.start_servers comes to; 0 as it was for a pool that has no use for it."""
    if pool.pm != DYNAMIC or pool.pm_start_servers:
        return pool.pm_start_servers
    return pool.pm_min_spare_servers + (pool.pm_max_spare_servers - pool.pm_min_spare_servers) // 2


def _two_interpreters(pool: PoolSettings) -> Iterator[Problem]:
    if pool.python and pool.virtualenv:
        python, virtualenv = _name("python"), _name("virtualenv")
        reason = f"cannot stand beside '{python}', set at {pool.where('python')}"
        yield Problem(catalogue.CONTRADICTION, pool.where("virtualenv"), virtualenv, reason, "leave one of the two out")


def _constant_log_line(pool: PoolSettings) -> Iterator[Problem]:
    text = pool.access_format
    if "%" not in text and text != JSON_FORMAT:
        reason = f"'{text}' has no % code, so every line would be the same"
        advice = f"did you mean '{JSON_FORMAT}'?" if text.lower() == JSON_FORMAT else ""
        where = pool.where("access_format")
        yield Problem(catalogue.BAD_LOG_FORMAT, where, _name("access_format"), reason, advice)


def _spare_servers(pool: PoolSettings, amiss: Collection[tuple[str, str]]) -> Iterator[Problem]:
    """What a dynamic pool must say, in PHP-FPM's words."""
    attributes = ("pm", "pm_max_children", *_SPARES, "pm_start_servers")
    known = {attribute for attribute in attributes if (pool.where(attribute), _name(attribute)) not in amiss}
    if pool.pm != DYNAMIC or "pm" not in known:
        return
    missing = [attribute for attribute in _SPARES if attribute in known and not getattr(pool, attribute)]
    for attribute in missing:
        advice = f"write a whole number from 1 to that of {_name('pm_max_children')}"
        yield _problem(pool, attribute, f"{_name(attribute)}(0) must be a positive value", advice)
    if not missing and known.issuperset(_SPARES):
        yield from _disorder_of_spares(pool, known)


def _disorder_of_spares(pool: PoolSettings, known: Collection[str]) -> Iterator[Problem]:
    least, most, limit = pool.pm_min_spare_servers, pool.pm_max_spare_servers, pool.pm_max_children
    at_least, at_most = (_with_value(pool, attribute) for attribute in _SPARES)
    if "pm_max_children" in known and max(least, most) > limit:
        reason = f"{at_least} and {at_most} cannot be greater than {_with_value(pool, 'pm_max_children')}"
        yield _problem(pool, "pm_max_spare_servers" if most > limit else "pm_min_spare_servers", reason)
    if most < least:
        yield _problem(pool, "pm_max_spare_servers", f"{at_most} must not be less than {at_least}")
    elif "pm_start_servers" in known and pool.pm_start_servers and not least <= pool.pm_start_servers <= most:
        start = _with_value(pool, "pm_start_servers")
        reason = f"{start} must not be less than {at_least} and not greater than {at_most}"
        yield _problem(pool, "pm_start_servers", reason, "leave it out to start half way between them")


def _slow_requests(pool: PoolSettings, amiss: Collection[tuple[str, str]]) -> Iterator[Problem]:
    """PHP-FPM's two conditions for the slow log, in its words."""
    timeout, log = _name("request_slowlog_timeout"), _name("slowlog")
    slow, terminate = pool.request_slowlog_timeout, pool.request_terminate_timeout
    if slow and not pool.slowlog and (pool.where("slowlog"), log) not in amiss:
        reason = f"'{log}' must be specified for use with '{timeout}'"
        yield _problem(pool, "request_slowlog_timeout", reason, f"write {log} = a path")
    if slow and terminate and slow > terminate:
        reason = f"'{timeout}' ({slow:g}) can't be greater than '{_name('request_terminate_timeout')}' ({terminate:g})"
        yield _problem(pool, "request_slowlog_timeout", reason)


def _problem(pool: PoolSettings, attribute: str, reason: str, advice: str = "") -> Problem:
    reason = f"[pool {pool.name}] {reason}"
    return Problem(catalogue.CONTRADICTION, pool.where(attribute), _name(attribute), reason, advice)


def _with_value(pool: PoolSettings, attribute: str) -> str:
    return f"{_name(attribute)}({getattr(pool, attribute)})"


def _without_effect(pool: PoolSettings) -> Iterator[str]:
    """Directives of pyfpm's own. Those that PHP-FPM has for another `pm` are passed over in silence, as it does."""
    if pool.pm_template_idle_timeout and pool.pm != ONDEMAND:
        yield f"[pool {pool.name}] {_name('pm_template_idle_timeout')} has no effect with {_name('pm')} = {pool.pm}"
    if pool.ping_path is not None and pool.ping_path == pool.pm_status_path:
        yield f"[pool {pool.name}] {_name('pm_status_path')} has no effect: it is {_name('ping_path')} too"
    if pool.slowlog and not pool.request_slowlog_timeout:
        yield f"[pool {pool.name}] {_name('slowlog')} has no effect without {_name('request_slowlog_timeout')}"
    if pool.pm_max_requests_jitter and not pool.pm_max_requests:
        yield f"[pool {pool.name}] {_name('pm_max_requests_jitter')} has no effect without {_name('pm_max_requests')}"


def _half_an_emergency(settings: GlobalSettings) -> Iterator[str]:
    both = ("emergency_restart_threshold", "emergency_restart_interval")
    for one, other in (both, both[::-1]):
        if getattr(settings, one) and not getattr(settings, other):
            yield f"{_name(one, GlobalSettings)} has no effect without {_name(other, GlobalSettings)}"


def _seen_by_strangers(settings: GlobalSettings) -> Iterator[str]:
    address = settings.status_listen
    if address is not None and address.kind == "tcp" and not _is_loopback(address.host):
        name = _name("status_listen", GlobalSettings)
        yield f"{name} = {address.show()} is not on the loopback interface: others can see what every pool is doing"


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _ignored_owner(pool: PoolSettings) -> Iterator[str]:
    if pool.listen_acl_users or pool.listen_acl_groups:
        for attribute in ("listen_owner", "listen_group"):
            if value := getattr(pool, attribute):
                yield f"[pool {pool.name}] ACL set, {_name(attribute)} = '{value}' is ignored"


def _name(attribute: str, settings: type[Settings] = PoolSettings) -> str:
    return name_of(settings, attribute)
