"""Applications that change their process while they are imported: the pool serves all the same."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import usual
from tests.harness.venvs import environment
from tests.harness.waits import watching
from tests.rules.test_originals import REPLACED

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

BASE = "import os, signal, sys\nimport apps\nfrom apps import application\n"
IMPORTS = {
    "sigchld-ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "sigchld-reaped": "signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, 0))",
    "stdout-none": "sys.stdout = None",
    "stdout-closed": "sys.stdout.close()",
    "stdout-only-writes": "sys.stdout = type('W', (), {'write': lambda self, text: None})()",
    "stdout-deleted": "del sys.stdout",
    "threads-replaced": "import threading\nthreading.enumerate = lambda: [object()]",
    "lazy-module": """
class Lazy:
    def __getattr__(self, name):
        raise ImportError("not installed")
sys.modules["lazy"] = Lazy()
sys.modules["odd"] = type("Odd", (), {"__file__": []})
sys.modules["nul"] = type("Nul", (), {"__file__": chr(0)})
""",
}
# Whatever pyfpm looked up in these modules now, would raise. Python itself needs what threads have.
REPLACING = f"""
import importlib
class Replaced(BaseException):
    pass
def raises(*_, **__):
    raise Replaced
for module, names in {REPLACED!r}.items():
    for name in names if "thread" not in module else ():
        setattr(importlib.import_module(module), name, raises)
"""

GEVENT = """
def application(environ, start_response, serve=application):
    answer = os.getpid()
    if environ["PATH_INFO"] == "/imported-by":
        answer = apps.IMPORTED_BY
    elif environ["PATH_INFO"] != "/spawn":
        return serve(environ, start_response)
    gevent.joinall([gevent.spawn(time.sleep, 0.01) for _ in range(3)])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % answer]
"""
HOARD = """
held = []
try:
    while True:
        held.append(os.open("/", os.O_RDONLY))
except OSError:
    os.close(held.pop())
    os.close(held.pop())
"""


def serve(daemon: Daemon, source: str, **settings: object) -> None:
    daemon.write_app("careless.py", BASE + source)
    daemon.add_pool("www", {"app": "careless:application", **settings})
    daemon.start()


@pytest.mark.parametrize("kind", IMPORTS)
def test_the_pool_serves(daemon: Daemon, kind: str) -> None:
    serve(daemon, IMPORTS[kind], **{"pm.max_children": 2})
    pids = daemon.engage(2)
    assert sorted(daemon.workers()) == sorted(pids), "no worker that the master does not know"


@pytest.mark.parametrize("preload", ["auto", "no"])
def test_a_pool_whose_application_replaces_what_the_library_has(daemon: Daemon, preload: str) -> None:
    serve(daemon, REPLACING, **{"preload": preload})
    with Connection(daemon.address()) as kept:
        pid = kept.request(get_parameters("/pid")).body
        assert daemon.post("/hash", b"x" * 200_000).status == 200
        assert daemon.get("/stream", "mb=4").status == 200
        assert kept.request(get_parameters("/pid")).body == pid
    _retire(daemon, int(pid))


@pytest.mark.parametrize("hub", ["", "gevent.get_hub()"], ids=["patched", "with-a-hub"])
def test_gevent(daemon: Daemon, hub: str) -> None:
    """A hub does not survive a fork; the functions that are replaced do."""
    source = f"from gevent import monkey; monkey.patch_all()\nimport gevent, time\n{hub}\n{GEVENT}"
    serve(daemon, source, virtualenv=environment(usual(), "gevent"), python=None)
    with Connection(daemon.address()) as kept:
        answer = kept.request(get_parameters("/spawn"))
        pid = int(answer.body)
        assert daemon.post("/hash", b"x" * 200_000).status == 200
        assert int(kept.request(get_parameters("/spawn")).body) == pid
    preloaded_by = int(daemon.get("/imported-by").body)
    if hub:
        daemon.wait_log(r"not preloaded, .*anon_inode:\[eventpoll\]")
        assert preloaded_by == pid
    else:
        assert preloaded_by == daemon.template()
    _retire(daemon, pid)


def test_a_stream_that_cannot_be_flushed_ends_no_worker_badly(daemon: Daemon) -> None:
    serve(daemon, """
class Out:
    def write(self, text): pass
    def flush(self): raise RuntimeError("no flush")
sys.stdout = Out()
""", preload="no")  # fmt: skip
    _retire(daemon, int(daemon.get("/pid").body))


def test_a_client_that_leaves_kills_no_worker(daemon: Daemon) -> None:
    serve(daemon, "signal.signal(signal.SIGPIPE, signal.SIG_DFL)")
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/drip")))
        (pid,) = daemon.gate.wait_inside()
    daemon.gate.release()
    assert int(daemon.get("/pid").body) == pid


def test_a_template_without_descriptors_says_so(daemon: Daemon) -> None:
    daemon.expect(".")
    daemon.write_app("careless.py", f"{BASE}{HOARD}")
    daemon.add_pool("www", {"app": "careless:application", "rlimit_files": 64, "preload": "yes"})
    daemon.launch()
    daemon.wait_log(r"no free descriptors for a worker; see rlimit_files \[PYFPM-512\]")
    assert daemon.wait_exit() == 70, "no pool can serve"
    assert "Traceback" not in daemon.log.read()


def _retire(daemon: Daemon, pid: int) -> None:
    """The worker ends as it should, and another takes its place."""
    with watching(pid) as (worker,):
        os.kill(pid, signal.SIGQUIT)
        worker.wait_exit()
    daemon.wait_log(rf"child {pid} exited with code 0 ")
    assert int(daemon.get("/pid").body) != pid
