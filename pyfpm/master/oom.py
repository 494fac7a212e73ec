"""Whether the kernel killed one of ours for lack of memory: the count of such kills that our cgroup keeps.

Runs in: master.
Fails by: nothing; where there is no count that can be read, nobody is said to have been killed so.

The kernel tells nobody whom it killed and why, but for its own log, which only root can read and which is a ring that
forgets. The count is of our cgroup and of those below it, so of the pools' processes and of what they start.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


PAUSE = 5.0  # seconds between two looks
MEMORY = 5.0  # seconds after which a kill was that of some process which is no child of the master


class OomKills:
    """The count, and how much of it has been put down to nobody yet."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.cgroup = ""
        self._file: Path | None = None
        self._seen = 0
        self._unclaimed = 0
        self._looked = self._risen = -MEMORY
        for cgroup, file in _candidates(root):
            count = _read(file)
            if count is not None:
                self.cgroup, self._file, self._seen = cgroup, file, count
                break

    def look(self, now: float) -> None:
        """See to it that an old kill, of a process that an application started, is put down to nobody."""
        if now - self._looked >= PAUSE:
            self._look(now)

    def take(self, now: float) -> str:
        """A child of the master has died of SIGKILL: our cgroup, if the count has just risen for it; else nothing."""
        self._look(now)
        if not self._unclaimed:
            return ""
        self._unclaimed -= 1  # when two are killed at once, the other comes next
        return self.cgroup

    def _look(self, now: float) -> None:
        count = None if self._file is None else _read(self._file)
        if count is None:
            return
        self._looked = now
        if count > self._seen:
            self._unclaimed, self._risen = self._unclaimed + count - self._seen, now
        elif now - self._risen > MEMORY:
            self._unclaimed = 0
        self._seen = count


def _candidates(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of cgroups that may be ours: by version 2 or 1, as the host or as a container names them."""
    membership = file = ""
    with contextlib.suppress(OSError):
        membership = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    mounts = root / "sys/fs/cgroup"
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        places: list[Path] = []
        if number == "0":
            places, file = [mounts, mounts / "unified"], "memory.events"
        elif "memory" in controllers.split(","):
            places, file = [mounts / "memory"], "memory.oom_control"
        for place in places:
            # In a container the name may be that of the host, while only its own cgroup is mounted.
            for below in (name.lstrip("/"), ""):
                yield name, place / below / file


def _read(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        found = _COUNT.search(file.read_text(encoding="ascii", errors="replace"))
        return int(found[1]) if found else None
    return None
