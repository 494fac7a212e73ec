"""Whether the files that an application was loaded from are still the same.

Runs in: template, Python 3.9 and up.
Fails by: nothing; a file that has gone has changed.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    Stamp = tuple[int, int, int]


class Files:
    """The source files, and compiled modules, behind everything in sys.modules; pyfpm's own are not looked at.

    A file is the same when its inode, size and time of change are: deploying by a new folder behind a symbolic link
    changes the inode. What was replaced while it was being loaded may be either the old or the new, so it has changed.
    """

    def __init__(self, stamps: dict[str, Stamp | None]) -> None:
        self._stamps = stamps

    @classmethod
    def loaded(cls, began: int) -> Files:
        """What is loaded now, since `began` (nanoseconds since 1970)."""
        paths = {_file_of(module) for name, module in list(sys.modules.items()) if not _is_ours(name)}
        stamps = {path: _stamp(path) for path in paths if path}
        return cls({path: None if stamp and stamp[2] >= began else stamp for path, stamp in stamps.items()})

    def changed(self) -> str:
        """The path of one that has changed, or ""."""
        return next((path for path, stamp in self._stamps.items() if stamp is None or _stamp(path) != stamp), "")


def _is_ours(name: str) -> bool:
    return name == "pyfpm" or name.startswith("pyfpm.")


def _file_of(module: object) -> str:
    """Where it was loaded from, or "". Anything may be in sys.modules, and may raise anything when it is asked."""
    try:
        path = getattr(module, "__file__", None)
        return path if isinstance(path, str) and "\0" not in path else ""
    except Exception:
        return ""


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    # Not the time of modification, which rsync and tar set back.
    return found.st_ino, found.st_size, found.st_ctime_ns
