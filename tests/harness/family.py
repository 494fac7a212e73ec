"""Who is whose child, and what ps(1) shows of it.

Runs in: tests.
Fails by: nothing; whoever has ended is not there.

psutil knows all this too, in five times the time: it is asked twice and more in every process test.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict


def _families() -> dict[int, list[int]]:
    """By the pid of every process of this machine: its children, zombies too."""
    found: dict[int, list[int]] = defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # it may have ended meanwhile
            _, _, fields = file.read().rpartition(b") ")
            found[int(fields.split(maxsplit=2)[1])].append(int(name))
    return found


def children(pid: int) -> list[int]:
    return sorted(_families()[pid])


def descendants(pid: int) -> list[int]:
    """Its children, and theirs."""
    families = _families()
    found = [pid]
    for one in found:  # it grows meanwhile
        found += families[one]
    return sorted(found[1:])


def title_of(pid: int) -> str:
    """What ps(1) shows; "" for a process that has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
