"""Whether this machine has room for what the table of claims says: files, sockets, addresses. It creates nothing.

Runs in: master, before anything is opened; -t runs the same.
Fails by: returning problems.

Not judged is what changes from one moment to the next: whether an address is in use, whether a FIFO has a reader. To
open a FIFO for a look would end whoever reads it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config.claims import Use, collisions
from pyfpm.config.directive import name_of
from pyfpm.config.directives import PoolSettings
from pyfpm.config.values import LONGEST_SOCKET_PATH
from pyfpm.errors import Problem, StartError
from pyfpm.logs.files import INHERITED
from pyfpm.master import listeners, trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyfpm.catalogue import Code
    from pyfpm.config.claims import Claim
    from pyfpm.config.directive import Settings

_MASTERS_OWN = (Use.PID_FILE, Use.MASTERS_LOG)


def problem_with(code: Code, settings: Settings, attribute: str, reason: str, advice: str = "") -> Problem:
    """A problem with this directive, in the words that all of them have."""
    if isinstance(settings, PoolSettings):
        reason = f"[pool {settings.name}] {reason}"
    return Problem(code, settings.where(attribute), name_of(type(settings), attribute), reason, advice)


def problems_of(claim: Claim, *, as_root: bool) -> Iterator[Problem]:
    """What a start would say to this claim."""
    if claim.use.is_file:
        yield from _file_problem(claim, as_root)
        if claim.use in _MASTERS_OWN:
            yield from trust_problem(claim.settings, claim.attribute, claim.path, as_root)
    elif claim.path:
        yield from _socket_problem(claim)


def notices_of(claim: Claim) -> Iterator[str]:
    """What the next start depends on, and is no problem now."""
    if claim.use.is_log and claim.path not in INHERITED:
        with suppress(OSError):
            if stat.S_ISFIFO(os.stat(claim.path).st_mode):
                yield f"{claim.path} is a FIFO, by {claim}: a start needs somebody who reads it"


def problems_of_hosts(claims: Iterable[Claim]) -> Iterator[Problem]:
    """Names that stand for nothing, and addresses that this machine does not have. The first may take seconds."""
    for claim in claims:
        if claim.tcp is not None:
            try:
                listeners.try_host(claim.tcp)
            except StartError as error:
                yield problem_with(error.code, claim.settings, claim.attribute, str(error))


def problems_between(claims: Iterable[Claim], *, look_up: bool) -> list[Problem]:
    """Claims that meet here though they are written otherwise: by a symbolic link, or if names are to be looked up,
    by the names of a host.
    """
    return collisions(_resolved(claim, look_up) for claim in claims)


def _resolved(claim: Claim, look_up: bool) -> Claim:
    if claim.path:
        return claim._replace(path=os.path.realpath(claim.path))
    if look_up and claim.tcp is not None and claim.tcp.host:
        return claim._replace(hosts=listeners.hosts_of(claim.tcp) or claim.hosts)
    return claim


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _file_problem(claim: Claim, as_root: bool) -> Iterator[Problem]:
    """A file that the master will make or write."""
    if claim.use.is_log and claim.path in INHERITED:
        return
    unwritable = partial(problem_with, catalogue.UNWRITABLE_FILE, claim.settings, claim.attribute)
    try:
        found = os.stat(claim.path)
    except OSError:
        yield from _folder_problem(claim)
        return
    if stat.S_ISDIR(found.st_mode):
        yield unwritable(f"'{claim.path}' is a directory", "write the path of a file")
    elif fault := _unfit(claim.use, found, as_root):
        yield unwritable(f"'{claim.path}' {fault}", "choose another path, or remove what is there")
    elif not os.access(claim.path, os.W_OK):
        yield unwritable(f"'{claim.path}' cannot be written")


def _unfit(use: Use, found: os.stat_result, as_root: bool) -> str:
    """What is wrong with what is there, as who opens it for this use would say; "" if nothing is."""
    kind = stat.S_IFMT(found.st_mode)
    if use is Use.PID_FILE or (use is Use.POOLS_LOG and as_root):
        if kind != stat.S_IFREG:
            return "is not a regular file"
    elif kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR):
        return "is neither a file nor a FIFO nor a terminal"
    is_alone = use is Use.PID_FILE or (use is Use.MASTERS_LOG and as_root)
    return f"has {found.st_nlink} names (hard links)" if is_alone and has_names(found) else ""


def has_names(found: os.stat_result) -> bool:
    """Whether it is a file with a second name, by which somebody may have got it into his folder."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink > 1


def trust_problem(settings: Settings, attribute: str, path: str, as_root: bool) -> Iterator[Problem]:
    """What root opens must be where nobody else can lead it somewhere else."""
    if as_root and (reason := trusted.fault(path, 0)):
        advice = "choose a path through folders that only root can write, such as /var/log or /run"
        text = f"'{path}' is not safe for root to open: {reason}"
        yield problem_with(catalogue.UNSAFE_PATH, settings, attribute, text, advice)


def _folder_problem(claim: Claim) -> Iterator[Problem]:
    folder = os.path.dirname(claim.path) or "."
    if not os.path.isdir(folder):
        reason, advice = f"the directory '{folder}' does not exist", f"create it: mkdir -p {folder}"
        yield problem_with(catalogue.NO_SUCH_FOLDER, claim.settings, claim.attribute, reason, advice)
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"the directory '{folder}' cannot be written"
        yield problem_with(catalogue.UNWRITABLE_FILE, claim.settings, claim.attribute, reason)


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _socket_problem(claim: Claim) -> Iterator[Problem]:
    bad = partial(problem_with, catalogue.BAD_SOCKET_PATH, claim.settings, claim.attribute)
    path, length = claim.path, len(os.fsencode(claim.path))
    if length > LONGEST_SOCKET_PATH:
        yield bad(f"'{path}' has {length} bytes; the path of a unix socket has at most {LONGEST_SOCKET_PATH}")
    elif os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            yield bad(f"'{path}' exists and is not a socket", "remove it, or choose another path")
    else:
        yield from _folder_problem(claim)
