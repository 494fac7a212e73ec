"""A section while it is put together: assignments in, a settings object out, and all that was wrong on the way.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: problems appended to the list that the draft was given; never by an exception.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pyfpm import catalogue
from pyfpm.config.directive import Directive, Settings, Shape, directives_by_name, directives_of
from pyfpm.config.directives import INCLUDE, PHPS_OWN, GlobalSettings, PoolSettings
from pyfpm.config.values import join_path
from pyfpm.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyfpm.config.statements import Assignment, Raw

_POOL_VARIABLE = "$pool"
_MASTERS_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


class Draft:
    """What has been assigned so far in [global] (`pool` is None) or in a pool's section; the last one wins."""

    def __init__(self, pool: str | None, where: str, problems: list[Problem], environ: Mapping[str, str]) -> None:
        self.pool = pool
        self.settings: type[Settings] = GlobalSettings if pool is None else PoolSettings
        self.rows = directives_by_name(self.settings)
        self.values: dict[str, Any] = {}
        self.places: dict[str, str] = {"": where}
        self.problems = problems
        self.environ = environ

    def assign(self, assignment: Assignment) -> None:
        """Read one assignment and keep its value."""
        row = self.rows.get(assignment.name.lower())
        if row is None:
            self.problems.append(self._unknown(assignment))
            return
        try:
            self._refuse_wrong_key(row, assignment.key)
            value = row.kind.read(self._substitute(row, text_of(row, assignment.value)))
        except ValueError as error:
            subject = f"{row.name}[{assignment.key}]" if assignment.key else row.name
            self.problems.append(Problem(catalogue.BAD_VALUE, assignment.where, subject, *map(str, error.args)))
            # Set, though wrongly: nobody should be told in the same breath that it is missing.
            self.places[row.attribute] = assignment.where
            return
        self._keep(row, assignment, value)

    def _keep(self, row: Directive, assignment: Assignment, value: Any) -> None:
        self.places[row.attribute] = assignment.where
        if row.shape is Shape.KEYED:
            self.values.setdefault(row.attribute, {})[assignment.key] = value
        elif row.shape is Shape.LIST:
            earlier = self.values.get(row.attribute, ())
            self.values[row.attribute] = tuple(dict.fromkeys((*earlier, value)))
        else:
            self.values[row.attribute] = value

    def _refuse_wrong_key(self, row: Directive, key: str | None) -> None:
        if row.shape is Shape.KEYED:
            if not key:
                raise ValueError(f"You must provide a key for field '{row.name}'", f"write {row.spelled()} = value")
            if re.search(r"[=\0\s]", key):
                raise ValueError(f"'{key}' is no name for a variable")
        elif row.shape is Shape.LIST:
            if key is None:
                raise ValueError("is a list", f"write {row.spelled()} = value")
            if key:
                raise ValueError(f"Keys provided to field '{row.name}' are ignored", f"write {row.spelled()} = value")
        elif key is not None:
            reason = "Array are not allowed in the global section" if self.pool is None else "takes no key in brackets"
            raise ValueError(reason, f"write {row.name} = value")

    def _substitute(self, row: Directive, text: str) -> str:
        """`$pool` anywhere, and `$NAME` as all of a variable's value."""
        if _POOL_VARIABLE in text:
            if self.pool is None:
                raise ValueError(f"Can't use '{_POOL_VARIABLE}' when the pool is not defined")
            return text.replace(_POOL_VARIABLE, self.pool)
        found = _MASTERS_VARIABLE.fullmatch(text) if row.shape is Shape.KEYED else None
        return self.environ.get(found[1], "") if found else text

    def _unknown(self, assignment: Assignment) -> Problem:
        name = assignment.name.lower()
        if name in PHPS_OWN:
            advice = "a Python application has its settings in its own files, or in its environment"
            return _unknown(assignment, "is PHP's own", advice)
        other = PoolSettings if self.pool is None else GlobalSettings
        place = "the section of a pool" if self.pool is None else "[global]"
        if name in directives_by_name(other):
            return _unknown(assignment, f"belongs in {place}")
        near = get_close_matches(name, [*self.rows, INCLUDE.name], n=1)
        advice = f"did you mean '{near[0]}'?" if near else ""
        if not near and (far := get_close_matches(name, list(directives_by_name(other)), n=1)):
            advice = f"did you mean '{far[0]}', in {place}?"
        return _unknown(assignment, "no such directive", advice)

    # ── done reading ────────────────────────────────────────────────────────────────────────────────────────────────

    def finish_global(self, base: str, prefix: str | None) -> GlobalSettings:
        """The settings, with paths that begin at the prefix of -p or where the table says."""
        values = {
            row.attribute: _rebase(row, self.values[row.attribute], prefix or row.base or base)
            for row in directives_of(GlobalSettings)
            if row.attribute in self.values
        }
        return GlobalSettings(places=self.places, **values)

    def finish_pool(self, base: str) -> PoolSettings:
        """The settings, with paths that begin at the pool's prefix or at `base`.

        Where a mandatory directive is missing its example stands in, so that the rules between directives still speak.
        """
        assert self.pool is not None
        own_base = join_path(base, self.values.get("prefix", base))
        values = {}
        for row in directives_of(PoolSettings):
            if row.attribute in self.values:
                is_prefix = row.attribute == "prefix"
                values[row.attribute] = _rebase(row, self.values[row.attribute], base if is_prefix else own_base)
            elif row.is_mandatory:
                values[row.attribute] = row.kind.read(row.example)
                self._report_missing(row)
        return PoolSettings(name=self.pool, places=self.places, **values)

    def _report_missing(self, row: Directive) -> None:
        if row.attribute not in self.places:
            reason = f"[pool {self.pool}] {row.missing}"
            advice = f"write {row.name} = {row.example}"
            self.problems.append(Problem(catalogue.MISSING_DIRECTIVE, self.places[""], row.name, reason, advice))


def _unknown(assignment: Assignment, reason: str, advice: str = "") -> Problem:
    return Problem(catalogue.UNKNOWN_DIRECTIVE, assignment.where, assignment.name, reason, advice)


def _rebase(row: Directive, value: Any, base: str) -> Any:
    return row.kind.rebase(value, base) if row.kind.rebase else value


def text_of(row: Directive, raw: Raw) -> str:
    """A value as INI would spell it. A type that the directive does not take is refused, not converted."""
    if isinstance(raw, str):
        return raw
    if type(raw) not in row.kind.natives:
        raise ValueError(f"{_describe(raw)} is not {row.kind.words.replace('`', '')}", _native_advice(raw))
    if isinstance(raw, bool):
        return "yes" if raw else "no"
    if not isinstance(raw, list):
        return str(raw)
    items = [str(item) for item in raw]
    for item in items:
        if row.kind.separator in item:
            raise ValueError(f"'{item}' holds a '{row.kind.separator}'", "write each item on its own")
    return row.kind.separator.join(items)


def _describe(raw: Raw) -> str:
    if isinstance(raw, bool):
        return f"the boolean {str(raw).lower()}"
    return "a list" if isinstance(raw, list) else f"the number {raw}"


def _native_advice(raw: Raw) -> str:
    if isinstance(raw, list):
        return "write one value"
    # 0o660 has become 432 by now: repeating the number would be bad advice.
    return "write a string, in quotes"
