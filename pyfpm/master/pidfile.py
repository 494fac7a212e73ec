"""The pid file: proof that a master runs, for as long as it runs.

Runs in: master (hold_pid_file), an operator's shell (find_holder).
Fails by: StartError when another master holds it, or it cannot be written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from pyfpm import catalogue
from pyfpm.errors import StartError
from pyfpm.master import trusted

MASTER_TITLE = "pyfpm: master process"  # what ps(1) shows of it, and then its configuration
RIVAL_PATIENCE = 1.0  # seconds; one that has the lock writes its pid at once
RIVAL_PAUSE = 0.02
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


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
    path = _place(path) if inherited is None else os.path.realpath(path)
    descriptor = _take(path) if inherited is None else inherited
    try:
        yield descriptor
    finally:
        _give_up(descriptor, path)


def find_holder(path: str) -> int | None:
    """The pid of the master that holds `path`; None if none does.

    Without taking the lock, even for a moment: a master that starts just then would take us for another master. A pid
    that has come to mean another process is told by what it has open, or where we may not look, by its title.
    """
    try:
        # O_NONBLOCK: what is there may be a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with _closing(descriptor):
        return _holder_of(descriptor)


def _holder_of(descriptor: int) -> int | None:
    """The master whose pid is in this file, and that has it open."""
    try:
        pid = int(os.pread(descriptor, 32, 0))
        return pid if pid > 0 and _has_open(pid, os.fstat(descriptor)) else None
    except (OSError, ValueError):  # nothing in it yet, no such process
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


# ── the lock ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _take(path: str) -> int:
    """The file, locked and with our pid in it. A rival that is just starting gets the time to say who it is.

    Everybody who can read the file can lock it. Whoever does so and proves to be no master does not count: the file
    is replaced by one that nobody else has open.
    """
    while True:
        if (descriptor := _try_patiently(path)) is not None:
            return _sign(descriptor, path)
        # One at a time: a second one must find the first one's file, and not the stranger's.
        guard = _wait_for_guard(f"{path}.lock", path)
        try:
            if (descriptor := _replace(path)) is not None:
                return _sign(descriptor, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.lock")
            os.close(guard)


def _try_patiently(path: str) -> int | None:
    deadline = time.monotonic() + RIVAL_PATIENCE
    while time.monotonic() < deadline:
        if (descriptor := _try(path)) is not None:
            return descriptor
        time.sleep(RIVAL_PAUSE)
    return None


def _try(path: str) -> int | None:
    """The file, locked; None if somebody else has the lock; StartError if that is a master."""
    descriptor = _open(path, _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with _closing(descriptor):
            _refuse_holder(descriptor, path)
        return None
    if _is_still(descriptor, path):
        return descriptor
    os.close(descriptor)  # its holder removed it between our open and our lock
    return None


def _replace(path: str) -> int | None:
    """A new file in the place of one that a stranger has locked, by who holds the guard; None: a rival was quicker."""
    descriptor = _try(path)
    if descriptor is not None:
        return descriptor
    try:
        strangers = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with _closing(strangers):
            os.unlink(path)
            _refuse_holder(strangers, path)  # who had written his pid before this sees his file gone after it
    except FileNotFoundError:
        pass  # whose it was has removed it
    except OSError as error:  # it is not ours to read or, in a sticky folder, to remove
        raise _cannot_create(path, error) from error
    try:
        descriptor = _open(path, _FLAGS | os.O_EXCL)  # private until it has our pid
    except FileExistsError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _wait_for_guard(name: str, path: str) -> int:
    """A lock that strangers cannot take: this file is never readable by others."""
    deadline = time.monotonic() + 2 * RIVAL_PATIENCE
    while time.monotonic() < deadline:
        descriptor = _open(name, _FLAGS)
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still(descriptor, name):
                    return descriptor
        os.close(descriptor)
        time.sleep(RIVAL_PAUSE)
    raise StartError(catalogue.PID_FILE_LOCKED, f"another process has locked the PID file {path}, and {name} too")


def _refuse_holder(descriptor: int, path: str) -> None:
    pid = _holder_of(descriptor)
    if pid is not None:
        text = f"another pyfpm is running with the PID file {path}, pid {pid}"
        raise StartError(catalogue.ALREADY_RUNNING, text)


def _place(path: str) -> str:
    """Where it really is. Root goes only where nobody else can lead it; a plain user harms but himself."""
    try:
        return trusted.walk(path, 0).path if os.geteuid() == 0 else os.path.realpath(path)
    except OSError as error:
        raise _cannot_create(path, error) from error


def _open(path: str, flags: int) -> int:
    """Open it; StartError unless it is an ordinary file with this one name."""
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise _cannot_create(path, error) from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:  # 0: its holder has removed it just now
        return descriptor
    os.close(descriptor)
    raise _cannot_create(path, OSError(errno.EINVAL, "it is no ordinary file, or has a second name"))


def _cannot_create(path: str, error: OSError) -> StartError:
    text = f"Unable to create the PID file ({path}).: {error.strerror} ({error.errno})"
    return StartError(catalogue.PID_FILE_FAILED, text)


def _sign(descriptor: int, path: str) -> int:
    """Write our pid into the file, or leave nothing behind."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        _give_up(descriptor, path)
        raise _cannot_create(path, error) from error
    with contextlib.suppress(PermissionError):  # somebody else's file, that we may write
        os.fchmod(descriptor, 0o644)
    if _is_still(descriptor, path):
        return descriptor
    os.close(descriptor)
    text = f"somebody has removed or replaced the PID file {path} while pyfpm started"
    raise StartError(catalogue.PID_FILE_FAILED, text)


def _give_up(descriptor: int, path: str) -> None:
    if _is_still(descriptor, path):
        with contextlib.suppress(OSError):
            os.unlink(path)
    os.close(descriptor)


def _is_still(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
