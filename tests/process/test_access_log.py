"""The figures of the access log: told by themselves, and each of its own request."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import get_parameters, request_bytes
from tests.harness.sockets import free_port
from tests.harness.waits import Followed

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

APP = """\
import time
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path == "/burn":
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
    if path == "/slow":
        time.sleep(0.1)  # before the first byte
        yield b"first"
        time.sleep(0.2)  # and after it
    yield b"last"
"""
FORMAT = "%r %w %{milli}w %F %{micro}F %d %c %{milli}c %s"


def logged(daemon: Daemon, settings: dict[str, object], paths: list[str], **more: str) -> list[str]:
    """The lines of the access log after a request of each path."""
    path = daemon.folder / "access.log"
    daemon.write_app("timed.py", APP)
    daemon.add_pool("www", {"app": "timed:application", "access.log": path, **settings})
    followed = Followed(path)
    try:
        daemon.start()
        for one in paths:
            assert daemon.get(one, **more).status == 200
        followed.wait(paths[-1])
        return followed.read().splitlines()
    finally:
        followed.close()


def test_json_has_every_figure(daemon: Daemon) -> None:
    lines = logged(daemon, {"access.format": "json"}, ["/slow", "/burn", "/quick"])
    slow, burn, quick = [json.loads(line) for line in lines]
    assert slow["queue_time"] is None
    assert slow["first_byte"] >= 0.1
    assert slow["duration"] - slow["first_byte"] >= 0.2
    assert slow["cpu"] < 0.1
    assert 0.1 <= burn["cpu"] <= burn["duration"] * 1.1
    assert 0 < quick["first_byte"] <= quick["duration"]
    assert quick["cpu"] < 0.1, "it is its own"


def test_what_is_not_logged_leaves_nothing_to_the_next(daemon: Daemon) -> None:
    settings: dict[str, object] = {"access.format": "json", "access.suppress_path[]": "/quick"}
    (line,) = logged(daemon, settings, ["/quick", "/slow"])
    assert json.loads(line)["first_byte"] >= 0.1


def test_the_codes_of_text(daemon: Daemon) -> None:
    (line,) = logged(daemon, {"access.format": FORMAT}, ["/slow"], REQUEST_START=f"{time.time() - 2:.3f}")
    path, waited, waited_ms, first, first_us, duration, cpu, cpu_ms, status = line.split()
    assert (path, status) == ("/slow", "200")
    assert float(waited) >= 1.9
    assert abs(float(waited_ms) - float(waited) * 1e3) <= 1
    assert 0.1 <= float(first) <= float(duration) - 0.199  # each is rounded
    assert abs(int(first_us) - float(first) * 1e6) <= 1000
    assert abs(float(cpu_ms) - float(cpu) * 1e3) <= 1


def test_who_connects_by_ipv4_is_shown_so(daemon: Daemon) -> None:
    """A bare port listens on IPv6 for both, where the kernel writes ::ffff:127.0.0.1."""
    settings: dict[str, object] = {"access.format": "%R %r", "listen": free_port()}
    assert logged(daemon, settings, ["/quick"]) == ["127.0.0.1 /quick"]


@pytest.mark.parametrize("name", ["client.sock", "\0pyfpm-test-{}"])
def test_who_connects_from_a_named_unix_socket_is_a_dash(daemon: Daemon, name: str) -> None:
    path = daemon.folder / "access.log"
    daemon.add_pool("www", {"access.log": path, "access.format": "%R %r"})
    daemon.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(name.format(os.getpid()) if name[0] == "\0" else str(daemon.app_folder / name))
        client.connect(str(daemon.address()))
        client.sendall(request_bytes(get_parameters("/pid")))
        while client.recv(65536):
            pass
    assert path.read_text() == "- /pid\n"
