"""The application of the process tests: each path does one thing that an operator may meet.

Runs in: a pool, on its interpreter; standard library only, Python 3.9 and up. A copy of this file is what is served.
Fails by: whatever the path asks for.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import struct
import sys
import threading
from urllib.parse import parse_qs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Environ = dict[str, Any]
    Start = Callable[..., Callable[[bytes], object]]

IMPORTED_BY = os.getpid()
MIB = 1 << 20
HELD: list[bytes] = []


def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Dispatch on the first part of the path."""
    first = environ["PATH_INFO"].lstrip("/").partition("/")[0]
    question = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    answer = ANSWERS.get(first, _echo)
    return answer(environ, start_response, question)


def _plain(start_response: Start, text: object, status: str = "200 OK") -> Iterable[bytes]:
    body = str(text).encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _json(start_response: Start, value: object) -> Iterable[bytes]:
    body = json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _echo(environ: Environ, start_response: Start, _: dict[str, str]) -> Iterable[bytes]:
    """The environ; what JSON cannot hold is shown by repr()."""
    shown = {name: value if isinstance(value, (str, int, bool)) else repr(value) for name, value in environ.items()}
    return _json(start_response, shown)


def _pid(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    return _plain(start_response, os.getpid())


def _process(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Everything a test may want to know of the process that serves it."""
    with open("/proc/self/status") as status:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    return _json(
        start_response,
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "imported_by": IMPORTED_BY,
            "uid": os.getresuid(),
            "gid": os.getresgid(),
            "groups": os.getgroups(),
            "rlimit_files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "capabilities": lines["CapEff"],
            "cwd": os.getcwd(),
            "environ": dict(os.environ),
            "argv": sys.argv,
            "path": sys.path,
            "version": sys.version_info[:2],
            "executable": sys.executable,
            "prefix": sys.prefix,
            "modules": sorted(name for name in sys.modules if name.startswith("pyfpm")),
            "package": getattr(sys.modules.get("pyfpm"), "__file__", None),
            "descriptors": _descriptors(),
            "threads": len(threading.enumerate()),
        },
    )


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue  # of the listing itself
    return found


def _memory(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Resident memory in KiB, now and at its highest."""
    with open("/proc/self/status") as status:
        sizes = {line.split()[0].rstrip(":"): int(line.split()[1]) for line in status if line.startswith("Vm")}
    return _json(start_response, {"pid": os.getpid(), "now": sizes["VmRSS"], "highest": sizes["VmHWM"]})


def _hold(_: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    """Keep `mb` MiB from now on."""
    HELD.append(b"x" * (int(question["mb"]) * MIB))
    return _plain(start_response, os.getpid())


def _block(environ: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    """Say that we are inside, and wait to be let go; the other side is `Gate` in waits.py, or `Daemon.engage`."""
    if "at" in question and "pyfpm.deadline" in environ:
        environ["pyfpm.deadline"].extend(60)
    enter_and_wait(question.get("at", ""))
    return _plain(start_response, os.getpid())


def enter_and_wait(at: str = "") -> None:
    folder = os.path.join(os.environ["GATE"], at)
    leave = os.open(os.path.join(folder, "leave"), os.O_RDWR)
    inside = os.open(os.path.join(folder, "inside"), os.O_RDWR)
    try:
        os.write(inside, struct.pack("i", os.getpid()))
        os.read(leave, 1)
    finally:
        os.close(inside)
        os.close(leave)


def _hash(environ: Environ, start_response: Start, _: dict[str, str]) -> Iterable[bytes]:
    """Read the body in pieces; its length and SHA-256."""
    total, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        total += len(piece)
        digest.update(piece)
    return _json(start_response, {"length": total, "sha256": digest.hexdigest(), "pid": os.getpid()})


def _stream(_: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    """`mb` MiB in blocks of 64 KiB, without a Content-Length."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    block = bytes(range(256)) * 256
    return (block for _ in range(int(question["mb"]) * MIB // len(block)))


def _drip(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """One block, then a second one when the gate opens."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first "
    enter_and_wait()
    yield b"second"


def _kill(_: Environ, __: Start, question: dict[str, str]) -> Iterable[bytes]:
    os.kill(os.getpid(), int(question["signal"]))
    return []


def _exit(_: Environ, __: Start, question: dict[str, str]) -> Iterable[bytes]:
    """End the process under everybody's feet."""
    os._exit(int(question["code"]))


def _sysexit(_: Environ, __: Start, question: dict[str, str]) -> Iterable[bytes]:
    sys.exit(int(question.get("code", "3")))


def _raise(_: Environ, __: Start, ___: dict[str, str]) -> Iterable[bytes]:
    raise ValueError("a secret that no client may see")


def _raise_late(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"a beginning"
    raise ValueError("a secret that no client may see")


def _length(_: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    """An answer of `given` bytes that claims to have `said`."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", question["said"])])
    return (b"x" for _ in range(int(question["given"])))


def _print(environ: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    """`text` to where `to` says, `times` over; with a newline unless `bare`."""
    text = question["text"] * int(question.get("times", "1"))
    end = "" if question.get("bare") else "\n"
    stream = {"stdout": sys.stdout, "stderr": sys.stderr, "errors": environ["wsgi.errors"]}[question["to"]]
    stream.write(text + end)
    return _plain(start_response, os.getpid())


def _mark(_: Environ, start_response: Start, question: dict[str, str]) -> Iterable[bytes]:
    """Note the request's number in a file before it is answered."""
    with open(os.environ["MARKS"], "ab", buffering=0) as marks:
        marks.write(question["n"].encode() + b"\n")
    return _plain(start_response, question["n"])


def _deaf(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Block TERM (and what is as polite), then stay inside."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT})
    enter_and_wait()
    return _plain(start_response, os.getpid())


def _environment(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    return _json(start_response, dict(os.environ))


def _setuid(_: Environ, start_response: Start, __: dict[str, str]) -> Iterable[bytes]:
    """Try every way back to root; the names of those that worked."""
    ways: dict[str, Callable[[], object]] = {
        "setuid": lambda: os.setuid(0),
        "seteuid": lambda: os.seteuid(0),
        "setreuid": lambda: os.setreuid(0, 0),
        "setresuid": lambda: os.setresuid(0, 0, 0),
        "setgid": lambda: os.setgid(0),
        "setegid": lambda: os.setegid(0),
        "setresgid": lambda: os.setresgid(0, 0, 0),
        "setgroups": lambda: os.setgroups([0]),
        "chroot": lambda: os.chroot("/"),
        "nice": lambda: os.nice(-1),
    }
    worked = []
    for name, way in ways.items():
        try:
            way()
        except PermissionError:
            continue
        worked.append(name)
    return _json(start_response, worked)


ANSWERS: dict[str, Callable[[Environ, Start, dict[str, str]], Iterable[bytes]]] = {
    "pid": _pid,
    "process": _process,
    "memory": _memory,
    "block": _block,
    "hold": _hold,
    "hash": _hash,
    "stream": _stream,
    "drip": _drip,
    "kill": _kill,
    "exit": _exit,
    "sysexit": _sysexit,
    "raise": _raise,
    "raise-late": _raise_late,
    "length": _length,
    "print": _print,
    "mark": _mark,
    "deaf": _deaf,
    "environment": _environment,
    "setuid": _setuid,
}
