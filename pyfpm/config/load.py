"""Files to a configuration: includes, sections that are opened again, paths made whole; all errors, not the first.

Runs in: master, as root; a command, to find it.
Fails by: ConfigError with every problem found.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, field, replace
from posixpath import splitext
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config import rules
from pyfpm.config.claims import claims_of_daemon, claims_of_pool, collisions, warnings_of_control
from pyfpm.config.directives import DEFAULT_ERROR_LOG, GLOBAL_SECTION, INCLUDE, STATE_FOLDER, Configuration, Remark
from pyfpm.config.drafts import Draft, text_of
from pyfpm.config.ini import parse_ini
from pyfpm.config.statements import Assignment, Section, Statement
from pyfpm.config.toml import parse_toml, salvage_toml
from pyfpm.config.values import NOWHERE, join_path
from pyfpm.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyfpm.config.directives import GlobalSettings

DEEPEST_INCLUDE = 5
_POOL_NAME = re.compile(r"[^\s/\"'\x00-\x1f\x7f]{1,64}")


def load(
    path: str, *, prefix: str | None, environ: Mapping[str, str], as_root: bool, pid: str | None = None
) -> Configuration:
    """Read the configuration that begins in `path`. `prefix` is that of -p, `pid` that of -g.

    Relative paths begin at the pool's prefix, else at that of -p, else in the folder of `path`.
    """
    base = os.path.abspath(prefix) if prefix else os.path.dirname(os.path.abspath(path))
    prefix = base if prefix else None
    reading = _Reading(base, environ)
    reading.read_main(path)
    global_ = _completed(reading.global_draft.finish_global(base, prefix), prefix, pid, as_root=as_root)
    pools = tuple(draft.finish_pool(base) for draft in reading.pool_drafts.values())
    if not pools and not reading.problems:
        reason = "No pool defined. at least one pool section must be specified in config file"
        reading.problems.append(Problem(catalogue.NO_POOL_DEFINED, path, "", reason))
    claims = [*(claim for pool in pools for claim in claims_of_pool(pool)), *claims_of_daemon(global_)]
    problems = [
        *reading.problems,
        *rules.problems_of(pools, reading.problems),
        *collisions(claims),
    ]
    configuration = Configuration(
        global_=global_,
        pools=tuple(replace(pool, pm_start_servers=rules.start_servers_of(pool)) for pool in pools),
        warnings=(*reading.warnings, *rules.warnings_of(global_, pools), *warnings_of_control(global_, claims)),
        notices=tuple(rules.notices_of(pools)),
        path=path,
        prefix=prefix,
        base=base,
    )
    if problems:
        raise ConfigError(sorted(problems, key=reading.order), configuration)
    return configuration


def read_whereabouts(path: str, *, prefix: str | None, environ: Mapping[str, str]) -> GlobalSettings:
    """What a configuration says of the daemon itself, however wrong the rest may be: where its running master is.

    Whoever wants to stop a daemon must be able to while its configuration is broken.
    """
    base = os.path.abspath(prefix) if prefix else os.path.dirname(os.path.abspath(path))
    reading = _Reading(base, environ, is_lenient=True)
    reading.read_main(path)
    return reading.global_draft.finish_global(base, base if prefix else None)


def control_path(settings: GlobalSettings, pid_path: str | None) -> str | None:
    """Where the control socket is, given where the pid file really is: -g may have moved it."""
    if settings.is_set("control"):
        return None if settings.control == NOWHERE else settings.control
    if pid_path is None:
        return None
    path = splitext(pid_path)[0] + ".sock"
    return path if path != pid_path else pid_path + ".sock"


def _completed(settings: GlobalSettings, prefix: str | None, pid: str | None, *, as_root: bool) -> GlobalSettings:
    """With -g, and with what is in force where the files say nothing."""
    if pid is not None:
        settings = replace(settings, pid=os.path.abspath(pid), places={**settings.places, "pid": "-g"})
    if settings.error_log is None and as_root:
        settings = replace(settings, error_log=join_path(prefix or STATE_FOLDER, DEFAULT_ERROR_LOG))
    return replace(settings, control=control_path(settings, settings.pid) or NOWHERE)


@dataclass(eq=False)
class _Reading:
    """One run through all the files."""

    base: str
    environ: Mapping[str, str]
    is_lenient: bool = False  # take what can be had of a file that is no TOML
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    pool_drafts: dict[str, Draft] = field(default_factory=dict)  # by the name in lower case
    files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.global_draft = Draft(None, "", self.problems, self.environ)

    def read_main(self, path: str) -> None:
        self._read_file(path, self.global_draft, "", ())

    def order(self, problem: Problem) -> tuple[int, int]:
        """Where a problem belongs in a list that follows the files as they were read."""
        file, _, line = problem.where.rpartition(":")
        return (self.files.index(file), int(line)) if file in self.files else (-1, 0)

    def _read_file(self, path: str, draft: Draft, included_from: str, above: tuple[str, ...]) -> None:
        """Read one file. Its first lines are for the section that the include is in."""
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            reason = f"failed to open configuration file '{path}': {error.strerror} ({error.errno})"
            self.problems.append(Problem(catalogue.CONFIG_UNREADABLE, included_from, "", reason))
            return
        self.files.append(path)
        chain = (*above, os.path.realpath(path))
        for statement in self._parse(content, path):
            if isinstance(statement, Section):
                draft = self._open_section(statement)
            elif statement.name.lower() == INCLUDE.name:
                self._include(statement, draft, chain)
            else:
                draft.assign(statement)

    def _parse(self, content: bytes, path: str) -> list[Statement]:
        if path.endswith(".toml"):
            statements, problems = parse_toml(content, path)
            if self.is_lenient and not statements:
                statements = salvage_toml(content, path)
        else:
            statements, problems = parse_ini(content, path, self.environ)
        self.problems.extend(problems)
        return statements

    def _open_section(self, section: Section) -> Draft:
        key = section.name.lower()
        if key == GLOBAL_SECTION:
            self.global_draft.places[""] = section.where
            return self.global_draft
        if key not in self.pool_drafts:
            if not _POOL_NAME.fullmatch(section.name):
                reason = "is no name for a pool" if section.name else "a section must have a name"
                advice = "a name is up to 64 characters, without spaces, quotes and slashes"
                subject = f"[{section.name}]"
                self.problems.append(Problem(catalogue.BAD_SECTION, section.where, subject, reason, advice))
            self.pool_drafts[key] = Draft(section.name, section.where, self.problems, self.environ)
        return self.pool_drafts[key]

    def _include(self, assignment: Assignment, draft: Draft, chain: tuple[str, ...]) -> None:
        raw = assignment.value
        try:
            if assignment.key:
                raise ValueError("takes no key in brackets", f"write {INCLUDE.name} = value")
            patterns = [INCLUDE.kind.read(text_of(INCLUDE, item)) for item in (raw if isinstance(raw, list) else [raw])]
            if len(chain) > DEEPEST_INCLUDE:
                raise ValueError(f"failed to include more than {DEEPEST_INCLUDE} files recursively")
            for pattern in patterns:
                for path in self._matches(pattern, assignment.where):
                    if os.path.realpath(path) in chain:
                        raise ValueError(f"'{path}' includes itself")
                    self._read_file(path, draft, assignment.where, chain)
        except ValueError as error:
            fault = Problem(catalogue.BAD_INCLUDE, assignment.where, INCLUDE.name, *map(str, error.args))
            self.problems.append(fault)

    def _matches(self, pattern: str, where: str) -> list[str]:
        """The files that the pattern names, sorted. Nothing is worth a warning only, as in PHP-FPM."""
        whole = join_path(self.base, pattern)
        folder = os.path.dirname(whole)
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
            raise ValueError(f"the folder '{folder}' cannot be listed")
        found = sorted(glob.glob(whole))
        if not found:
            file, _, line = where.rpartition(":")
            text = f"Nothing matches the include pattern '{pattern}' from {file} at line {line}."
            self.warnings.append((catalogue.INCLUDE_MATCHES_NOTHING, text))
        return [path for path in found if not os.path.isdir(path)]
