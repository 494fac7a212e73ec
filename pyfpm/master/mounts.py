"""Whether root may write to an open file that a tenant has chosen: what kind of file system it is on.

Runs in: master.
Fails by: OSError that names the kind of file system.

"A regular file" says little. In /proc and /sys a write is an order to the kernel, and some are judged by who writes
and not by who has opened the file; a file system that a process of the tenant's serves (FUSE) lets the writer wait for
as long as the tenant likes, and a dead file server does so, too. So what is good is listed, and all else is refused.

Asked is the mount of the descriptor, not st_dev: subvolumes of btrfs have numbers of their own. A mount of somebody
else's name space, reached through /proc/PID/root, is in no list of ours, and refused.
"""

from __future__ import annotations

import errno

LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs", "tmpfs", "xfs", "zfs")
)


def check_local(descriptor: int) -> None:
    """OSError, unless it is on an ordinary file system of this machine."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as fdinfo:
        mount = mount_id(fdinfo.read())
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mountinfo:
        kind = kind_of_mount(mount, mountinfo.read())
    if kind not in LOCAL:
        kind = f"a file system of kind {kind}" if kind else "a file system that is not mounted here"
        raise OSError(errno.EINVAL, f"it is on {kind}, where root does not write what a tenant can exchange")


def mount_id(fdinfo: str) -> str:
    """The number of the mount that a descriptor belongs to, proc_pid_fdinfo(5); "" if it is not told."""
    pairs = (line.partition(":") for line in fdinfo.split("\n"))
    return next((value.strip() for name, _, value in pairs if name == "mnt_id"), "")


def kind_of_mount(mount: str, mountinfo: str) -> str:
    """What file system is mounted there, proc_pid_mountinfo(5); "" for an unknown mount."""
    for line in mountinfo.split("\n"):
        # Blanks in paths are \040, so the one " - " is that between the optional fields and the kind.
        place, _, source = line.partition(" - ")
        if place.split(" ", 1)[0] == mount:
            return source.split(" ", 1)[0]
    return ""
