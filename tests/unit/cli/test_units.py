"""What people read in a narrow column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.cli.units import fit, show_bytes, show_count, show_seconds, show_share, width_of
from tests.unit.cli.examples import HOSTILE


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0s"), (0.349, "0.3s"), (12.34, "12.3s"), (99.9, "99.9s"), (99.96, "1m40s"), (725, "12m05s"),
        (3599.4, "59m59s"), (3599.6, "1h00m"), (12345, "3h25m"), (86399, "23h59m"), (86400, "1d00h"),
        (4e7, "462d23h"), (None, "?"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, shown: str) -> None:
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0B"), (999, "999B"), (1000, "1.0K"), (9626, "9.4K"), (22_334_668, "21.3M"), (1 << 30, "1.0G"),
        (500 << 20, "500M"), (1 << 62, "4.0E"), (1 << 80, "1048576E"), (None, "?"),
    ],
)  # fmt: skip
def test_memory(amount: int | None, shown: str) -> None:
    assert show_bytes(amount) == shown


def test_what_is_unknown_is_not_nothing() -> None:
    assert [show_share(None), show_count(None)] == ["?", "?"]
    assert [show_share(0.0), show_share(0.987), show_count(0)] == ["0%", "99%", "0"]


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 3, "abc"), ("abcd", 3, "ab~"), ("abcd", 1, "~"), ("abcd", 0, ""), ("日本", 4, "日本"),
        ("日本", 3, "日~"), ("日本", 2, "~"), ("a\u0301\u0301b", 2, "ab"), ("é", 1, "é"),
    ],
)  # fmt: skip
def test_text_is_cut_by_cells(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown


@given(st.text() | st.just(HOSTILE), st.integers(0, 50))
def test_no_text_is_wider_than_its_room(text: str, width: int) -> None:
    assert width_of(fit(text, width)) <= width
