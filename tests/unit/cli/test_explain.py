"""`pyfpm explain`: any code that somebody may have copied from a log, and nothing of Markdown left in the answer."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pyfpm.catalogue import codes
from pyfpm.cli.explain import explain


@pytest.mark.parametrize("code", ["417", "PYFPM-417", "pyfpm-417", "[PYFPM-417]"])
def test_a_code_as_it_was_copied(code: str) -> None:
    shown = CliRunner().invoke(explain, [code])
    assert shown.exit_code == 0
    assert shown.output.startswith("PYFPM-417\n\n    WARNING: [pool POOL] server reached pm.max_children")
    assert "\nCause: " in shown.output
    assert "\nWhat to do: " in shown.output


@pytest.mark.parametrize("code", [str(code) for code in codes().values()])
def test_every_entry_is_plain_text(code: str) -> None:
    shown = CliRunner().invoke(explain, [code]).output
    assert not [mark for mark in ("**", "`", "](", "##") if mark in shown]


def test_without_a_code_it_lists_them() -> None:
    lines = CliRunner().invoke(explain).output.splitlines()
    assert [line.split()[0] for line in lines] == [str(code) for code in codes().values()]


@pytest.mark.parametrize("code", ["1", "four", "", "417x", "-1", "9" * 40])
def test_what_is_no_code_is_wrong_usage(code: str) -> None:
    assert CliRunner().invoke(explain, ["--", code]).exit_code == 2, "64 for the command as a whole"
