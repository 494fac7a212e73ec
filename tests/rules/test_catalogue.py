"""The error catalogue: source, numbers and docs/errors.md are in step, and nobody complains without a code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from pyfpm import catalogue
from tests.rules.source import MODULES, ROOT, Module

CODES = catalogue.codes()
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
_ENTRY = re.compile(
    r"## (?P<code>PYFPM-\d{3})\n\n"
    r"```\n(?P<lines>.+?)```\n\n"
    r"\*\*Cause:\*\* .+?\n\n\*\*What pyfpm did:\*\* .+?\n\n\*\*What to do:\*\* .+?\n",
    re.DOTALL,
)
# What makes a line of the log, or becomes one; by the argument that has the code, and the one that has the text.
SPEAKERS = {
    "warning": (0, 1), "error": (0, 1), "alert": (0, 1), "warn": (0, 1), "_complain": (0, 1), "kill": (0, 1),
    "StartError": (0, 1), "Reason": (0, 1), "ApplicationError": (1, 0),
    "Problem": (0, 3), "_problem": (0, 3), "problem_with": (0, 3), "_refuse": (0, 3),
    "Finding": (2, 1), "partial": (1, None), "marked": (1, 0), "LoadFailed": (0, None), "say": (1, 2), "relay": (1, 2),
}  # fmt: skip
QUOTED = ("StartError", "Reason")  # stand in the middle of other lines, too
LEVELS = {"warning": "WARNING", "warn": "WARNING", "error": "ERROR", "alert": "ALERT"}


class Complaint(NamedTuple):
    """A call that names a code. `pattern` is what its text must look like, as far as can be told from the source."""

    place: str
    name: str
    level: str  # "" where the call does not tell
    pattern: str


def name_of_code(node: ast.expr | None) -> str:
    """ "MAX_CHILDREN" of `catalogue.MAX_CHILDREN`; "" for all else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "catalogue":
        return node.attr
    return ""


def codes_of(node: ast.expr | None, known: dict[str, list[ast.expr]]) -> list[str]:
    """The codes that an argument may be."""
    if isinstance(node, ast.IfExp):
        return [name_of_code(node.body), name_of_code(node.orelse)]
    if isinstance(node, ast.Name):
        return [name for value in known.get(node.id, []) for name in codes_of(value, {})]
    return [name_of_code(node)]


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def argument(node: ast.Call, at: int | None) -> ast.expr | None:
    return node.args[at] if at is not None and len(node.args) > at else None


def pattern_of(text: ast.expr | None, known: dict[str, list[ast.expr]]) -> str:
    """A regular expression for what an expression can come to; anything at all where the source does not tell."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return re.escape(text.value.partition("\n")[0])
    if isinstance(text, ast.JoinedStr):
        return "".join(pattern_of(part, known) for part in text.values)
    if isinstance(text, ast.FormattedValue):
        return pattern_of(text.value, known)
    if isinstance(text, ast.Name) and text.id in known:
        others = {name: values for name, values in known.items() if name != text.id}
        return "(?:" + "|".join(pattern_of(value, others) for value in known[text.id]) + ")"
    return ".*"


def assigned_in(function: ast.AST) -> dict[str, list[ast.expr]]:
    """What each local name may stand for."""
    known: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            targets, values = (target.elts, value.elts) if several else ([target], [value])  # type: ignore[attr-defined]
            for name, one in zip(targets, values, strict=True):
                if isinstance(name, ast.Name):
                    known.setdefault(name.id, []).append(one)
    return known


def complaints_of(module: Module) -> Iterator[Complaint]:
    constants = ast.Module([node for node in module.tree.body if isinstance(node, ast.Assign)], [])
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)]
    for function in (constants, *functions):
        known = assigned_in(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and called(node) in SPEAKERS:
                code_at, text_at = SPEAKERS[called(node)]
                for name in codes_of(argument(node, code_at), known):
                    place = f"{module.name}:{node.lineno}"
                    if not name:
                        continue
                    before = "(?:.*: )?" if called(node) in QUOTED else r"(?:child PID |template PID )?"
                    pattern = rf"(?:\[pool POOL\] )?{before}(?:{pattern_of(argument(node, text_at), known)}).*"
                    yield Complaint(place, name, LEVELS.get(called(node), ""), pattern)


@cache
def complaints() -> dict[str, list[Complaint]]:
    """All of them, by module. Not worked out while the tests are collected: every process of a run does that."""
    return {module.name: list(complaints_of(module)) for module in MODULES}


ENTRIES = {found["code"]: found["lines"].splitlines() for found in _ENTRY.finditer(PAGE)}


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_number_is_given_twice() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(100 <= code <= 999 for code in CODES.values()), "the hundreds are areas"


def test_the_numbers_are_in_order() -> None:
    assert list(CODES.values()) == sorted(CODES.values())


def test_every_code_is_used_and_every_used_one_is_there() -> None:
    used = {
        name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and (name := name_of_code(node)).isupper()
    }
    assert used == {*CODES, "SAID_BY_POOLS"}


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name)
def test_nobody_complains_without_a_code(module: Module) -> None:
    """What mypy cannot see: a code that is there and says nothing, such as `Code(0)`, or a message without one."""
    wrong = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and called(node) in ("warning", "error", "alert", "warn", "LoadFailed"):
            code = argument(node, SPEAKERS[called(node)][0])
            passed_on = isinstance(code, (ast.Name, ast.Attribute)) and ast.unparse(code).endswith("code")
            chosen = isinstance(code, ast.IfExp) and name_of_code(code.body) and name_of_code(code.orelse)
            if not name_of_code(code) and not passed_on and not chosen and not ast.unparse(node.func).startswith("re."):
                wrong.append(f"{module.name}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_has_every_code_once_and_in_order() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == [str(code) for code in CODES.values()]


def test_every_entry_has_line_cause_deed_and_remedy() -> None:
    assert list(ENTRIES) == [str(code) for code in CODES.values()]


def said(line: str) -> tuple[str, str]:
    """(level, text) of a line of the page, without what stands before the text of the call."""
    found = re.fullmatch(r"(?:(WARNING|ERROR|ALERT): )?(?:FILE:LINE: (?:[^ ]+: )?|FILE: )?(.*)", line)
    assert found is not None
    return found[1] or "", found[2]


def is_on_the_page(complaint: Complaint) -> bool:
    lines = [said(line) for line in ENTRIES[str(CODES[complaint.name])]]
    fitting = [level for level, text in lines if re.fullmatch(complaint.pattern, text)]
    return bool(fitting) and (not complaint.level or complaint.level in fitting)


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name)
def test_the_page_has_the_lines_that_the_source_says(module: Module) -> None:
    assert [one for one in complaints()[module.name] if not is_on_the_page(one)] == []


@pytest.mark.parametrize("code", CODES.values(), ids=str)
def test_the_page_has_no_line_that_nobody_says(code: catalogue.Code) -> None:
    """Every line of the page is one that some call says."""
    patterns = [one.pattern for many in complaints().values() for one in many if CODES[one.name] == code]
    wrong = [line for line in ENTRIES[str(code)] if not any(re.fullmatch(one, said(line)[1]) for one in patterns)]
    assert wrong == [] or not patterns
