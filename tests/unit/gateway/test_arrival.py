"""Time stamps of front servers, in whatever unit; and whatever else clients put there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.gateway.arrival import came_at

NOW = 1_795_294_369.5


@pytest.mark.parametrize("mark", ["", "t="])
@pytest.mark.parametrize(
    "stamp", ["1795294367.25", "1795294367250", "1795294367250.0", "1795294367250000", "1795294367250000000"]
)
def test_the_unit_is_told_by_its_size(mark: str, stamp: str) -> None:
    assert came_at(mark + stamp, NOW) == pytest.approx(NOW - 2.25)


@pytest.mark.parametrize(
    "stamp",
    [
        "", "t=", "now", "t=t=1795294367", "1795294367s", "1795294367, 1795294367", "nan", "inf", "-1795294367", "0",
        "\xb2", "1795294369.6", "1795294370000", "1795207900", "1e400", "1795294367." + "0" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_moment_of_the_last_day_is_unknown(stamp: str) -> None:
    assert came_at(stamp, NOW) is None


@given(st.text())
def test_no_text_fails(stamp: str) -> None:
    found = came_at(stamp, NOW)
    assert found is None or NOW - 86400 <= found <= NOW
