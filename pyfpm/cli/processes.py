"""What the kernel tells anybody, or root, about a process: its state, its time on a processor, its memory.

Runs in: an operator's shell.
Fails by: nothing; what cannot be read is None, and `Weight.reason` says why.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
GONE = "it has gone"
NOT_ALLOWED = "only root may look, and its own user where process.dumpable is set"


class Stat(NamedTuple):
    """Of /proc/PID/stat. `state` is a letter, see proc_pid_stat(5)."""

    state: str
    parent: int
    cpu: float  # seconds
    resident: int  # bytes


def read_stat(pid: int) -> Stat | None:
    """None for a process that is no more, or that we do not see."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            words = stat.read().rpartition(b") ")[2].split()
        cpu = (int(words[11]) + int(words[12])) / _TICK
        return Stat(words[0].decode("latin-1"), int(words[1]), cpu, int(words[21]) * _PAGE)
    except (OSError, ValueError, IndexError):
        return None


class Weight(NamedTuple):
    """The memory of a process in bytes. `pss`: what is shared counts in parts. `private`: nobody else has it."""

    rss: int | None = None
    pss: int | None = None
    private: int | None = None
    peak: int | None = None
    reason: str = ""  # why it is not all known

    @property
    def shared(self) -> int | None:
        """With its template and with others: libraries, too."""
        return None if self.rss is None or self.private is None else max(0, self.rss - self.private)


def weigh(pid: int, parent: int) -> Weight:
    """The memory of `pid`, if it is a child of `parent`: in another namespace the number means another process."""
    stat = read_stat(pid)
    if stat is None or stat.parent != parent:
        return Weight(reason=GONE)
    return read_weight(pid)


def read_weight(pid: int) -> Weight:
    """smaps_rollup is for those who may trace the process; status, with less in it, is for all."""
    try:
        public = _kilobytes(f"/proc/{pid}/status")
    except OSError:
        return Weight(reason=GONE)
    rss, peak = public.get(b"VmRSS"), public.get(b"VmHWM")
    try:
        sizes = _kilobytes(f"/proc/{pid}/smaps_rollup")
    except PermissionError:
        return Weight(rss, peak=peak, reason=NOT_ALLOWED)
    except OSError:
        return Weight(rss, peak=peak, reason=GONE)
    private = sizes.get(b"Private_Clean", 0) + sizes.get(b"Private_Dirty", 0) + sizes.get(b"Private_Hugetlb", 0)
    return Weight(sizes.get(b"Rss", rss), sizes.get(b"Pss"), private, peak)


def _kilobytes(path: str) -> dict[bytes, int]:
    """The lines of the form `Name:   123 kB`, in bytes."""
    with open(path, "rb") as file:
        words = [line.split() for line in file]
    return {one[0].rstrip(b":"): int(one[1]) * 1024 for one in words if len(one) == 3 and one[2] == b"kB"}
