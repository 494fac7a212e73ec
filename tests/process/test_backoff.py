"""A pool that cannot start is tried again with patience, says so once, and never takes the others down."""

from __future__ import annotations

import os
import re
import signal
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from pyfpm.messages import Verb
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.reloads import Question
from tests.harness.waits import Stopwatch, watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

TWICE = r"WARNING: .*\[pool shop\] failed twice in a row; it is tried again in longer and longer intervals"
DIES_AT_IMPORT = "import os\nos._exit(3)\n"
DIES_WHEN_READY = "import os, threading\nthreading.Timer(0.02, os._exit, (3,)).start()\nfrom apps import application\n"


@pytest.mark.parametrize(
    ("source", "preload", "who"),
    [(DIES_AT_IMPORT, "yes", "template"), (DIES_AT_IMPORT, "no", "child"), (DIES_WHEN_READY, "no", "child")],
    ids=["template", "worker-import", "worker-ready"],
)
def test_what_dies_young_is_not_replaced_hundreds_of_times(daemon: Daemon, source: str, preload: str, who: str) -> None:
    daemon.set_global({"log_level": "debug"})
    daemon.write_app("young.py", source)
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "young:application", "preload": preload, "pm.max_children": 3})
    daemon.expect("this pool does not serve yet|cannot serve for 10 seconds")
    daemon.expect(rf"\[pool shop\] {who} \d+ exited with code 3|the pool does not serve: ")
    daemon.start()
    daemon.wait_log(rf"ERROR: .*\[pool shop\] {who} \d+ exited with code 3")
    daemon.wait_log(TWICE)
    deaths = rf"\[pool shop\] {who} \d+ exited with code 3"
    daemon.log.wait(rf"(?s)({deaths}.*){{7}}")
    text = daemon.log.read()
    # Three at the most, one at once, and then one or two after 0.1 seconds, after 0.2, after 0.4.
    stamps = re.findall(rf"(?m)^\[(.*?)\] .*{deaths}", text)
    first, seventh = (datetime.strptime(stamps[at], "%d-%b-%Y %H:%M:%S.%f") for at in (0, 6))
    assert (seventh - first).total_seconds() > 0.2
    assert len(re.findall(rf"ERROR: .*{deaths}", text)) == 1, "once, not a line each"
    assert len(re.findall(TWICE, text)) == 1
    assert len(re.findall("pool does not serve", text)) == 1
    assert daemon.get("/pid").status == 200


RAISES_AT_TIMES = """
import os, apps
apps.enter_and_wait()
if os.path.exists(os.path.join(os.path.dirname(__file__), "broken")):
    raise RuntimeError("the first one loses a race")
from apps import application
"""


@pytest.mark.parametrize("by", ["start", "reload"])
def test_a_start_waits_for_workers_that_are_on_the_way(daemon: Daemon, by: str) -> None:
    daemon.write_app("racy.py", RAISES_AT_TIMES)
    if by == "reload":
        daemon.add_pool("www")
        daemon.start()
    daemon.add_pool("shop", {"app": "racy:application", "preload": "no", "pm.max_children": 2})
    if by == "start":
        daemon.launch()
    else:
        daemon.write_config()
        question = Question(daemon, Verb.RELOAD)
    first = daemon.gate.wait_inside(2)
    (daemon.app_folder / "broken").touch()
    daemon.gate.release()
    daemon.wait_log(r"ERROR: \[pool shop\] cannot load .*the first one loses a race")
    (daemon.app_folder / "broken").unlink()
    (another,) = daemon.gate.wait_inside()
    daemon.gate.release(2)
    if by == "start":
        daemon.wait_ready()
    else:
        assert question.answer().code == 0
    assert len({*daemon.engage(2, "shop")} & {another, *first}) == 2


def test_a_pool_that_recovers_says_so_and_starts_afresh(daemon: Daemon) -> None:
    daemon.write_app("shop.py", DIES_AT_IMPORT)
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "shop:application"})
    daemon.expect("this pool does not serve yet|cannot serve for 10 seconds")
    daemon.expect("template .* exited with code 3")
    daemon.start()
    daemon.wait_log(TWICE)
    daemon.write_app("shop.py", "from apps import application\n")
    daemon.wait_log(r"NOTICE: \[pool shop\] the pool serves")
    assert daemon.get("/pid", pool="shop").status == 200


def test_poisoned_requests_do_not_put_a_pool_out_of_service(daemon: Daemon) -> None:
    """What a request kills did start: whoever finds such a request must not be able to slow the pool down for all."""
    daemon.add_pool()
    daemon.start()
    daemon.expect(r"exited on signal 11 \(SIGSEGV")
    clock = Stopwatch()
    for _ in range(10):
        assert daemon.get("/kill", f"signal={signal.SIGSEGV.value}").ended is None
    assert daemon.get("/pid").status == 200
    assert clock.fair < 10, "with pauses it would be half a minute"
    assert "failed twice" not in daemon.log.read()


# ── spawn_timeout ───────────────────────────────────────────────────────────────────────────────────────────────────

HANGS = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nimport apps\napps.enter_and_wait()\n"
HANGS += "from apps import application\n"


@pytest.mark.parametrize(
    ("preload", "words"),
    [
        ("yes", r"ERROR: \[pool shop\] template \d+ was not ready within 3 s"),
        ("no", r"ERROR: \[pool shop\] child \d+ was not ready within 3 s"),
    ],
)
def test_a_hanging_import_is_given_up(daemon: Daemon, preload: str, words: str) -> None:
    daemon.write_app("hangs.py", HANGS)
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "hangs:application", "preload": preload, "spawn_timeout": "3s"})
    daemon.expect("this pool does not serve yet")
    daemon.expect(TWICE)
    daemon.launch()
    with watching(*daemon.gate.wait_inside()) as (hanging,):
        daemon.wait_ready()
        daemon.wait_log(words)
        hanging.wait_exit()
    assert daemon.get("/pid").status == 200


def test_a_start_whose_only_pool_hangs_fails_in_time(daemon: Daemon) -> None:
    daemon.write_app("hangs.py", HANGS)
    daemon.set_global({"process_control_timeout": "1s"})
    daemon.add_pool("www", {"app": "hangs:application", "spawn_timeout": "0.5s"})
    daemon.expect("no pool can serve, giving up")
    clock = Stopwatch()
    done = daemon.start_in_background()
    assert done.returncode == 70
    assert "was not ready within 0.5 s" in done.stderr
    daemon.wait_log("not ready within")
    assert clock.fair < 10


def test_a_stopped_template_is_replaced(daemon: Daemon) -> None:
    """SIGSTOP, a debugger, a disk that hangs: a template that does not fork is of no use."""
    daemon.add_pool("www", {"pm.max_children": 2, "spawn_timeout": "3s"})
    daemon.start()
    (victim, other) = daemon.engage(2)
    template = daemon.template()
    os.kill(template, signal.SIGSTOP)
    daemon.expect(rf"child {victim} exited on signal 9")
    os.kill(victim, signal.SIGKILL)
    daemon.wait_log(rf"ERROR: \[pool www\] template {template} was ordered to fork a worker, which was not ready")
    daemon.wait_log(r"NOTICE: \[pool www\] child \d+ started")
    assert other in daemon.engage(2)


def test_a_worker_that_blocks_in_a_request_is_not_taken_for_late(daemon: Daemon) -> None:
    daemon.add_pool("www", {"spawn_timeout": "2s"})
    daemon.start()
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/block")))
        (pid,) = daemon.gate.wait_inside()
        with pytest.raises(AssertionError, match="not in 4 seconds"):
            daemon.log.wait(str(pid), seconds=4)
        daemon.gate.release()
        assert int(client.receive().body) == pid
