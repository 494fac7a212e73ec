"""Ask a pool's interpreter who it is, as the pool's user: a tenant's program must never run as root.

Runs in: master; the question in a child that has become the pool's user.
Fails by: returning the reason why the interpreter is of no use.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfpm.master.accounts import Identity

OLDEST = (3, 9)
_PATIENCE = 10.0  # seconds; a cold start from a network disk has been seen to take three
_LONGEST_ANSWER = 4096
_QUESTION = "import sys; sys.stdout.write('pyfpm %d %d' % sys.version_info[:2])"


def interpreter_fault(python: str, who: Identity | None, *, chroot: str | None = None) -> str:
    """What is wrong with this interpreter; "" when it is a Python that can run pools.

    `who` is None when the master is not root and the interpreter runs as the same user.
    """
    command = [python, "-I", "-c", _QUESTION]
    more: dict[str, Any] = {}
    if who is not None and chroot:
        command = _inside(chroot, who) + command
    elif who is not None:
        more = {"user": who.uid, "group": who.gid, "extra_groups": list(who.groups)}
    try:
        answer = _ask(command, more)
    except subprocess.TimeoutExpired:
        return f"{python} does not answer within {_PATIENCE:.0f} seconds"
    except OSError as error:
        return f"{python} cannot be run: {error.strerror}"
    found = re.fullmatch(r"pyfpm (\d+) (\d+)", answer)
    if not found:
        return f"{python} is no Python 3: it answers {answer[:100]!r}"
    version = int(found[1]), int(found[2])
    if version < OLDEST:
        return f"{python} is Python {found[1]}.{found[2]}; pools need {OLDEST[0]}.{OLDEST[1]} or later"
    return ""


def _ask(command: list[str], more: dict[str, Any]) -> str:
    """What the program prints. One that prints more than a pipe holds waits for a reader until it is killed."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={},
        **more,
    ) as process:
        assert process.stdout is not None
        try:
            process.wait(_PATIENCE)
        finally:
            process.kill()
        # A grandchild may still hold the pipe: what is there now is the answer.
        os.set_blocking(process.stdout.fileno(), False)
        try:
            return os.read(process.stdout.fileno(), _LONGEST_ANSWER).decode("ascii", "replace").strip()
        except BlockingIOError:
            return ""


def _inside(chroot: str, who: Identity) -> list[str]:
    """chroot(8), which enters the folder first and drops root after: subprocess can only do one of the two."""
    groups = ",".join(map(str, who.groups))
    program = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"
    return [program, f"--userspec={who.uid}:{who.gid}", f"--groups={groups}", chroot]
