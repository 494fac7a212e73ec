"""Reports of pools, workers and stacks: over the line and back, whatever is in them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm import messages
from pyfpm.errors import MessageError
from pyfpm.status.reports import (
    LONGEST_NOTE,
    PoolReport,
    Report,
    StackReport,
    WorkerReport,
    read_stack,
    read_status,
)

WWW = PoolReport("www", "static", "serving", 3, 1, 2, 3, 4, 1234, queue=0, peak=4, slow=5, recycled=1, crashed=1)
WORKER = WorkerReport("www", 912, "Running", 60.0, 3, 7, 2.5, "GET", "/x?y")
STACK = StackReport(**dataclasses.asdict(WORKER), main_thread=1, depth=20, text="Thread 0x1")
finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | st.integers()


def pool_of(line: str) -> PoolReport:
    pools, _ = read_status([line])
    return pools[0]


def any_of(kind: type[Report]) -> st.SearchStrategy[Report]:
    by_type = {
        "int": st.integers(),
        "str": st.text(max_size=40),
        "bool": st.booleans(),
        "float": finite,
        "int | None": maybe,
        "str | None": st.none() | st.text(max_size=40),
        "float | None": st.none() | finite,
    }
    members: dict[str, st.SearchStrategy[Any]] = {
        field.name: by_type[str(field.type)] for field in dataclasses.fields(kind)
    }
    return st.builds(kind, **members)


def test_a_report_is_one_line_and_comes_back() -> None:
    report = dataclasses.replace(WWW, trouble="first\nsecond é \x1b[31m", reload="took over")
    assert "\n" not in report.line()
    assert pool_of(report.line()) == report


@given(any_of(PoolReport))
def test_any_report_of_a_pool_comes_back(report: PoolReport) -> None:
    assert pool_of(report.line()) == report


@given(any_of(StackReport))
def test_any_stacks_come_back(report: StackReport) -> None:
    assert read_stack(report.line()) == report


def test_pools_and_workers_come_in_one_answer() -> None:
    assert read_status([WWW.line(), WORKER.line()]) == ([WWW], [WORKER])


def test_what_an_older_master_does_not_tell_is_unknown() -> None:
    told = {name: value for name, value in json.loads(WWW.line()).items() if name not in ("timed_out", "busy_5m")}
    report = pool_of(json.dumps(told))
    assert (report.timed_out, report.busy_5m) == (None, None)


def test_a_long_trouble_is_cut() -> None:
    found = pool_of(dataclasses.replace(WWW, trouble="x" * 10_000).line())
    assert len(found.trouble) == LONGEST_NOTE
    assert found.trouble.endswith("[...]")


@pytest.mark.parametrize("text", ["x" * 65536, "\n" * 65536, "\x1b" * 65536, "\U0001f40d" * 65536])
def test_stacks_of_any_length_fit_in_a_message(text: str) -> None:
    line = dataclasses.replace(STACK, text=text).line()
    assert len(line.encode()) < messages.LARGEST_TEXT
    kept = read_stack(line).text
    assert kept == text or (kept.endswith("[...]") and text.startswith(kept[: -len("\n[...]")]))


def test_what_a_newer_master_says_beyond_it_is_left_out() -> None:
    assert pool_of(json.dumps({**json.loads(WWW.line()), "more": 1})) == WWW


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "{}", "[" * 100_000, '{"pool": "www"}'])
def test_what_is_no_report(line: str) -> None:
    for read in (read_stack, pool_of):
        with pytest.raises(MessageError):
            read(line)


@pytest.mark.parametrize("field", dataclasses.fields(StackReport))
@pytest.mark.parametrize("value", [None, "text", 1, 1.5, True, [], {}])
def test_every_member_is_checked(field: dataclasses.Field[object], value: object) -> None:
    types = {"int": int, "str": str, "bool": bool, "float": (float, int), "int | None": (int, type(None))}
    allowed = types.get(str(field.type), (float, int, type(None)))
    if isinstance(value, allowed) and isinstance(value, bool) == (allowed is bool):  # type: ignore[arg-type]
        return
    with pytest.raises(MessageError, match=field.name):
        read_stack(json.dumps({**json.loads(STACK.line()), field.name: value}))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_numbers_are_finite(value: str) -> None:
    with pytest.raises(MessageError, match="elapsed"):
        read_stack(STACK.line().replace('"elapsed":2.5', f'"elapsed":{value}'))


@given(st.text())
def test_any_text_is_a_report_or_a_message_error(line: str) -> None:
    with contextlib.suppress(MessageError):
        pool_of(line)
