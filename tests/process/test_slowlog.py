"""A slow request leaves the stacks of its worker in the slow log, whatever it is stuck in, and goes on unharmed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import interpreters
from tests.harness.stage import CHECKOUT
from tests.harness.waits import Followed, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon, Settings
    from tests.harness.interpreters import Interpreter

STUCK = CHECKOUT / "tests" / "harness" / "stuck.py"
SLOW = r"child \d+, script 'stuck:application' \(request: \"GET {}\"\) executing too slow \(\d+\.\d{{6}} sec\), logging"
HEAD = re.compile(r"\n\n?\[\d\d-\w{3}-\d{4} \d\d:\d\d:\d\d\]  \[pool www\] pid (\d+)\nscript_filename = (.*)\n")


def line_of(marker: str) -> int:
    """Where stuck.py has `# stuck: marker`."""
    lines = STUCK.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# stuck: {marker}"))


def stuck_pool(daemon: Daemon, settings: Settings | None = None) -> Path:
    """A pool that serves stuck.py; the file where it leaves its marks."""
    daemon.write_app("stuck.py", STUCK.read_text())
    marks = daemon.app_folder / "marks"
    marks.touch()
    marks.chmod(0o666)
    more: Settings = {"app": "stuck:application", "env[MARKS]": marks, **(settings or {})}
    daemon.add_pool("www", more)
    return marks


@pytest.fixture
def slow_log(daemon: Daemon) -> Iterator[Followed]:
    path = daemon.folder / "slow.log"
    stuck_pool(daemon, {"slowlog": path, "request_slowlog_timeout": "0.2s"})
    followed = Followed(path)
    yield followed
    followed.close()


def test_an_entry_has_php_fpms_form_and_more(daemon: Daemon, slow_log: Followed) -> None:
    daemon.start()
    clock = Stopwatch()
    answer = daemon.get("/sleep", "seconds=1.0", REMOTE_ADDR="203.0.113.7")
    assert answer.status == 200
    daemon.wait_log(SLOW.format(r"/sleep\?seconds=1.0"))
    slow_log.wait(r"do_sleep\(\)")
    text = slow_log.read()
    head = HEAD.match(text, 0) or HEAD.match("\n" + text)
    assert head is not None, text
    assert head[1].encode() == answer.body
    assert head[2] == "stuck:application"
    assert 'request = "GET /sleep?seconds=1.0"\n' in text
    assert "client = 203.0.113.7\n" in text
    age = re.search(r"^age = (.*)$", text, re.MULTILINE)
    assert age is not None
    assert 0.2 <= float(age[1]) < 0.6 + clock.lost, "not only with the next tick, which is a second long"
    assert re.search(rf"\n\[0x[0-9a-f]{{16}}\] do_sleep\(\) .*/stuck\.py:{line_of('sleep')}\n", text)
    assert "pyfpm/" not in text, "the calls of pyfpm itself say nothing"


@pytest.mark.parametrize("where", ["c", "lock"])
def test_where_it_is_stuck(daemon: Daemon, slow_log: Followed, where: str) -> None:
    daemon.pools["www"].update({"request_terminate_timeout": "0.5s", "request_terminate_grace": "0.2s"})
    daemon.start()
    daemon.expect(r"executing too slow|timed out|was here|has not ended|exited on signal 9")
    daemon.get("/" + where)
    slow_log.wait(rf"\[0x[0-9a-f]{{16}}\] do_{where}\(\) .*/stuck\.py:{line_of(where)}")


@pytest.mark.parametrize("one", interpreters().values(), ids=str)
def test_every_interpreter_shows_all_threads(daemon: Daemon, slow_log: Followed, one: Interpreter) -> None:
    settings = daemon.pools.pop("www")
    daemon.add_pool_on(one, "www", {name: settings[name] for name in settings if name not in ("python", "user")})
    daemon.start(*daemon.options_for(one))
    assert daemon.get("/threads").status == 200
    daemon.wait_log("executing too slow")
    slow_log.wait(r"idle_thread\(\)")
    text = slow_log.read()
    main, other = text.index("do_threads()"), text.index("idle_thread()")
    assert text.index("(main)") < main < other


def test_one_entry_a_request(daemon: Daemon, slow_log: Followed) -> None:
    daemon.start()
    daemon.expect("executing too slow")
    daemon.get("/sleep", "seconds=1.2")
    daemon.get("/pid")
    daemon.get("/sleep", "seconds=1.0")
    slow_log.wait("(?s)seconds=1.2.*seconds=1.0")
    assert len(re.findall("script_filename", slow_log.read())) == 2


def test_the_depth_is_cut(daemon: Daemon, slow_log: Followed) -> None:
    daemon.pools["www"]["request_slowlog_trace_depth"] = 5
    daemon.start()
    daemon.expect("executing too slow")
    assert daemon.get("/deep", "depth=50").status == 200
    slow_log.wait(r"\.\.\. \d+ more")
    assert slow_log.read().count("deeper()") == 5


def test_the_calls_of_the_application_do_not_fail(daemon: Daemon, slow_log: Followed) -> None:
    daemon.start()
    daemon.expect("executing too slow")
    assert daemon.get("/calls").body == b"[True, True, True, True]"
    slow_log.wait(r"do_calls\(\)")


def test_a_signal_that_the_application_uses_is_left_to_it(daemon: Daemon, slow_log: Followed) -> None:
    source = STUCK.read_text() + "\nsignal.signal(signal.SIGRTMIN + 8, lambda *_: mark('taken'))\n"
    daemon.write_app("stuck.py", source)
    daemon.start()
    daemon.wait_log(r"no stacks of slow requests: the application uses SIGRTMIN\+8 itself; see slowlog_signal")
    daemon.expect("executing too slow")
    assert daemon.get("/sleep", "seconds=1.0").status == 200
    slow_log.wait("no stacks")
    assert "taken" not in (daemon.app_folder / "marks").read_text()


def test_another_signal_can_be_chosen(daemon: Daemon, slow_log: Followed) -> None:
    source = STUCK.read_text() + "\nsignal.signal(signal.SIGRTMIN + 8, lambda *_: mark('taken'))\n"
    daemon.write_app("stuck.py", source)
    daemon.pools["www"]["slowlog_signal"] = "SIGRTMIN+11"
    daemon.start()
    daemon.expect("executing too slow")
    daemon.get("/sleep", "seconds=1.0")
    slow_log.wait(r"do_sleep\(\)")


def test_a_hostile_uri_harms_neither_log(daemon: Daemon, slow_log: Followed) -> None:
    daemon.start()
    daemon.expect("executing too slow")
    uri = "/sleep?seconds=1.0&x=<script>\x1b[31m\n[pool www] pid 1\r\x9b\"'" + "a" * 60000
    daemon.get("/sleep", "seconds=1.0", REQUEST_URI=uri, REMOTE_ADDR="\x1b\n" * 100)
    daemon.wait_log("executing too slow")
    slow_log.wait(r"do_sleep\(\)")
    for text in (slow_log.read(), daemon.log.read()):
        assert not set(text) & set("\x1b\r\x9b")
        assert "\n[pool www] pid 1" not in text
    assert slow_log.read().count("[pool www] pid") == 2
    assert re.search(r"executing too slow \(\d", daemon.log.read()), "the words that tell what happened are not cut off"


def test_an_idle_kept_connection_is_not_slow(daemon: Daemon, slow_log: Followed) -> None:
    daemon.start()
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/pid"), keep=True))
        first = client.receive().body
        daemon.expect("executing too slow")
        # As long as a slow request takes elsewhere is what the connection is idle for.
        assert daemon.get("/sleep", "seconds=1.0").body == first
        client.send(request_bytes(get_parameters("/pid"), keep=True))
        assert client.receive().body == first
    slow_log.wait("script_filename")
    assert slow_log.read().count("script_filename") == 1


@pytest.mark.parametrize(("name", "words"), [("missing/slow.log", "does not exist"), ("folder", "is a directory")])
def test_a_slow_log_that_cannot_be_opened_refuses_the_start(daemon: Daemon, name: str, words: str) -> None:
    (daemon.folder / "folder").mkdir()
    stuck_pool(daemon, {"slowlog": daemon.folder / name, "request_slowlog_timeout": "1s"})
    daemon.expect("Unable to create|initialization failed")
    done = daemon.run()
    assert done.returncode == 78
    assert words in done.stderr


def test_without_a_signal_there_are_no_stacks(daemon: Daemon, slow_log: Followed) -> None:
    daemon.pools["www"]["slowlog_signal"] = "none"
    daemon.start()
    assert daemon.get("/sleep", "seconds=1.0").status == 200
    daemon.wait_log(SLOW.format(r"/sleep\?seconds=1.0"))
    slow_log.wait("no stacks")
