"""Applications that are careless with their worker's process: it keeps its promises, or goes with a reason."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.interpreters import interpreters
from tests.harness.reloads import report
from tests.harness.waits import Watched

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

CARELESS = """
import os, signal, sys, threading
import apps

class Sour:
    def __str__(self):
        raise ValueError("no text for you")

class SourError(Exception):
    def __str__(self):
        raise SystemExit(3)

def application(environ, start_response):
    what = environ["PATH_INFO"]
    headers = [("Content-Type", "text/plain")]
    if what == "/length":
        environ["CONTENT_LENGTH"] = "x"
    elif what == "/sour":
        environ["X"] = environ["REQUEST_URI"] = environ["CONTENT_LENGTH"] = Sour()
    elif what == "/sour-error":
        raise SourError
    elif what == "/headers":
        start_response("200 OK", headers)
        headers[:0] = [(5, "five"), None]
        return [b"ok"]
    elif what == "/signals":
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    elif what == "/close":
        os.closerange(3, 256)
    elif what == "/hoard-and-quit":
        hoard = []
        try:
            while True:
                hoard.append(os.open("/", os.O_RDONLY))
        except OSError:
            os.kill(os.getpid(), signal.SIGQUIT)
        for number in hoard:
            os.close(number)
    elif what == "/fork" or what == "/fork-write":
        child = os.fork()
        write = start_response("200 OK", headers)
        if child == 0 and what == "/fork-write":
            write(b"of the child")
        if child == 0:
            return [b"of the child"]
        os.waitpid(child, 0)
        return [b"%d" % os.getpid()]
    else:
        return apps.application(environ, start_response)
    start_response("200 OK", headers)
    return [b"%d" % os.getpid()]
"""
FORMATS = ["%r %s %{X}e %{X-Name}o %l", "json"]


def serve(daemon: Daemon, **settings: object) -> None:
    daemon.write_app("careless.py", CARELESS)
    daemon.add_pool("www", {"app": "careless:application", **settings})
    daemon.start()


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("path", ["/length", "/sour", "/headers"])
def test_what_an_application_leaves_in_the_log_harms_nobody(daemon: Daemon, path: str, text: str) -> None:
    log = daemon.folder / "access.log"
    serve(daemon, **{"access.log": log, "access.format": f"'{text}'", "access.suppress_path[]": "/quiet"})
    before = daemon.get("/pid").body
    assert daemon.get(path).status == 200
    assert daemon.get("/pid").body == before
    assert len(log.read_text().splitlines()) == 3


def test_an_exception_that_cannot_be_shown(daemon: Daemon) -> None:
    serve(daemon)
    before = daemon.get("/pid").body
    assert daemon.get("/sour-error").status == 500
    daemon.wait_log('"GET /sour-error" failed: SourError')
    assert daemon.get("/pid").body == before


@pytest.mark.parametrize("path", ["/fork", "/fork-write"])
@pytest.mark.parametrize("version", ["usual", "3.9", "3.13"])
def test_a_process_that_is_forked_in_a_request_never_serves(daemon: Daemon, path: str, version: str) -> None:
    one = next((one for name, one in interpreters().items() if version in str(name)), None)
    daemon.write_app("careless.py", CARELESS)
    if version == "usual" or one is None:
        daemon.add_pool("www", {"app": "careless:application"})
        daemon.start()
    else:
        daemon.add_pool_on(one, "www", {"app": "careless:application"})
        daemon.start(*daemon.options_for(one))
    with Connection(daemon.address()) as kept:
        before = kept.request(get_parameters("/pid")).body
        for _ in range(3):
            answer = kept.request(get_parameters(path))
            assert (answer.status, answer.body) == (200, before)
        daemon.wait_log("forked by the application, returned into the worker; it ends here")
        assert kept.request(get_parameters("/pid")).body == before
    assert daemon.workers() == [int(before)]
    assert report(daemon).requests == 5


def test_signal_handlers_are_taken_back(daemon: Daemon) -> None:
    serve(daemon, **{"request_head_timeout": "0.2s"})
    pid = int(daemon.get("/signals").body)
    daemon.wait_log("has replaced the worker's handler of SIGQUIT or SIGUSR1")
    with Connection(daemon.address()) as silent:
        assert silent.socket.recv(1) == b"", "it is given up"
    worker = Watched(pid)
    os.kill(pid, signal.SIGQUIT)
    worker.wait_exit()
    worker.close()
    assert int(daemon.get("/pid").body) != pid


def test_a_worker_without_a_free_descriptor_stops_as_it_should(daemon: Daemon) -> None:
    serve(daemon, rlimit_files=64)
    answer = daemon.get("/hoard-and-quit")
    assert answer.status == 200
    daemon.wait_log(rf"child {int(answer.body)} exited with code 0 ")
    assert daemon.get("/pid").body != answer.body


def test_closed_descriptors_cost_one_request_and_say_why(daemon: Daemon) -> None:
    serve(daemon)
    pid = int(daemon.get("/pid").body)
    worker = Watched(pid)
    daemon.expect(".")
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/close")))
        assert client.receive().status == 0
    worker.wait_exit()
    worker.close()
    daemon.wait_log("the application has closed or replaced file descriptors that were its worker's")
    assert int(daemon.get("/pid").body) != pid


def test_a_client_that_has_gone_is_counted_and_logged(daemon: Daemon) -> None:
    log = daemon.folder / "access.log"
    serve(daemon, **{"access.log": log, "access.format": "'%r %s'"})
    with Connection(daemon.address()) as client:
        client.send(request_bytes(get_parameters("/drip")))
        daemon.gate.wait_inside()
    daemon.gate.release()
    assert daemon.get("/pid").status == 200
    assert re.findall(r"\S+ \d+", log.read_text()) == ["/drip 200", "/pid 200"]
    assert report(daemon).requests == 2


def test_connections_without_a_request_do_not_count(daemon: Daemon) -> None:
    serve(daemon, **{"pm.max_requests": 3})
    pid = daemon.get("/pid").body
    for _ in range(5):
        with Connection(daemon.address()) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.socket.recv(1) == b""
    daemon.expect("connection closed")
    assert daemon.get("/pid").body == pid
    assert daemon.get("/pid").body == pid
    daemon.wait_log(r"is recycled after 3 requests")


def test_a_look_at_the_socket_recycles_nobody(daemon: Daemon) -> None:
    serve(daemon, **{"pm.max_memory": "1M rss"})
    for _ in range(3):
        Connection(daemon.address()).socket.close()
    daemon.get("/pid")
    daemon.wait_log(r"\(pm\.max_memory\), request 1")
    assert "request 0" not in daemon.log.read()
