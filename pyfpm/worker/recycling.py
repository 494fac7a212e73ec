"""When a worker has served long enough: pm.max_requests and pm.max_memory. (pm.max_lifetime is the master's to watch.)

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: nothing; memory that cannot be measured is not limited.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MEMORY_INTERVAL = 1.0  # seconds; reading PSS costs up to a millisecond in a large process


class Recycling:
    """The limits of one worker. Its number of requests is drawn by lot, or all workers would leave together."""

    def __init__(self, requests: int, memory: int, proportional: bool) -> None:
        self._requests = requests
        self._memory = memory
        self._proportional = proportional
        self._next_look = 0.0
        self._looked_at = 0

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Recycling | None:
        """None where there are no limits, so that a request pays nothing for them."""
        requests = settings["pm_max_requests"]
        if requests:
            # Not `random`: importing it costs memory, and its state is shared by all who are forked from a template.
            requests += int.from_bytes(os.urandom(4), "big") % (settings["pm_max_requests_jitter"] + 1)
        memory = settings["pm_max_memory"]
        return cls(requests, memory["bytes"], memory["kind"] == "pss") if requests or memory["bytes"] else None

    def is_due(self, number: int) -> str:
        """After `number` requests served: why it is time to leave, or "". Asked again without one more, it is not."""
        if number == self._looked_at:
            return ""
        self._looked_at = number
        if self._requests and number >= self._requests:
            return f"after {number} requests (pm.max_requests)"
        if self._memory and (now := time.monotonic()) >= self._next_look:
            self._next_look = now + MEMORY_INTERVAL
            used = proportional_memory() if self._proportional else resident_memory()
            if used > self._memory:
                kind = "PSS" if self._proportional else "RSS"
                return f"with {used >> 20} MiB {kind} of {self._memory >> 20} allowed (pm.max_memory), request {number}"
        return ""


def resident_memory() -> int:
    """RSS in bytes, proc_pid_statm(5)."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def proportional_memory() -> int:
    """PSS in bytes, proc_pid_smaps(5): pages shared with the template and its other workers count in part."""
    try:
        with open("/proc/self/smaps_rollup", "rb") as rollup:
            for line in rollup:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
