"""TOML to the same statements as INI: [global], [pool.NAME], tables within them flattened to dotted names.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: problems in the list that it returns beside the statements; never by an exception.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from typing import TYPE_CHECKING, Any

from pyfpm import catalogue
from pyfpm.config.directive import Shape, directives_of
from pyfpm.config.directives import GLOBAL_SECTION, GlobalSettings, PoolSettings
from pyfpm.config.statements import Assignment, Section, Statement
from pyfpm.config.toml_lines import lines_of
from pyfpm.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str, ...]

_POOLS = "pool"
_ROWS = (*directives_of(GlobalSettings), *directives_of(PoolSettings))
_HEADS = {f"{row.name}.{row.toml_head}": row.name for row in _ROWS if row.toml_head}
_KEYED = {row.name for row in _ROWS if row.shape is Shape.KEYED}
_LISTS = {row.name for row in _ROWS if row.shape is Shape.LIST}
_ADVICE = "write [global], or [pool.NAME] with the name of a pool"


def parse_toml(content: bytes, file: str) -> tuple[list[Statement], list[Problem]]:
    """All that the file says, and all that is wrong with how it says it."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"byte 0x{content[error.start]:02x} is not UTF-8"
        return [], [Problem(catalogue.BAD_SYNTAX, f"{file}:{line}", "", reason, "save the file as UTF-8")]
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        return [], [Problem(catalogue.BAD_SYNTAX, file, "", "tables or lists are nested too deeply")]
    except ValueError as error:  # TOMLDecodeError, and what int() says to a number of thousands of digits
        return [], [_syntax_problem(str(error), text, file)]
    return _Flattener(file, lines_of(text)).flatten(document)


def salvage_toml(content: bytes, file: str) -> list[Statement]:
    """Of a document that is none: the lines of its section [global] that are right by themselves."""
    statements: list[Statement] = []
    inside = False
    for line in content.decode("utf-8", "replace").splitlines():
        if line.lstrip().startswith("["):
            inside = line.split("#")[0].strip().strip("[]").strip().lower() == GLOBAL_SECTION
        elif inside:
            with contextlib.suppress(ValueError, RecursionError):
                # A value that could be no line of a section of its own is of no use here either.
                statements += _Flattener(file, {}).flatten({GLOBAL_SECTION: tomllib.loads(line)})[0]
    return statements


def _syntax_problem(reason: str, text: str, file: str) -> Problem:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", reason)
    if found:
        reason = f"{reason[: found.start()]}, in column {found[2]}"
        return Problem(catalogue.BAD_SYNTAX, f"{file}:{found[1]}", "", reason)
    line = text.rstrip("\n").count("\n") + 1
    return Problem(catalogue.BAD_SYNTAX, f"{file}:{line}", "", reason.removesuffix(" (at end of document)"))


class _Flattener:
    def __init__(self, file: str, lines: dict[Path, int]) -> None:
        self.file = file
        self.lines = lines
        self.statements: list[Statement] = []
        self.problems: list[Problem] = []

    def flatten(self, document: dict[str, Any]) -> tuple[list[Statement], list[Problem]]:
        for name, table in document.items():
            if name.lower() == GLOBAL_SECTION and isinstance(table, dict):
                self._add_section(GLOBAL_SECTION, (name,), table)
            elif name == _POOLS and isinstance(table, dict):
                self._add_pools(table)
            else:
                self._refuse((name,), name, "stands outside of any section", _ADVICE)
        return self.statements, self.problems

    def _add_pools(self, pools: dict[str, Any]) -> None:
        for name, table in pools.items():
            path = (_POOLS, name)
            if not isinstance(table, dict):
                self._refuse(path, f"{_POOLS}.{name}", "must be a table", _ADVICE)
            elif name.lower() == GLOBAL_SECTION:
                self._refuse(path, f"{_POOLS}.{name}", "is no name for a pool")
            else:
                self._add_section(name, path, table)

    def _refuse(self, path: Path, subject: str, reason: str, advice: str = "") -> None:
        self.problems.append(Problem(catalogue.BAD_SECTION, self._where(path), subject, reason, advice))

    def _add_section(self, name: str, path: Path, table: dict[str, Any]) -> None:
        self.statements.append(Section(name, self._where(path)))
        self.statements.extend(self._assignments(path, "", table))

    def _assignments(self, path: Path, above: str, table: dict[str, Any]) -> Iterator[Assignment]:
        for key, value in table.items():
            here = (*path, key)
            name = f"{above}.{key}" if above else key
            if name in _KEYED and isinstance(value, dict):
                for inner, item in value.items():
                    yield from self._assignment((*here, inner), name, inner, item)
            elif isinstance(value, dict):
                yield from self._assignments(here, name, value)
            elif name in _LISTS:
                for item in value if isinstance(value, list) else [value]:
                    yield from self._assignment(here, name, "", item)
            else:
                yield from self._assignment(here, _HEADS.get(name, name), None, value)

    def _assignment(self, path: Path, name: str, key: str | None, value: Any) -> Iterator[Assignment]:
        """One assignment, or a problem for a value of a type that no directive takes."""
        items = value if isinstance(value, list) else [value]
        if all(isinstance(item, (str, int, float)) for item in items):
            yield Assignment(name, key, value, self._where(path))
        else:
            reason = f"a value cannot be {_describe(value)}"
            advice = "write a string, a number, true or false"
            self.problems.append(Problem(catalogue.BAD_VALUE, self._where(path), name, reason, advice))

    def _where(self, path: Path) -> str:
        """The line of a key, or of the nearest table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.file}:{self.lines.get(path, 1)}"


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    return "a list of lists or tables" if isinstance(value, list) else "a date or a time"
