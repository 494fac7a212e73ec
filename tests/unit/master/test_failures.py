"""Which failures are worth a line: what is new, and once that it goes on."""

from __future__ import annotations

import pytest

from pyfpm import catalogue
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.failures import Failures
from pyfpm.master.reason import Reason
from tests.unit.logs.test_error_log import Sink


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def failures(sink: Sink) -> Failures:
    log = ErrorLog(clock=lambda: 0.0)
    log.write_to(sink)
    log.launched()
    return Failures("www", log)


def late(pid: int, seconds: int) -> Reason:
    return Reason(catalogue.TEMPLATE_LATE, f"template {pid} was not ready within {seconds} s\nline\nlast line")


def test_the_same_again_is_not_said_again(failures: Failures, sink: Sink) -> None:
    for number in range(5):
        failures.count(late(900 + number, number), now=100.0 * number)
    said = b"".join(sink.lines)
    assert said.count(b"was not ready") == 1
    assert said.count(b"failed twice in a row") == 1
    assert failures.streak.failures == 5


def test_something_else_is_said(failures: Failures, sink: Sink) -> None:
    failures.count(late(900, 60), now=0.0)
    failures.count(Reason(catalogue.CANNOT_LOAD, "cannot load a:b"), now=0.0)
    assert b"cannot load a:b" in b"".join(sink.lines)


def test_what_it_was_is_known_with_the_end_of_its_traceback(failures: Failures) -> None:
    traceback = "\n".join(f"line {number}" for number in range(99))
    failures.count(Reason(catalogue.CANNOT_LOAD, f"cannot load a:b\n{traceback}"), now=0.0)
    assert failures.reason is not None
    assert failures.reason.text.splitlines()[:2] == ["cannot load a:b", "line 93"]
