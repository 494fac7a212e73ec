"""From the master's user to one without rights: small limits, no groups, no way back; then the proof.

Runs in: monitor, before it has looked at anything that others have written.
Fails by: OSError of the step that was refused, or PermissionError when the drop did not hold.
"""

from __future__ import annotations

import os
import resource

from pyfpm import kernel

MOST_FILES = 4096  # scoreboards, listeners and connections; no pool has more than a few
_LIMITS = {
    resource.RLIMIT_NOFILE: MOST_FILES,
    resource.RLIMIT_NPROC: 0,  # it starts nothing,
    resource.RLIMIT_FSIZE: 0,  # writes no file
    resource.RLIMIT_CORE: 0,  # and leaves none
}


def confine(uid: int, gid: int) -> None:
    """Become `uid` and `gid` without further groups, if this process is root; and give up what is not needed."""
    for which, most in _LIMITS.items():
        hard = resource.getrlimit(which)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (limit, limit))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        _prove(uid, gid)
    kernel.refuse_new_privileges()
    kernel.set_dumpable(False)  # another process of the same user could read its memory and descriptors


def _prove(uid: int, gid: int) -> None:
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or os.getgroups():
        raise PermissionError(f"the change to uid {uid}, gid {gid} did not take place")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PermissionError(f"uid {uid} was able to become root again")
