"""What the kernel offers and the standard library lacks: prctl(2), and the title that ps(1) shows.

Runs in: every process, Python 3.9 and up.
Fails by: OSError from prctl; a title that cannot be set is left as it was.
"""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# A title overwrites the arguments in place, so whoever execs a template reserves the room with its last argument.
TITLE_ROOM = 96
TITLE_FILLER = "-" * TITLE_ROOM

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    wide = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    none = ctypes.c_ulong(0)
    if _libc.prctl(option, wide, none, none, none) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it (PR_SET_CHILD_SUBREAPER, Linux 3.4)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Get `signal_number` when the parent ends. A change of user clears it, so call this after that."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def set_dumpable(allowed: bool) -> None:
    """Whether other processes of this user may trace this one, and whether it may leave a core file."""
    _prctl(PR_SET_DUMPABLE, int(allowed))


def refuse_new_privileges() -> None:
    """From now on no exec gives this process more rights, by a set-user-ID file for one; there is no way back."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_title(title: str) -> None:
    """Show `title` in ps(1) and, cut to 15 bytes, in top(1).

    Only for a process whose last argument was TITLE_FILLER. The place of the arguments comes from proc(5), fields
    48 and 49 of /proc/self/stat; this is what setproctitle does in C, without a compiled module in the tenant's
    interpreter.
    """
    try:
        _prctl(PR_SET_NAME, title.encode()[:15])
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # counted from field 3, "state"
    except (OSError, ValueError, IndexError):
        return
    if start and end - start > TITLE_ROOM:
        # The byte at the very end must stay NUL, or the kernel reads on into the environment.
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title.encode()[: end - start - 1], min(len(title.encode()), end - start - 1))
