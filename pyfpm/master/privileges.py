"""From the master's user to the pool's: the one safe order, then the proof.

Runs in: the child that is about to exec a pool's interpreter, or to open a pool's log; until the last step as root.
Fails by: OSError of the step that was refused, or StartError when the drop did not hold.
"""

from __future__ import annotations

import os
import resource

from pyfpm import catalogue
from pyfpm.config.directives import PoolSettings
from pyfpm.errors import StartError
from pyfpm.master.accounts import Identity


def become(identity: Identity | None, settings: PoolSettings) -> None:
    """Take on the pool's limits, root directory, priority and user. `identity` is None where the user stays.

    Limits, chroot and priority want root, so they come first; groups before the user, or they can no longer be set.
    The directory comes last: entering it as the pool's user proves that this user can.
    """
    set_limit(resource.RLIMIT_NOFILE, settings.rlimit_files)
    set_limit(resource.RLIMIT_CORE, settings.rlimit_core)
    if identity is not None:
        if settings.chroot:
            os.chroot(settings.chroot)
            os.chdir("/")
        if settings.process_priority is not None:
            os.setpriority(os.PRIO_PROCESS, 0, settings.process_priority)
        change_user(identity)
    if settings.chdir:
        os.chdir(settings.chdir)


def change_user(identity: Identity) -> None:
    """Become this user, for good: groups first, or they can no longer be set."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    _prove(identity)


def set_limit(which: int, value: int) -> None:
    """Soft and hard limit to `value` (RLIM_INFINITY is -1); 0, PHP-FPM's "unset", leaves them alone."""
    if value != 0:
        resource.setrlimit(which, (value, value))


def _prove(identity: Identity) -> None:
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        text = f"the change to uid {identity.uid}, gid {identity.gid} did not take place"
        raise StartError(catalogue.TEMPLATE_CANNOT, text)
    if identity.uid == 0:
        return
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise StartError(catalogue.TEMPLATE_CANNOT, f"uid {identity.uid} was able to become root again")
