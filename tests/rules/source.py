"""What the laws look at: every module of the package, read and parsed once.

Runs in: tests.
Fails by: SyntaxError.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pyfpm"


@dataclass(frozen=True)
class Module:
    """One file: `name` is its path from the package ("master/main.py"), `folder` "master", or the stem at the top."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def folder(self) -> str:
        parts = self.path.relative_to(PACKAGE).parts
        return parts[0] if len(parts) > 1 else self.path.stem

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def header(self) -> str:
        return ast.get_docstring(self.tree) or ""

    def imported(self) -> set[str]:
        """The full names of all modules that it imports, wherever in the file."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                found |= {f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name)}
        return found

    def attributes(self) -> set[str]:
        """Everything of the form `name.attribute`, also what is imported by name."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.add(f"{node.value.id}.{node.attr}")
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return found


def is_module(package: str, name: str) -> bool:
    """Whether `from package import name` brings in a module of ours."""
    if package.partition(".")[0] != "pyfpm":
        return False
    place = ROOT.joinpath(*package.split("."), name)
    return place.is_dir() or place.with_suffix(".py").is_file()


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
NAMES = [module.name for module in MODULES]
