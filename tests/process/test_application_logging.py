"""Whatever an application logs, prints or warns arrives whole, with its pool and process; in JSON as one event."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.daemon import fresh_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.stage import Stage

LINES = 200
BIG = 1 << 20
TALKATIVE = f"""\
import atexit, logging, os, sys, threading, traceback, warnings
logging.basicConfig(level=logging.INFO)
def application(environ, start_response):
    globals()["do_" + environ["PATH_INFO"].strip("/")](environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
def fail():
    try:
        {{}}["no such key"]
    except KeyError as error:
        raise ValueError("it failed") from error
def do_logging(_):
    logging.info("all is well")
    try:
        fail()
    except ValueError:
        logging.exception("all is not well")
    logging.info("logging is over")
def do_print_exc(_):
    try:
        fail()
    except ValueError:
        traceback.print_exc()
def do_thread(_):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
def do_warn(_):
    warnings.warn("take care")
def do_print(_):
    print("without a flush")
    print("with a flush", flush=True)
def do_errors(environ):
    print("to wsgi.errors", file=environ["wsgi.errors"])
def do_threads(_):
    def say(who):
        for number in range({LINES}):
            sys.stderr.write(f"{{who}}-{{number}}-{{'x' * 40}}\\n")
    threads = [threading.Thread(target=say, args=(who,)) for who in ("anna", "bert")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
def do_big(_):
    sys.stderr.write("b" * {BIG} + "\\n")
def do_binary(_):
    os.write(2, bytes(range(256)) + b"\\xff\\n")
def do_exit(_):
    atexit.register(print, "said at exit")
    sys.stdout.write("half a line")
"""


@pytest.fixture(scope="module", params=["json", "text"])
def talking(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Daemon]:
    with fresh_daemon(stage) as daemon:
        daemon.set_global({"log_format": request.param})
        daemon.write_app("talkative.py", TALKATIVE)
        daemon.add_pool("www", {"app": "talkative:application"})
        daemon.expect(r'^\{"time":')
        daemon.expect("said into")
        daemon.start()
        yield daemon


def said(daemon: Daemon, path: str, until: str) -> tuple[int, list[str]]:
    """The pid that answered, and the messages from it until one that ends like this."""
    start = daemon.log_end()
    pid = int(daemon.get(path).body)
    daemon.wait_log(until, start=start)
    return pid, [text for event_pid, text in printed(daemon, start) if event_pid == pid]


def printed(daemon: Daemon, start: int) -> list[tuple[int, str]]:
    lines = daemon.log.read()[start:].splitlines()
    if not lines or not lines[0].startswith("{"):
        found = [re.search(r'\[pool www\] child (\d+) said into \w+: "(.*)"$', line) for line in lines]
        return [(int(one[1]), one[2]) for one in found if one is not None]
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert {event["pool"] for event in events if "stream" in event} <= {"www"}
    return [(event["pid"], event["message"]) for event in events if "stream" in event]


def is_json(daemon: Daemon) -> bool:
    return daemon.log.read().startswith("{")


def test_the_logging_module(talking: Daemon) -> None:
    _, texts = said(talking, "/logging", "logging is over")
    if not is_json(talking):
        assert len(texts) > 10
        return
    first, failed, last = texts
    assert (first, last) == ("INFO:root:all is well", "INFO:root:logging is over")
    assert failed.startswith("ERROR:root:all is not well\nTraceback (most recent call last):\n  File ")
    assert "direct cause of the following exception" in failed
    assert failed.endswith("ValueError: it failed")


@pytest.mark.parametrize("path", ["/print_exc", "/thread"])
def test_a_traceback_that_is_printed_in_pieces(talking: Daemon, path: str) -> None:
    _, texts = said(talking, path, "ValueError: it failed")
    if is_json(talking):
        (text,) = texts
        assert text.count("Traceback (most recent call last):") == 2


def test_warnings(talking: Daemon) -> None:
    _, texts = said(talking, "/warn", "take care")
    if is_json(talking):
        (text,) = texts
        assert re.fullmatch(r".*talkative\.py:\d+: UserWarning: take care\n  warnings.warn\(\"take care\"\)", text)


def test_prints(talking: Daemon) -> None:
    assert said(talking, "/print", "with a flush")[1] == ["without a flush", "with a flush"]
    assert said(talking, "/errors", "to wsgi.errors")[1] == ["to wsgi.errors"]


def test_two_threads_at_once(talking: Daemon) -> None:
    """Python may let one thread write between another's text and its newline; no text is torn or lost."""
    start = talking.log_end()
    talking.get("/threads")
    talking.get("/errors")
    talking.wait_log("to wsgi.errors", start=start)
    text = "\n".join(text for _, text in printed(talking, start))
    for who in ("anna", "bert"):
        assert [int(number) for number in re.findall(rf"{who}-(\d+)-x{{40}}", text)] == list(range(LINES))


def test_a_line_of_a_megabyte(talking: Daemon) -> None:
    start = talking.log_end()
    talking.get("/big")
    talking.get("/errors")
    talking.wait_log("to wsgi.errors", start=start)
    assert sum(len(text) for _, text in printed(talking, start) if set(text) == {"b"}) == BIG


def test_binary_garbage(talking: Daemon) -> None:
    _, texts = said(talking, "/binary", "xfe")
    assert len(texts) == 2, "it has one newline within"


def test_what_is_said_at_the_end(stage: Stage) -> None:
    with fresh_daemon(stage) as daemon:
        daemon.set_global({"log_format": "json"})
        daemon.write_app("talkative.py", TALKATIVE)
        daemon.add_pool("www", {"app": "talkative:application"})
        daemon.expect(r'^\{"time":')
        daemon.start()
        pid = int(daemon.get("/exit").body)
        assert daemon.stop(signal.SIGQUIT) == 0
        daemon.wait_log("half a line")
        found = [text for event_pid, text in printed(daemon, 0) if event_pid == pid]
        assert found == ["half a linesaid at exit"]
