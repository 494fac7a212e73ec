"""A pool's report: over the line and back, and what a terminal gets to see of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.errors import MessageError
from pyfpm.status.reports import LONGEST_NOTE, PoolReport, read_report, table

WWW = PoolReport("www", "static", "serving", 3, 1, 2, 3, 4, 1234, queue=0, peak=4, slow=5, recycled=1, crashed=1)


def test_a_report_is_one_line_and_comes_back() -> None:
    report = dataclasses.replace(WWW, trouble="first\nsecond é \x1b[31m", reload="took over")
    assert "\n" not in report.line()
    assert read_report(report.line()) == report


@given(
    st.builds(
        PoolReport,
        *[st.text(max_size=40)] * 3,
        *[st.integers()] * 6,
        st.none() | st.integers(),
        *[st.integers()] * 5,
        st.text(max_size=40),
        st.text(),
    )
)
def test_any_report_comes_back(report: PoolReport) -> None:
    assert read_report(report.line()) == report


def test_a_long_trouble_is_cut() -> None:
    found = read_report(dataclasses.replace(WWW, trouble="x" * 10_000).line())
    assert len(found.trouble) == LONGEST_NOTE
    assert found.trouble.endswith("[...]")


def test_what_a_newer_master_says_beyond_it_is_left_out() -> None:
    assert read_report(json.dumps({**json.loads(WWW.line()), "more": 1})) == WWW


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "{}", "[" * 100_000, '{"pool": "www"}'])
def test_what_is_no_report(line: str) -> None:
    with pytest.raises(MessageError):
        read_report(line)


@pytest.mark.parametrize("field", dataclasses.fields(PoolReport))
@pytest.mark.parametrize("value", [None, True, 1.5, [], {}])
def test_every_member_is_checked(field: dataclasses.Field[object], value: object) -> None:
    if field.name == "queue" and value is None:
        return  # unknown, which is not 0
    with pytest.raises(MessageError, match=field.name):
        read_report(json.dumps({**json.loads(WWW.line()), field.name: value}))


@given(st.text())
def test_any_text_is_a_report_or_a_message_error(line: str) -> None:
    with contextlib.suppress(MessageError):
        read_report(line)


def test_the_table() -> None:
    shop = PoolReport("webshop", "ondemand", "failing", 12, 0, 0, 0, 50, 7, trouble="No module\nTraceback")
    assert table([WWW, shop]) == [
        "POOL     PM        STATE    GEN  IDLE  BUSY  TOTAL  MAX  PEAK  QUEUE  REQUESTS  SLOW  RESTARTS  NOTE",
        "www      static    serving    3     1     2      3    4     4      0      1234     5         2",
        "webshop  ondemand  failing   12     0     0      0   50     0      ?         7     0         0  No module",
    ]


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    (_, row) = table([dataclasses.replace(WWW, trouble="\x1b[2Jgone\r", reload="x")])
    assert row.endswith("?[2Jgone?")
