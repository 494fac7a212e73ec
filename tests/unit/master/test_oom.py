"""The kernel's count of what it killed for lack of memory, of both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfpm.master.oom import MEMORY, PAUSE, OomKills
from pyfpm.master.processes import End, describe_crash


def box(root: Path, membership: str, file: str, text: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    path = root / "sys/fs/cgroup" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("membership", "file", "cgroup"),
    [
        ("0::/system.slice/pyfpm.service\n", "system.slice/pyfpm.service/memory.events", "/system.slice/pyfpm.service"),
        ("4:memory:/sites\n0::/\n", "memory/sites/memory.oom_control", "/sites"),
        ("5:cpu,memory:/a\n", "memory/a/memory.oom_control", "/a"),
        ("0::/docker/1f\n", "memory.events", "/docker/1f"),
        ("1:name=systemd:/\n0::/u\n", "unified/u/memory.events", "/u"),
    ],
)
def test_a_kill_is_put_down_to_one_process(tmp_path: Path, membership: str, file: str, cgroup: str) -> None:
    path = box(tmp_path, membership, file, "oom 7\noom_kill 2\noom_group_kill 0\n")
    kills = OomKills(tmp_path)
    assert kills.take(1.0) == ""
    path.write_text("oom 8\noom_kill 4\noom_group_kill 0\n")
    assert [kills.take(2.0) for _ in range(3)] == [cgroup, cgroup, ""]


def test_an_old_kill_was_that_of_somebody_else(tmp_path: Path) -> None:
    path = box(tmp_path, "0::/\n", "memory.events", "oom_kill 0\n")
    kills = OomKills(tmp_path)
    path.write_text("oom_kill 1\n")
    kills.look(1.0)
    kills.look(1.0 + PAUSE + MEMORY)
    assert kills.take(2.0 + PAUSE + MEMORY) == ""


def test_where_there_is_no_count_nothing_is_said(tmp_path: Path) -> None:
    assert OomKills(tmp_path).take(1.0) == ""
    path = box(tmp_path, "0::/\n", "memory.events", "oom_kill 0\n")
    kills = OomKills(tmp_path)
    path.unlink()
    assert kills.take(1.0) == ""


def test_what_a_crash_report_has() -> None:
    assert describe_crash(End(1, 9, 212 << 20, "/sites")) == (
        ", killed by the kernel for lack of memory (cgroup /sites), peak 212 MiB"
    )
    assert describe_crash(End(1, 11, 3 << 20)) == ", peak 3 MiB"
    assert describe_crash(End(1, 7 << 8, 3 << 20)) == ""
