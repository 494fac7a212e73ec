"""What counts as a changed file, and what does not."""

from __future__ import annotations

import os
import shutil
import sys
import types
from typing import TYPE_CHECKING

import pytest

from pyfpm.template.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEVER = 1 << 62  # the load began after any change that can be


def rewrite(path: Path) -> None:
    path.write_text("b = 1\n", encoding="utf-8")


def touch(path: Path) -> None:
    os.utime(path, (0, 0))


def put_another_in_its_place(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".new"))  # with its times, as rsync -a and cp -p do
    path.with_suffix(".new").rename(path)


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch, began: int) -> Files:
    path.write_text("a = 1\n", encoding="utf-8")
    module = types.ModuleType("site_of_a_test")
    module.__file__ = str(path)
    monkeypatch.setattr(sys, "modules", {module.__name__: module})
    return Files.loaded(began)


def test_what_nobody_touches_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    files = loaded(path, monkeypatch, NEVER)
    path.read_bytes()
    assert files.changed() == ""


@pytest.mark.parametrize("change", [rewrite, touch, put_another_in_its_place, os.unlink])
def test_whatever_is_done_to_it(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.py"
    files = loaded(path, monkeypatch, NEVER)
    change(path)
    assert files.changed() == str(path)


def test_what_is_replaced_while_it_loads_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    assert loaded(path, monkeypatch, began=1).changed() == str(path)


def test_our_own_files_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", {name: one for name, one in sys.modules.items() if name.startswith("pyfpm")})
    assert Files.loaded(1).changed() == ""
