"""What an application prints is in the error log: in whole lines, with its pool and process."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.daemon import fresh_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.stage import Stage

SAID = r"WARNING: \[pool {pool}\] child {pid} said into {stream}: \"{text}\""


@pytest.fixture(scope="module")
def printing(stage: Stage) -> Iterator[Daemon]:
    """Three pools: decorated lines, plain lines, none. At a level that hides all of pyfpm's own words."""
    with fresh_daemon(stage) as daemon:
        daemon.set_global({"log_level": "alert", "log_limit": 512})
        daemon.add_pool("deco")
        daemon.add_pool("plain", {"decorate_workers_output": "no"})
        daemon.add_pool("mute", {"catch_workers_output": "no"})
        daemon.start()
        daemon.expect(r"WARNING: \[pool deco\] child \d+ said into")
        daemon.expect(r"^[^\[]")
        yield daemon


@pytest.mark.parametrize(("to", "stream"), [("stdout", "stdout"), ("stderr", "stderr"), ("errors", "stderr")])
def test_lines_have_their_pool_and_process(printing: Daemon, to: str, stream: str) -> None:
    pid = int(printing.get("/print", f"to={to}&text=hello-{to}", pool="deco").body)
    printing.wait_log(SAID.format(pool="deco", pid=pid, stream=stream, text=f"hello-{to}"))


def test_plain_lines_are_as_they_were_printed(printing: Daemon) -> None:
    printing.get("/print", "to=stdout&text=plain-and-simple", pool="plain")
    printing.wait_log(r"(?m)^plain-and-simple$")


def test_who_wants_no_output_gets_none(printing: Daemon) -> None:
    printing.get("/print", "to=stdout&text=never-seen", pool="mute")
    printing.get("/print", "to=stderr&text=never-seen", pool="mute")
    printing.get("/print", "to=stderr&text=the-end", pool="deco")
    printing.wait_log("the-end")
    assert "never-seen" not in printing.log.read()


def test_long_lines_are_wrapped_and_nothing_of_them_is_lost(printing: Daemon) -> None:
    start = printing.log_end()
    pid = int(printing.get("/print", "to=stdout&text=0123456789&times=1000", pool="deco").body)
    printing.get("/print", "to=stdout&text=after-it", pool="deco")
    printing.wait_log("after-it", start=start)
    lines = [line for line in printing.log.read()[start:].splitlines() if f"child {pid}" in line]
    assert all(len(line) < 512 for line in lines)
    text = "".join(re.findall(r'said into stdout: "([0-9]*)"', "\n".join(lines)))
    assert text == "0123456789" * 1000


def test_what_control_characters_there_are_cannot_forge_a_line(printing: Daemon) -> None:
    printing.get("/print", "to=stderr&text=%1b[31mred%0d[22-Nov-2026]%20ALERT:%20forged", pool="deco")
    found = printing.wait_log(r".*red.*forged.*")
    assert "\x1b" not in found[0]
    assert "\r" not in found[0]


def test_an_unfinished_line_is_written_at_the_workers_end(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    pid = int(daemon.get("/print", "to=stdout&bare=1&text=no-newline").body)
    assert daemon.stop(signal.SIGQUIT) == 0
    daemon.wait_log(SAID.format(pool="www", pid=pid, stream="stdout", text="no-newline"))


def test_what_the_import_prints_is_there_too(daemon: Daemon) -> None:
    daemon.write_app(
        "chatty.py", "import sys\nprint('imported')\nsys.stderr.write('half a line')\nfrom apps import *\n"
    )
    daemon.add_pool("www", {"app": "chatty:application"})
    daemon.start()
    template = daemon.template()
    daemon.wait_log(SAID.format(pool="www", pid=template, stream="stdout", text="imported"))
    daemon.expect(f"child {template} said into stderr")
    daemon.engage(1)
    assert daemon.stop() == 0
    text = daemon.log.read()
    assert len(re.findall("half a line", text)) == 1, "once, and not by each fork"
    assert len(re.findall('"imported"', text)) == 1


def test_a_child_of_a_worker_prints_as_its_worker(daemon: Daemon) -> None:
    daemon.write_app(
        "shell.py",
        "import os, subprocess\n"
        "def application(environ, start_response):\n"
        "    subprocess.run(['/bin/echo', 'from a shell'], check=True)\n"
        "    start_response('200 OK', [])\n"
        "    return [str(os.getpid()).encode()]\n",
    )
    daemon.add_pool("www", {"app": "shell:application"})
    daemon.start()
    pid = int(daemon.get("/").body)
    daemon.wait_log(SAID.format(pool="www", pid=pid, stream="stdout", text="from a shell"))
