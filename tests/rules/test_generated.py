"""Generated files are what the table of directives gives today."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfpm.config.render import GENERATED

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", GENERATED)
def test_the_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run: python -m pyfpm.config.render"
