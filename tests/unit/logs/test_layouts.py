"""How events look to each reader: a file, the journal, syslog; as lines and as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.catalogue import WORKER_DIED as CODE
from pyfpm.logs.error_log import ErrorLog, Level, PoolLog, is_journal
from pyfpm.logs.events import Event, Manner
from pyfpm.logs.layouts import Layout, Reader
from pyfpm.logs.worker_output import OutputLines
from tests.unit.logs.test_error_log import NOW, TIME, Sink

JSON = Manner(is_json=True)
TEXT = Manner()
HOSTILE = st.text() | st.binary(max_size=80).map(lambda data: data.decode("utf-8", "surrogateescape"))


def event(text: str = "text", detail: str = "", **more: Any) -> Event:
    return Event(NOW, Level.ERROR, text, 17, "www", detail, **more)


def test_a_json_event_is_one_object_whatever_it_has_of_lines() -> None:
    (line,) = Layout(Reader.FILE).lines(
        event("failed", "Traceback:\n  é\nValueError\n", speaker="child 17", code=CODE), JSON
    )
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "time": "2026-11-21T20:52:49.250+00:00",
        "level": "error",
        "code": "PYFPM-411",
        "pool": "www",
        "pid": 17,
        "message": "child 17 failed",
        "detail": "Traceback:\n  é\nValueError",
    }


def test_the_daemons_own_events_have_no_pool() -> None:
    (line,) = Layout(Reader.FILE).lines(Event(NOW, Level.NOTICE, "ready", 1), JSON)
    assert list(json.loads(line)) == ["time", "level", "pid", "message"]


@given(HOSTILE, HOSTILE, HOSTILE)
def test_hostile_text_is_valid_json_in_one_line(text: str, detail: str, speaker: str) -> None:
    for reader in Reader:
        (line,) = Layout(reader).lines(event(text, detail, speaker=speaker), JSON)
        assert line.count(b"\n") == 1
        shown = json.loads(line[line.index(b"{") :])
        assert shown["pid"] == 17
        shown_again = json.dumps(shown, ensure_ascii=False).encode()  # no lone surrogates
        assert len(shown_again) > 0


def test_a_long_line_is_cut_in_json_too_but_not_the_number_of_lines() -> None:
    (line,) = Layout(Reader.FILE).lines(event("x" * 2000, "\n".join(["y" * 600] * 50)), Manner(is_json=True, limit=512))
    shown = json.loads(line)
    assert shown["message"] == "x" * 508 + "..."
    assert shown["detail"].count("\n") == 49


@pytest.mark.parametrize(
    ("level", "priority"),
    [(Level.DEBUG, 7), (Level.NOTICE, 5), (Level.WARNING, 4), (Level.ERROR, 3), (Level.ALERT, 1)],
)
def test_each_level_has_its_priority(level: Level, priority: int) -> None:
    told = Event(NOW, level, "text", 1, "www", "more")
    assert Layout(Reader.JOURNAL).lines(told, TEXT) == [
        f"<{priority}>{level.name}: [pool www] {part}\n".encode() for part in ("text", "more")
    ]
    manner = Manner(ident="site", facility=16)
    assert Layout(Reader.SYSLOG).lines(told, manner) == [
        f"<{128 + priority}>Nov 21 20:52:49 site[{os.getpid()}]: {level.name}: [pool www] {part}\n".encode()
        for part in ("text", "more")
    ]


def test_json_for_the_journal_and_syslog_has_the_priority_before_it() -> None:
    assert Layout(Reader.JOURNAL).lines(event(), JSON)[0].startswith(b'<3>{"time":')
    (line,) = Layout(Reader.SYSLOG).lines(event(), JSON)
    assert line.startswith(f'<27>Nov 21 20:52:49 pyfpm[{os.getpid()}]: {{"time":'.encode())


def test_nobody_chooses_his_priority_in_the_journal() -> None:
    """Which takes it from the beginning of each line, and ends a line at a NUL, too."""
    told = Event(NOW, Level.WARNING, "", 912, "www", stream="stderr")
    lines = OutputLines(lambda: Layout(Reader.JOURNAL).frame(told, TEXT, decorate=False))
    assert lines.feed(b"<0>fire\n\x1b[1m\xff\0<0>fire\n") == [b"<4><0>fire\n", b"<4>\x1b[1m\xff\\x00<0>fire\n"]


def test_a_long_object_that_the_journal_breaks_begins_no_line_with_a_priority() -> None:
    layout = Layout(Reader.JOURNAL)
    (line,) = layout.lines(event("<0>" * 300, "\n".join(["<0>" * 300] * 60)), JSON)
    lines = OutputLines(lambda: layout.frame(event(stream="stderr"), JSON, decorate=True))
    assert lines.feed(b"Traceback (most recent call last):\n" + b"  <0>\n" * 20_000)[0].count(b"<") == 1
    assert line.count(b"<") == 1
    assert json.loads(line[3:])["message"] == "<0>" * 300


def test_frames() -> None:
    told = Event(NOW, Level.WARNING, "", 912, "www", stream="stderr")
    plain = [Layout(reader).frame(told, TEXT, decorate=False).start for reader in Reader]
    assert plain == [b"", b"<4>", f"<28>Nov 21 20:52:49 pyfpm[{os.getpid()}]: ".encode()]
    said = b'WARNING: [pool www] child 912 said into stderr: "'
    assert Layout(Reader.FILE).frame(told, TEXT, decorate=True).start == TIME.encode() + b" " + said
    assert Layout(Reader.JOURNAL).frame(told, TEXT, decorate=True).start == b"<4>" + said
    frame = Layout(Reader.FILE).frame(told, JSON, decorate=True)
    assert json.loads(frame.start + b"hello" + frame.stop) == {
        "time": "2026-11-21T20:52:49.250+00:00",
        "level": "warning",
        "pool": "www",
        "pid": 912,
        "stream": "stderr",
        "message": "hello",
    }


# ── the journal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_standard_error_is_the_journal_if_it_is_the_very_stream() -> None:
    reader, writer = os.pipe()
    status = os.fstat(writer)
    assert is_journal({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, writer)
    assert not is_journal({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}, writer)
    assert not is_journal({}, writer)
    os.close(reader)
    os.close(writer)
    assert not is_journal({"JOURNAL_STREAM": "1:1"}, writer)


def test_the_journal_has_priorities_and_the_file_has_times(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    log, sink = ErrorLog(clock=lambda: NOW), Sink()
    log.error(CODE, "early")
    log.write_to(sink)
    log.error(CODE, "both")
    assert capfd.readouterr().err == "<3>ERROR: early [PYFPM-411]\n<3>ERROR: both [PYFPM-411]\n"
    assert sink.lines == [f"{TIME} ERROR: both [PYFPM-411]\n".encode()]


# ── a pool's own log ────────────────────────────────────────────────────────────────────────────────────────────────


def daemon_log() -> tuple[ErrorLog, Sink]:
    log, sink = ErrorLog(clock=lambda: NOW), Sink()
    log.write_to(sink)
    log.launched()
    return log, sink


def tell_everything(log: ErrorLog) -> None:
    log.warning(CODE, "child 912 exited", pool="www")
    log.relay(Level.ERROR, CODE, "failed\nTraceback", "www", "child 912", 912)
    frame = log.frame("www", 912, "stdout", decorate=True)
    log.raw(frame.start + b"printed" + frame.stop)


def test_a_pools_log_has_all_and_the_daemons_what_the_daemon_says() -> None:
    above, sink = daemon_log()
    own = Sink()
    tell_everything(PoolLog(above, own))
    exited = f"{TIME} WARNING: [pool www] child 912 exited [PYFPM-411]\n"
    assert b"".join(sink.lines).decode() == exited
    assert b"".join(own.lines).decode().splitlines(keepends=True) == [
        exited,
        f"{TIME} ERROR: [pool www] child 912 failed [PYFPM-411]\n",
        f"{TIME} ERROR: [pool www] child 912 Traceback\n",
        f'{TIME} WARNING: [pool www] child 912 said into stdout: "printed"\n',
    ]


def test_a_pool_without_a_log_of_its_own_uses_the_daemons() -> None:
    above, sink = daemon_log()
    own = Sink()
    log = PoolLog(above, own)
    log.write_to(None)
    tell_everything(log)
    assert own.lines == []
    assert len(sink.lines) == 4


def test_pools_follow_the_daemons_manner() -> None:
    above, _ = daemon_log()
    own = Sink()
    log = PoolLog(above, own)
    above.speak(Manner(Level.ERROR, is_json=True))
    tell_everything(log)
    assert [json.loads(line)["message"] for line in own.lines] == ["child 912 failed", "printed"]
