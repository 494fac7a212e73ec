"""What `pyfpm stack` prints of what faulthandler wrote."""

from __future__ import annotations

from dataclasses import asdict

from pyfpm.cli.stacks import describe, show_all
from pyfpm.installed import OWN_FILES
from pyfpm.status.reports import StackReport
from tests.unit.cli.examples import HOSTILE, a_worker

TEXT = f"""\
Thread 0x0000000000000002 (most recent call first):
  File "/usr/lib/python3/threading.py", line 3 in wait

Current thread 0x0000000000000001 (most recent call first):
  File "/srv/site/report.py", line 42 in fetch
  File "/srv/site/wsgi.py", line 12 in application
  File "{OWN_FILES}gateway/response.py", line 99 in run
  File "{OWN_FILES}worker/main.py", line 11 in serve
"""


def stacks(text: str = TEXT, depth: int = 20, note: str = "", **worker: object) -> StackReport:
    return StackReport(**asdict(a_worker(**worker)), main_thread=1, depth=depth, note=note, text=text)  # type: ignore[arg-type]


def test_the_thread_of_the_request_comes_first() -> None:
    assert describe(stacks()) == [
        "pool www, worker 912, Running for 12.3s: GET /report?year=2026",
        "  thread main",
        "    fetch() /srv/site/report.py:42",
        "    application() /srv/site/wsgi.py:12",
        "  thread 0x0000000000000002",
        "    wait() /usr/lib/python3/threading.py:3",
    ]


def test_all_frames_are_all() -> None:
    lines = describe(stacks(depth=1), all_frames=True)
    assert f"    serve() {OWN_FILES}worker/main.py:11" in lines
    assert "    ... 1 more" in describe(stacks(depth=1))


def test_a_worker_without_a_request_is_in_pyfpm() -> None:
    text = f'Current thread 0x1 (most recent call first):\n  File "{OWN_FILES}worker/main.py", line 11 in serve\n'
    assert describe(stacks(text, state="Idle")) == [
        "pool www, worker 912, Idle",
        "  thread main",
        "    in pyfpm itself: no call of the application",
    ]


def test_who_has_no_stacks_says_why() -> None:
    assert describe(stacks("", note="it is stopped"))[1:] == ["  no stacks: it is stopped"]


def test_the_longest_request_first_and_the_idle_in_a_line() -> None:
    reports = [
        stacks("", note="idle", pid=5, state="Idle"), stacks("", pid=3, elapsed=1.0), stacks("", pid=4, elapsed=9.0),
        stacks("", note="idle", pid=2, state="Idle"),
    ]  # fmt: skip
    assert show_all(reports) == [
        "pool www, worker 4, Running for 9.0s: GET /report?year=2026",
        "",
        "pool www, worker 3, Running for 1.0s: GET /report?year=2026",
        "",
        "pool www, idle: 2, 5",
    ]
    assert show_all([]) == ["no worker is there"]
    many = [stacks("", note="idle", pid=pid, state="Idle") for pid in range(100)]
    assert show_all(many)[0].endswith("18, 19 and 80 more")


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    text = TEXT.replace("report.py", HOSTILE.replace("\n", "")) + HOSTILE
    for line in show_all([stacks(text, note=HOSTILE, pool=HOSTILE, uri=HOSTILE)], all_frames=True):
        assert line.isprintable()
