"""What an import leaves behind is found, with the module that made it; what it takes away again is not."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from pyfpm.template.leftovers import Leftovers

if TYPE_CHECKING:
    from pathlib import Path

ENDS = "import os; ends = os.pipe()\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def found_after_import(place: Path, **modules: str) -> list[str]:
    """Of the first of `modules`, each with its source."""
    for name, source in modules.items():
        (place / f"{name}.py").write_text(source, encoding="utf-8")
    importlib.invalidate_caches()
    with Leftovers() as leftovers:
        made = importlib.import_module(next(iter(modules)))
    try:
        return leftovers.found
    finally:
        made.__dict__.get("clean_up", lambda: None)()


def test_a_module_that_leaves_nothing(place: Path) -> None:
    assert found_after_import(place, tidy="import os\nfor end in os.pipe(): os.close(end)\n") == []


def test_it_is_put_down_to_the_module_that_was_running(place: Path) -> None:
    outer = "import inner\ndef clean_up():\n    for end in inner.ends: inner.os.close(end)\n"
    found = found_after_import(place, outer=outer, inner=ENDS)
    assert len(found) == 2
    assert all(words.startswith("descriptor ") and words.endswith(", made by inner") for words in found)


def test_a_thread_has_its_name(place: Path) -> None:
    source = """
import threading
gate = threading.Event()
thread = threading.Thread(target=gate.wait, name="poller")
thread.start()
def clean_up():
    gate.set()
    thread.join()
"""
    assert found_after_import(place, starts=source) == ["thread poller, made by starts"]


def test_importing_is_as_before_afterwards(place: Path) -> None:
    original = importlib.machinery.SourceFileLoader.exec_module
    with pytest.raises(ZeroDivisionError):
        found_after_import(place, broken="1 / 0\n")
    assert importlib.machinery.SourceFileLoader.exec_module is original
