"""The pid file: proof that a master runs, for as long as it runs.

Runs in: master.
Fails by: StartError when another master holds it, or it cannot be written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from pyfpm.errors import StartError


@contextlib.contextmanager
def hold_pid_file(path: str | None) -> Iterator[None]:
    """Keep our pid in `path` and a lock on it; the file is removed on the way out, whatever the way.

    The lock, not the pid in it, tells whether a master runs: after a SIGKILL the file stays and the lock does not, so
    the next start takes the file over.
    """
    if path is None:
        yield
        return
    descriptor = _lock(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


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
        pid = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StartError(f"another pyfpm is running with the PID file {path}, pid {pid}") from None
    return descriptor


def _is_still(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
