"""What the kernel tells about a process: its children, its CPU time, its memory.

Runs in: the benchmark.   Not pure: it reads /proc.
Fails by: OSError when a process is gone.
"""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Its children, whichever of its threads made them."""
    lists = (task / "children" for task in Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for each in lists for child in each.read_text().split()]


def tree(pid: int) -> list[int]:
    """The process, its children and theirs."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def cpu_ns(pids: list[int]) -> int:
    """Time on a CPU, user and system, in nanoseconds (schedstat; the ticks of stat are 10 ms)."""
    return sum(_schedstat(pids, 0))


def wanted_ns(pids: list[int]) -> int:
    """Time on a CPU or waiting for one: unlike cpu_ns, it does not shrink when others use the same CPU."""
    return sum(_schedstat(pids, 0)) + sum(_schedstat(pids, 1))


def sleeps(pids: list[int]) -> int:
    """How often they went to sleep by themselves: once a request says that the load does not keep them busy."""
    return sum(_field(task / "status", "voluntary_ctxt_switches") for pid in pids for task in _tasks(pid))


def pss_kb(pid: int) -> int:
    """Its memory in kB, shared pages counted by their share."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def private_kb(pid: int) -> int:
    """Its memory in kB that nobody shares: it does not depend on what else runs."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return _field(rollup, "Private_Clean") + _field(rollup, "Private_Dirty")


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _schedstat(pids: list[int], field: int) -> list[int]:
    return [int(task.joinpath("schedstat").read_text().split()[field]) for pid in pids for task in _tasks(pid)]


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"{path} has no {name}")
