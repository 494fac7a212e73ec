"""What a pool's processes say is gossip: nonsense from them is logged, and never ends or misleads the master."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

# An application that has got at pyfpm's own descriptors and does its worst with them.
HOSTILE = """
import mmap, os, random, socket, stat
import apps


def mailbox():
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if found.type == socket.SOCK_SEQPACKET:
            return found
        found.close()


def scoreboards():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd:" in os.readlink("/proc/self/fd/" + name):
                yield int(name)
        except FileNotFoundError:
            continue  # that of the listing


def application(environ, start_response):
    what = environ["PATH_INFO"]
    if what == "/lie":
        liar = mailbox()
        chance = random.Random(1)
        for kind in b"GFLUEXSBRATNKabc\\0\\xff":
            for size in (0, 1, 8, 9, 100, 3000):
                liar.send(bytes([kind]) + chance.randbytes(size))
        liar.close()
    elif what == "/flood":
        liar = mailbox()
        liar.setblocking(True)
        for number in range(5000):
            liar.send(b"S\\x01" + b"flood")
        liar.close()
    elif what == "/scribble":
        for number in scoreboards():
            size = os.fstat(number).st_size
            with mmap.mmap(number, size) as memory:
                memory[:] = b"\\xff" * size
    elif what == "/shrink":
        refused = 0
        for number in scoreboards():
            try:
                os.ftruncate(number, 0)
            except PermissionError:
                refused += 1
        environ["PATH_INFO"] = "/shrunk"
        start_response("200 OK", [])
        return [str(refused).encode()]
    elif what == "/deafen":
        liar = mailbox()
        liar.shutdown(socket.SHUT_RDWR)
    environ["PATH_INFO"] = "/pid"
    return apps.application(environ, start_response)
"""


def hostile(daemon: Daemon) -> None:
    daemon.write_app("hostile.py", HOSTILE)
    daemon.add_pool("www", {"app": "hostile:application"})
    daemon.add_pool("shop")
    daemon.start()


def test_lies(daemon: Daemon) -> None:
    hostile(daemon)
    daemon.expect("does not speak our language|said what no worker says|is no child of this master")
    daemon.expect(r"\[pool www\] child \d+ ")
    assert daemon.get("/lie").status == 200
    daemon.wait_log("does not speak our language|said what no worker says")
    assert daemon.get("/pid", pool="shop").status == 200
    assert daemon.get("/pid").status == 200


def test_a_flood(daemon: Daemon) -> None:
    hostile(daemon)
    assert daemon.get("/flood").status == 200
    assert daemon.get("/pid", pool="shop").status == 200
    assert daemon.stop(signal.SIGQUIT) == 0


def test_a_scoreboard_full_of_nonsense(daemon: Daemon) -> None:
    hostile(daemon)
    daemon.expect(r"\[pool www\] child \d+ ")
    assert daemon.get("/scribble").status == 200
    for _ in range(5):
        assert daemon.get("/pid", pool="shop").status == 200
    assert daemon.stop(signal.SIGTERM) == 0


def test_the_scoreboard_cannot_be_shrunk(daemon: Daemon) -> None:
    """That would be SIGBUS for the master at its next look."""
    hostile(daemon)
    assert int(daemon.get("/shrink").body) >= 1
    assert daemon.get("/pid", pool="shop").status == 200


def test_a_worker_that_hangs_up(daemon: Daemon) -> None:
    hostile(daemon)
    daemon.expect(r"\[pool www\] child \d+ ")
    assert daemon.get("/deafen").status == 200
    assert daemon.get("/pid").status == 200
    assert daemon.get("/pid", pool="shop").status == 200


def test_the_scoreboard_is_of_this_pool_alone(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    for pool in ("www", "shop"):
        found = json.loads(daemon.get("/process", pool=pool).body)["descriptors"].values()
        boards = [target for target in found if "memfd:" in target]
        assert all(f"pyfpm-{pool}" in target for target in boards), boards
