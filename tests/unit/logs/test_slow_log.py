"""What faulthandler writes, made readable; and whatever else a tenant may write there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyfpm.logs.slow_log import SlowRequest, entry, shorten, show_stacks

DUMP = b"""Thread 0x00007f0000000002 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait
  File "/srv/site/jobs.py", line 7 in work

Thread 0x00007f0000000003 [pool-worker] (most recent call first):
  <no Python frame>

Current thread 0x00007f0000000001 (most recent call first):
  File "/srv/site/report.py", line 42 in fetch
  File "/srv/site/report.py", line 12 in <module>
  File "/opt/pyfpm/gateway/response.py", line 119 in run
  File "/opt/pyfpm/bootstrap.py", line 35 in <module>
"""
MAIN = 0x7F0000000001


def test_the_main_thread_comes_first_and_ends_with_the_application() -> None:
    assert show_stacks(DUMP, MAIN, 20, "/opt/pyfpm/") == [
        "thread 0x00007f0000000001 (main)",
        "[0x00007f0000000001] fetch() /srv/site/report.py:42",
        "[0x00007f0000000001] <module>() /srv/site/report.py:12",
        "thread 0x00007f0000000002",
        "[0x00007f0000000002] wait() /usr/lib/python3.11/threading.py:320",
        "[0x00007f0000000002] work() /srv/site/jobs.py:7",
        "thread 0x00007f0000000003 (pool-worker)",
        "[0x00007f0000000003] <no Python frame>",
    ]


def test_calls_of_pyfpm_above_the_application_are_shown() -> None:
    text = b"""Current thread 0x0000000000000001 (most recent call first):
  File "/opt/pyfpm/worker/connection.py", line 1 in more
  File "/srv/site/report.py", line 42 in upload
  File "/opt/pyfpm/gateway/response.py", line 119 in run
"""
    assert show_stacks(text, 1, 20, "/opt/pyfpm/")[1:] == [
        "[0x0000000000000001] more() /opt/pyfpm/worker/connection.py:1",
        "[0x0000000000000001] upload() /srv/site/report.py:42",
    ]


def test_the_depth_is_for_each_thread() -> None:
    lines = show_stacks(DUMP, MAIN, 1, "/opt/pyfpm/")
    assert lines[1:3] == [
        "[0x00007f0000000001] fetch() /srv/site/report.py:42",
        "[0x00007f0000000001] ... 1 more",
    ]
    assert lines[4].endswith("threading.py:320")


def test_the_entry_has_php_fpms_form() -> None:
    slow = SlowRequest("21-Nov-2026 20:52:49", "www", 912, "site:app", "GET /u?q", 1.1372912, "203.0.113.7")
    assert entry(slow, ["thread 0x01"]).decode() == (
        "\n[21-Nov-2026 20:52:49]  [pool www] pid 912\nscript_filename = site:app\n"
        'request = "GET /u?q"\nage = 1.137291\nclient = 203.0.113.7\nthread 0x01\n'
    )


@given(st.binary(max_size=2000), st.text(max_size=200))
def test_nothing_hostile_gets_through(text: bytes, uri: str) -> None:
    stacks = show_stacks(DUMP + text, MAIN, 20, "")
    written = entry(SlowRequest("now", "www", 1, uri, uri, 0.0, uri), stacks)
    assert not any(byte < 32 and byte not in b"\t\n" for byte in written)
    assert b"\x7f" not in written
    assert written.count(b"\n") == 6 + len(stacks)


def test_a_text_is_cut_where_more_is_to_be_said() -> None:
    assert shorten("x" * 200) == "x" * 200
    assert shorten("x" * 201) == "x" * 197 + "..."
