"""What a start would refuse although every value is right: users, paths, sockets, interpreters, limits.

Runs in: master, before anything is opened; -t runs the same. It creates nothing.
Fails by: returning problems. What is only worth a line in the log comes from `notices`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config.claims import claims_of_daemon, claims_of_pool
from pyfpm.config.directive import Settings, directive_of, name_of
from pyfpm.config.directives import GlobalSettings, PoolSettings
from pyfpm.config.values import show
from pyfpm.errors import Problem, PyfpmError, StartError
from pyfpm.installed import PACKAGE
from pyfpm.logs.access_log import compile_format
from pyfpm.logs.files import INHERITED
from pyfpm.master import front_way, logfiles, places, trusted
from pyfpm.master.accounts import Identity, gid_of, identity_of, uid_of
from pyfpm.master.interpreters import interpreter_fault
from pyfpm.master.places import problem_with
from pyfpm.master.reach import Need, obstacle
from pyfpm.master.spawn import interpreter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfpm.config.claims import Claim
    from pyfpm.config.directives import Configuration

LEAST_FILES = 24  # open at least, of the master's own while it starts
FILES_OF_A_POOL = 8
LARGEST_RECORD = 64 * 1024  # of the settings as a template receives them; one message must hold them
CAP_SYS_RESOURCE = 24  # linux/capability.h
LARGEST_ID = 2**32 - 2  # the one above means "leave it"
_ROOT_ONLY_GLOBAL = ("process_priority", "status_user")
_ROOT_ONLY = ("user", "group", "chroot", "process_priority")

Question = tuple[str, Identity | None, str | None]  # interpreter, as whom, in which chroot


def examine(configuration: Configuration, *, as_root: bool, allow_root: bool, look_up: bool = False) -> list[Problem]:
    """Everything found, over all pools. `allow_root` is -R. A problem with a `pool` is that pool's own trouble.

    `look_up` hosts, where everything is to be opened: who has a listener already may keep it though its host is gone.
    """
    problems = [*_global_problems(configuration, as_root), *_claims_problems(configuration, as_root, look_up)]
    sound: list[PoolSettings] = []
    for pool in configuration.pools:
        problems += _settings_problems(pool, as_root)
        accounts = list(_account_problems(pool, as_root)) or _user_problems(pool, as_root, allow_root)
        problems += accounts
        if not accounts:
            sound.append(pool)
    return problems + _tenants_problems(sound, as_root)


def notices(configuration: Configuration, *, as_root: bool) -> list[str]:
    """What is odd and stops nobody: for the log, at NOTICE."""
    lines = [line for claim in _claims(configuration) for line in places.notices_of(claim)]
    for attribute in _ROOT_ONLY_GLOBAL:
        if not as_root and configuration.global_.is_set(attribute):
            lines.append(_ignored(GlobalSettings, attribute))
    for pool in configuration.pools:
        if not as_root:
            ignored = [attribute for attribute in _ROOT_ONLY if getattr(pool, attribute) is not None]
            lines += [f"[pool {pool.name}] {_ignored(PoolSettings, attribute)}" for attribute in ignored]
        elif not list(_account_problems(pool, as_root)):
            lines += [f"[pool {pool.name}] {line}" for line in front_way.notices(pool)]
    return lines


def _ignored(settings: type[Settings], attribute: str) -> str:
    return f"'{name_of(settings, attribute)}' directive is ignored when FPM is not running as root"


# ── what does not depend on the pool's user ─────────────────────────────────────────────────────────────────────────


def _claims(configuration: Configuration) -> list[Claim]:
    of_pools = [claim for pool in configuration.pools for claim in claims_of_pool(pool)]
    return [*of_pools, *claims_of_daemon(configuration.global_)]


def _claims_problems(configuration: Configuration, as_root: bool, look_up: bool) -> Iterator[Problem]:
    claims = _claims(configuration)
    for claim in claims:
        yield from places.problems_of(claim, as_root=as_root)
    yield from places.problems_between(claims, look_up=look_up)
    if look_up:
        yield from places.problems_of_hosts(claims)


def _global_problems(configuration: Configuration, as_root: bool) -> Iterator[Problem]:
    settings = configuration.global_
    if configuration.prefix is not None and not os.path.isdir(configuration.prefix):
        reason = f"the global prefix '{configuration.prefix}' does not exist or is not a directory"
        yield Problem(catalogue.NO_SUCH_FOLDER, "", "", reason)
    yield from _monitor_problem(configuration, as_root)
    yield from _limit_problem(settings)
    least = LEAST_FILES + FILES_OF_A_POOL * len(configuration.pools)
    if 0 < settings.rlimit_files < least:
        reason = f"{settings.rlimit_files} is too low: with these pools the master needs {least} to start"
        yield problem_with(catalogue.LIMIT_TOO_LOW, settings, "rlimit_files", reason, "and four more for each worker")


def _monitor_problem(configuration: Configuration, as_root: bool) -> Iterator[Problem]:
    """Whom the monitor runs as, where there is to be one."""
    settings = configuration.global_
    is_wanted = settings.status_listen or any(pool.pm_status_listen for pool in configuration.pools)
    if not is_wanted or not as_root:
        return
    try:
        if uid_of(settings.status_user) == 0:
            reason = "the monitor must not run as root"
            yield problem_with(catalogue.MONITOR_AS_ROOT, settings, "status_user", reason, "name a user without rights")
    except StartError as error:
        yield problem_with(catalogue.UNKNOWN_ACCOUNT, settings, "status_user", str(error))


def _settings_problems(pool: PoolSettings, as_root: bool) -> list[Problem]:
    return [
        *_prefix_problem(pool),
        *_socket_problem(pool, as_root),
        *_format_problem(pool),
        *_limit_problem(pool),
        *_size_problem(pool),
    ]


def _prefix_problem(pool: PoolSettings) -> Iterator[Problem]:
    if pool.prefix is not None and not os.path.isdir(pool.prefix):
        yield problem_with(
            catalogue.NO_SUCH_FOLDER, pool, "prefix", f"the prefix '{pool.prefix}' does not exist or is not a directory"
        )


def _socket_problem(pool: PoolSettings, as_root: bool) -> Iterator[Problem]:
    if pool.listen.kind != "unix":
        return
    if not as_root:
        yield from _gift_problem(pool)
    elif reason := front_way.fault(pool):
        advice = "listen in a folder that the front server can enter, such as /run/pyfpm"
        yield problem_with(catalogue.SOCKET_OUT_OF_REACH, pool, "listen", reason, advice)


def _gift_problem(pool: PoolSettings) -> Iterator[Problem]:
    """Only root can give a socket to somebody else; names that do not exist are reported elsewhere."""
    if pool.listen_acl_users or pool.listen_acl_groups:
        return
    ungiven = partial(problem_with, catalogue.CANNOT_GIVE_SOCKET, pool)
    with contextlib.suppress(StartError):
        if pool.listen_owner and uid_of(pool.listen_owner) != os.geteuid():
            yield ungiven("listen_owner", f"only root can give a socket to user '{pool.listen_owner}'")
        if pool.listen_group and gid_of(pool.listen_group) not in (os.getegid(), *os.getgroups()):
            yield ungiven("listen_group", f"only root can give a socket to group '{pool.listen_group}'")


def _format_problem(pool: PoolSettings) -> Iterator[Problem]:
    try:
        compile_format(pool.access_format)
    except PyfpmError as error:
        name = name_of(PoolSettings, "access_format")
        text = f"wrong format for {name} '{pool.access_format}': {error}"
        yield problem_with(catalogue.BAD_LOG_FORMAT, pool, "access_format", text)


def _limit_problem(settings: GlobalSettings | PoolSettings) -> Iterator[Problem]:
    """A limit above the hard one needs a right that only root has; a limit that is unset is 0."""
    for attribute, which in (("rlimit_files", resource.RLIMIT_NOFILE), ("rlimit_core", resource.RLIMIT_CORE)):
        wanted, hard = getattr(settings, attribute), _highest(which)
        too_high = hard != resource.RLIM_INFINITY and (wanted > hard or wanted == resource.RLIM_INFINITY)
        if wanted and too_high:
            shown = show(directive_of(type(settings), attribute).kind, wanted)
            reason = f"{shown} is above the limit of {hard} that this process may set"
            yield problem_with(catalogue.LIMIT_TOO_HIGH, settings, attribute, reason)


def _highest(which: int) -> int:
    if not _may_raise_limits():
        return resource.getrlimit(which)[1]
    if which == resource.RLIMIT_NOFILE:
        with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
            return int(file.read())
    return resource.RLIM_INFINITY


def _may_raise_limits() -> bool:
    """Being root is not enough: containers and units take capabilities away."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        capabilities = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(capabilities, 16) >> CAP_SYS_RESOURCE & 1)


def _size_problem(pool: PoolSettings) -> Iterator[Problem]:
    size = len(json.dumps(pool.template_record()))
    if size > LARGEST_RECORD:
        reason = f"the settings of this pool have {size} bytes; a template can be told {LARGEST_RECORD}"
        advice = "keep large values in a file that the application reads"
        yield problem_with(catalogue.SETTINGS_TOO_LARGE, pool, "env", reason, advice)


# ── users, and what they can reach ──────────────────────────────────────────────────────────────────────────────────


def _account_problems(pool: PoolSettings, as_root: bool) -> Iterator[Problem]:
    """Names of users and groups that do not exist, and a pool without a user where it needs one."""
    wanted: list[tuple[str, str | None, Callable[[str], int]]] = []
    if as_root:
        if pool.user is None:
            advice = "write user = NAME, the user of the application"
            yield problem_with(catalogue.NO_USER, pool, "user", "user has not been defined", advice)
        wanted += [("user", pool.user, uid_of), ("group", pool.group, gid_of)]
    if pool.listen.kind == "unix":
        wanted += [("listen_owner", pool.listen_owner, uid_of), ("listen_group", pool.listen_group, gid_of)]
        wanted += [("listen_acl_users", name, uid_of) for name in pool.listen_acl_users]
        wanted += [("listen_acl_groups", name, gid_of) for name in pool.listen_acl_groups]
    for attribute, name, look_up in wanted:
        try:
            if name is not None and look_up(name) > LARGEST_ID:
                yield problem_with(catalogue.UNKNOWN_ACCOUNT, pool, attribute, f"{name} is too large for an id")
        except StartError as error:
            yield problem_with(error.code, pool, attribute, str(error))


def _user_problems(pool: PoolSettings, as_root: bool, allow_root: bool) -> list[Problem]:
    who = identity_of(pool) if as_root else None
    if who is not None and 0 in (who.uid, who.gid) and not allow_root:
        attribute = "user" if who.uid == 0 else "group"
        reason = "please specify user and group other than root"
        return [problem_with(catalogue.POOL_AS_ROOT, pool, attribute, reason, "or start with -R")]
    chroot = pool.chroot if as_root else None
    if chroot and not os.path.isdir(chroot):
        reason = f"the chroot path '{chroot}' does not exist or is not a directory"
        return [problem_with(catalogue.NO_SUCH_FOLDER, pool, "chroot", reason)]
    return [
        *_tenants_file_problem(pool, "access_log", pool.access_log, who),
        *_tenants_file_problem(pool, "error_log", pool.error_log, who),
    ]


def _tenants_file_problem(
    pool: PoolSettings, attribute: str, path: str | None, who: Identity | None
) -> Iterator[Problem]:
    """A log in a tenant's folder, or with a second name, is opened as the pool's user."""
    if who is None or path is None or path in INHERITED or not (trusted.fault(path, 0) or _has_names(path)):
        return
    if who.uid == 0:
        yield from places.trust_problem(pool, attribute, path, as_root=True)
        return
    # In the tenant's hands it is his own trouble: the pool serves without it.
    whose = pool.name if logfiles.is_tenants(path) else ""
    place, need = (path, Need.WRITE) if os.path.exists(path) else (os.path.dirname(path), Need.CREATE)
    if reason := _obstacle(place, who, need, None):
        advice = "in a folder that others than root can write, it is the pool's user who opens it"
        problem = problem_with(catalogue.POOL_LOG_OUT_OF_REACH, pool, attribute, reason, advice)
        problem.pool = whose
        yield problem


def _has_names(path: str) -> bool:
    try:
        return places.has_names(os.stat(path))
    except OSError:
        return False


# ── what lies in a tenant's hands: his own pool's trouble, and no reason to stop the others ─────────────────────────


def _tenants_problems(pools: list[PoolSettings], as_root: bool) -> list[Problem]:
    """The interpreters are asked side by side: each may take its time, and a tenant's may do so on purpose."""
    places = {pool.name: (identity_of(pool) if as_root else None, pool.chroot if as_root else None) for pool in pools}
    questions = {(interpreter_of(pool), *places[pool.name]) for pool in pools}
    with ThreadPoolExecutor(max_workers=max(1, len(questions))) as asking:
        answers = dict(zip(questions, asking.map(_interpreter_fault, questions), strict=True))
    problems: list[Problem] = []
    for pool in pools:
        who, chroot = places[pool.name]
        found = [*_reach_problems(pool, who, chroot)]
        if fault := answers[interpreter_of(pool), who, chroot]:
            attribute = "virtualenv" if pool.virtualenv else "python"
            advice = "name an interpreter that this user can run"
            found.append(problem_with(catalogue.BAD_INTERPRETER, pool, attribute, fault, advice))
        for problem in found:
            problem.pool = pool.name
        problems += found
    return problems


def _interpreter_fault(question: Question) -> str:
    python, who, chroot = question
    return _obstacle(python, who, Need.RUN, chroot) or interpreter_fault(python, who, chroot=chroot)


def _reach_problems(pool: PoolSettings, who: Identity | None, chroot: str | None) -> Iterator[Problem]:
    def reason(path: str, need: Need) -> str:
        return _obstacle(path, who, need, chroot)

    if pool.chdir and (found := reason(pool.chdir, Need.ENTER)):
        yield problem_with(catalogue.APPLICATION_OUT_OF_REACH, pool, "chdir", found)
    for path in pool.pythonpath:
        if found := reason(path, Need.IMPORT):
            yield problem_with(catalogue.APPLICATION_OUT_OF_REACH, pool, "pythonpath", found)
    if found := reason(PACKAGE, Need.IMPORT):
        advice = "install pyfpm where the users of all pools can read it; a pool's processes run its code"
        text = f"[pool {pool.name}] pyfpm itself is out of reach: {found}"
        yield Problem(catalogue.PYFPM_OUT_OF_REACH, pool.where(), "", text, advice)


def _obstacle(path: str, who: Identity | None, need: Need, chroot: str | None) -> str:
    if who is None:
        who = Identity(os.geteuid(), os.getegid(), tuple(os.getgroups()))
    label = f"user '{who.name or who.uid}'"
    found = obstacle(path, who, label, need, root=chroot or "/")
    return f"{found} (inside the chroot {chroot})" if found and chroot else found
