"""What kind of file system a descriptor is on, from what the kernel says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyfpm.master.mounts import check_local, kind_of_mount, mount_id

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 0:35 /@ / rw,relatime shared:1 master:2 - btrfs /dev/vda rw,subvol=/@
271 27 0:44 / /home/a\040-\040b rw,nosuid - fuse.sshfs 28\040x rw,user_id=33
"""


@pytest.mark.parametrize(
    ("mount", "kind"), [("22", "proc"), ("27", "btrfs"), ("271", "fuse.sshfs"), ("2", ""), ("28", ""), ("", "")]
)
def test_the_kind_of_a_mount(mount: str, kind: str) -> None:
    assert kind_of_mount(mount, MOUNTS) == kind


def test_the_mount_of_a_descriptor() -> None:
    assert mount_id("pos:\t0\nflags:\t0100001\nmnt_id:\t271\nino:\t5\n") == "271"
    assert mount_id("pos:\t0\n") == ""


def test_open_files(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as ordinary:
        check_local(ordinary.fileno())
    with open("/proc/self/oom_score_adj", "w") as order, pytest.raises(OSError, match="of kind proc, where root"):
        check_local(order.fileno())
    nowhere = os.memfd_create("nowhere")
    with os.fdopen(nowhere), pytest.raises(OSError, match="not mounted here"):
        check_local(nowhere)
