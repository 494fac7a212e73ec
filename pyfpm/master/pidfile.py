"""The pid file: proof that a master runs, for as long as it runs.

Runs in: master (hold_pid_file), an operator's shell (find_holder).
Fails by: StartError when another master holds it, or it cannot be written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from pyfpm.errors import StartError

MASTER_TITLE = "pyfpm: master process"  # what ps(1) shows of it, and then its configuration


@contextlib.contextmanager
def hold_pid_file(path: str | None, inherited: int | None = None) -> Iterator[int | None]:
    """Keep our pid in `path` and a lock on it; the file is removed on the way out, whatever the way.

    Gives the descriptor that holds the lock. `inherited` is that of the image before this one (an upgrade).

    The lock, not the pid in it, tells whether a master runs: after a SIGKILL the file stays and the lock does not, so
    the next start takes the file over.
    """
    if path is None:
        yield None
        return
    descriptor = _lock(path) if inherited is None else inherited
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def find_holder(path: str) -> int | None:
    """The pid of the master that holds `path`; None if none does.

    Without taking the lock, even for a moment: a master that starts just then would take us for another master. A pid
    that has come to mean another process is told by what it has open, or where we may not look, by its title.
    """
    try:
        with open(path, "rb") as file:
            inode = os.fstat(file.fileno())
            pid = int(file.read(32))
        return pid if pid > 0 and _has_open(pid, inode) else None
    except (OSError, ValueError):  # no such file, nothing in it yet, no such process
        return None


def _has_open(pid: int, inode: os.stat_result) -> bool:
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), inode):
                    return True
    except PermissionError:
        with open(f"/proc/{pid}/cmdline", "rb") as title:
            return title.read().startswith(MASTER_TITLE.encode())
    return False


def _lock(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(f"Unable to create the PID file ({path}).: {error.strerror} ({error.errno})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_still(descriptor, path):  # its holder removed it between our open and our lock
            os.close(descriptor)
            return _lock(path)
    except BlockingIOError:
        # Whoever can read the file can lock it; only a process that proves to be a master is taken for one.
        pid = find_holder(path)
        if pid is not None:
            os.close(descriptor)
            raise StartError(f"another pyfpm is running with the PID file {path}, pid {pid}") from None
    return descriptor


def _is_still(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
