"""The error log: PHP-FPM's lines, and what a text may not do to them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.catalogue import WORKER_DIED as CODE
from pyfpm.logs.error_log import ErrorLog, Level
from pyfpm.logs.files import LogFile

NOW = 1_795_294_369.25
TIME = "[21-Nov-2026 20:52:49]"
GRAMMAR = re.compile(rb"\[\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\] (NOTICE|WARNING|ERROR|ALERT): [^\n]*\n")


class Sink(LogFile):
    """A file in memory, which can be full."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.lost = 0
        self.reason = "full"
        self.full = False
        self._inherited = None

    def write(self, line: bytes) -> bool:
        self.lost += self.full
        if not self.full:
            self.lines += line.splitlines(keepends=True)
        return not self.full


@pytest.fixture
def sink() -> Sink:
    return Sink()


def log_to(sink: Sink, level: Level = Level.NOTICE, limit: int = 1024) -> ErrorLog:
    log = ErrorLog(level, limit, clock=lambda: NOW)
    log.write_to(sink)
    log.launched()
    return log


def test_php_fpms_lines(sink: Sink) -> None:
    log = log_to(sink)
    log.debug("not shown")
    log.notice("fpm is running, pid 17")
    log.warning(CODE, "child 912 exited", pool="www")
    log.error(CODE, "é")
    log.alert(CODE, "the end")
    assert b"".join(sink.lines).decode().splitlines() == [
        f"{TIME} NOTICE: fpm is running, pid 17",
        f"{TIME} WARNING: [pool www] child 912 exited [PYFPM-411]",
        f"{TIME} ERROR: é [PYFPM-411]",
        f"{TIME} ALERT: the end [PYFPM-411]",
    ]


def test_debug_shows_microseconds_and_the_pid_on_every_line(sink: Sink) -> None:
    log_to(sink, Level.DEBUG).notice("text", pool="www")
    expected = f"[21-Nov-2026 20:52:49.250000] NOTICE: pid {os.getpid()}, [pool www] text\n"
    assert sink.lines == [expected.encode()]


def test_details_become_lines_with_the_same_head(sink: Sink) -> None:
    log_to(sink).error(CODE, "failed", pool="www", detail='Traceback:\n\tFile "a"\n\nValueError\n')
    head = f"{TIME} ERROR: [pool www] "
    assert b"".join(sink.lines).decode() == "".join(
        f"{head}{text}\n" for text in ("failed [PYFPM-411]", "Traceback:", '\tFile "a"', "", "ValueError")
    )


def test_a_long_line_is_cut_at_the_limit(sink: Sink) -> None:
    log = log_to(sink, limit=512)
    log.notice("x" * 600)
    log.notice("é" * 600)
    assert len(sink.lines[0]) == 512
    assert len(sink.lines[1]) in (511, 512)  # no character is torn
    assert all(line.decode().endswith("...\n") for line in sink.lines)


def test_a_line_that_is_cut_keeps_its_code(sink: Sink) -> None:
    log_to(sink, limit=512).warning(CODE, "x" * 600, detail="y" * 600)
    first, second = sink.lines
    assert first.endswith(b"xxx... [PYFPM-411]\n")
    assert second.endswith(b"yyyy...\n")
    assert len(first) == len(second) == 512


@given(st.text(), st.text(), st.text())
def test_every_text_keeps_the_grammar(text: str, pool: str, detail: str) -> None:
    sink = Sink()
    log_to(sink, limit=512).error(CODE, text, pool, detail)
    assert [line for line in sink.lines if b"[PYFPM-411]\n" in line][:1] == sink.lines[:1], "however long it is"
    assert all(GRAMMAR.fullmatch(line) and len(line) <= 512 for line in sink.lines)
    assert not any(c < 32 and c not in b"\t\n" for line in sink.lines for c in line)


def test_worker_lines_pass_at_every_level(sink: Sink) -> None:
    log_to(sink, Level.ALERT).raw(b"said\n")
    assert sink.lines == [b"said\n"]


def test_before_a_file_is_open_lines_go_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    ErrorLog(clock=lambda: NOW).error(CODE, "early")
    assert capfd.readouterr().err.endswith("ERROR: early [PYFPM-411]\n")


def test_the_start_is_seen_on_stderr_too(sink: Sink, capfd: pytest.CaptureFixture[str]) -> None:
    log = ErrorLog(clock=lambda: NOW)
    log.write_to(sink)
    log.notice("starting")
    log.launched()
    log.notice("running")
    assert len(sink.lines) == 2
    shown = capfd.readouterr().err
    assert "starting" in shown
    assert "running" not in shown


def test_lost_lines_are_told_once(sink: Sink) -> None:
    log = log_to(sink)
    sink.full = True
    log.notice("one")
    log.notice("two")
    sink.full = False
    log.notice("three")
    log.notice("four")
    assert [line.decode().split(": ", 1)[1] for line in sink.lines] == [
        "three\n",
        "2 log lines were lost: full [PYFPM-603]\n",
        "four\n",
    ]


def test_reopen(tmp_path: Path) -> None:
    log = ErrorLog(clock=lambda: NOW)
    log.reopen()
    file = LogFile(str(tmp_path / "log"))
    log.write_to(file)
    log.launched()
    (tmp_path / "log").unlink()
    log.reopen()
    log.notice("new")
    assert (tmp_path / "log").read_bytes().endswith(b"NOTICE: new\n")
    file.close()
