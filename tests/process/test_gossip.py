"""What a pool's processes say is gossip: nonsense from them is logged, and never ends or misleads the master."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from tests.harness.reloads import report
from tests.harness.waits import Stopwatch

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

# An application that has got at pyfpm's own descriptors and does its worst with them.
HOSTILE = """
import mmap, os, random, socket, stat, struct
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
                try:
                    liar.send(bytes([kind]) + chance.randbytes(size))
                except BrokenPipeError:
                    break  # the master has hung up
        liar.close()
    elif what == "/fill":
        liar = mailbox()
        for _ in range(100):
            try:
                socket.send_fds(liar, [b"G{}"], [0, 1, 2])
            except OSError:
                break
        liar.close()
    elif what == "/newlines":
        if os.fork() == 0:
            os.nice(19)  # it is about turns, not about who gets the processor
            os.closerange(3, 1000)
            while not os.path.exists(os.path.dirname(__file__) + "/enough"):
                os.write(1, b"\\n" * 65536)
            os._exit(0)
    elif what == "/flood":
        liar = mailbox()
        liar.setblocking(True)
        for number in range(5000):
            liar.send(struct.pack("<cBH", b"S", 1, 0) + b"flood")
        liar.close()
    elif what == "/codes":
        liar = mailbox()
        for code in (504, 300, 599, 65535):
            liar.send(struct.pack("<cBH", b"S", 3, code) + b"claims %d" % code)
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
    daemon.expect("does not speak our language|is no child of this master")
    daemon.expect(r"\[pool www\] child \d+ ")
    assert daemon.get("/lie").status == 200
    daemon.wait_log("does not speak our language")
    assert daemon.get("/pid", pool="shop").status == 200
    assert daemon.get("/pid").status == 200


def test_a_flood(daemon: Daemon) -> None:
    hostile(daemon)
    assert daemon.get("/flood").status == 200
    assert daemon.get("/pid", pool="shop").status == 200
    assert daemon.stop(signal.SIGQUIT) == 0


def test_a_pool_cannot_claim_the_codes_of_the_master(daemon: Daemon) -> None:
    hostile(daemon)
    assert daemon.get("/codes").status == 200
    daemon.wait_log(r"(?m)child \d+ claims 504 \[PYFPM-504\]$")
    for code in (300, 599, 65535):
        daemon.wait_log(rf"(?m)child \d+ claims {code}$")


def test_descriptors_do_not_stay_in_the_master(daemon: Daemon) -> None:
    hostile(daemon)
    daemon.expect("does not speak our language: Greeting, which a worker that serves may not say")
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    assert daemon.get("/fill").status == 200
    report(daemon)  # the master has heard it by now
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 2


def test_a_flood_of_newlines(daemon: Daemon) -> None:
    """Many writers that never pause: the master answers all the same, the log does not grow as fast as they write."""
    daemon.write_app("hostile.py", HOSTILE)
    daemon.forgive_children_of_applications()
    daemon.add_pool("www", {"app": "hostile:application", "pm.max_children": 12})
    daemon.add_pool("shop")
    daemon.start()
    daemon.expect(r"\[pool www\] child \d+ said into stdout")
    daemon.expect(r"lines of output left out")
    for _ in range(12):
        assert daemon.get("/newlines").status == 200
    for _ in range(3):
        clock = Stopwatch()
        report(daemon, "shop")
        assert clock.fair < 5, "it takes milliseconds; it took minutes"
    daemon.wait_log("lines of output left out, more than 1024 KiB a second")
    assert daemon.get("/pid", pool="shop").status == 200
    daemon.write_app("enough", "")


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
