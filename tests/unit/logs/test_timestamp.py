"""Local time as text."""

from __future__ import annotations

import locale
import time

import pytest

from pyfpm.logs.timestamp import stamp


def test_months_are_english_and_double_percents_stay() -> None:
    assert stamp("%d-%b-%h %%b %%%b")(1_795_294_369.9) == "21-Nov-Nov %b %Nov"


def test_a_second_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    render = time.strftime

    def counted(pattern: str, at: time.struct_time) -> str:
        calls.append(at)
        return render(pattern, at)

    monkeypatch.setattr(time, "strftime", counted)
    show = stamp("%S")
    assert [show(at) for at in (10.0, 10.9, 11.0, 10.5)] == ["10", "10", "11", "10"]
    assert len(calls) == 3


def test_an_applications_locale_does_not_matter() -> None:
    names = [name for name in locale.locale_alias.values() if name.startswith(("de_", "fr_"))]
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in names:
            try:
                locale.setlocale(locale.LC_TIME, name)
            except locale.Error:
                continue
            assert stamp("%b")(1_772_000_000) == "Feb"
    finally:
        locale.setlocale(locale.LC_TIME, before)
