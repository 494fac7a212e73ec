"""Which CPythons this machine has for pools, and who may run them.

Runs in: tests.
Fails by: nothing; what is missing is told by `summary`.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
IMPORTANT = ("3.9", "3.11", "3.13")  # the oldest that is supported, Debian 12's, and a recent one
POOL_USER = "www-data"
AS_ROOT = os.geteuid() == 0
_QUESTION = (
    "import json, platform, sys;"
    "print(json.dumps([platform.python_implementation(), list(sys.version_info[:3]), sys.prefix == sys.base_prefix]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A CPython outside any virtual environment. `for_all`: the pool user can run it, too."""

    path: str
    version: tuple[int, int, int]
    for_all: bool

    @property
    def name(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    def __str__(self) -> str:
        return ".".join(map(str, self.version)) + f" ({self.path})"


def ask(path: str, user: str | None = None) -> Interpreter | None:
    """What is at `path`, when `user` runs it; None if that is no CPython, or does not run."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _QUESTION], capture_output=True, timeout=20, check=True, user=user, cwd="/"
        )
        implementation, version, is_real = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if implementation != "CPython" or not is_real:
        return None
    return Interpreter(path, tuple(version), user is not None or not AS_ROOT)


def _candidates() -> list[str]:
    names = ["python3", *(f"python{version}" for version in VERSIONS)]
    places = [f"/usr/bin/{name}" for name in names]
    places += sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python"))
    places += [path for name in names if (path := shutil.which(name)) and "/shims/" not in path]
    return list(dict.fromkeys(os.path.realpath(place) for place in places if os.path.exists(place)))


@functools.cache
def interpreters() -> dict[str, Interpreter]:
    """One for each version of VERSIONS that exists: rather one that the pool user can run, rather a newer one."""
    best: dict[str, Interpreter] = {}
    for path in _candidates():
        found = (ask(path, POOL_USER) if AS_ROOT else None) or ask(path)
        if found is None or found.name not in VERSIONS:
            continue
        known = best.get(found.name)
        if known is None or (found.for_all, found.version) > (known.for_all, known.version):
            best[found.name] = found
    return {name: best[name] for name in VERSIONS if name in best}


def usual() -> Interpreter:
    """The one for pools that do not care: anybody can run it."""
    for found in sorted(interpreters().values(), key=lambda one: (one.for_all, one.name == "3.11"), reverse=True):
        return found
    raise RuntimeError("no CPython of 3.9 to 3.13 on this machine")


def summary() -> list[str]:
    """Which interpreters pools were run on, and which could not be tried, for the end of a test run."""
    found = interpreters()
    lines = [f"pools ran on CPython {', '.join(str(one) for one in found.values())}"]
    for name in VERSIONS:
        if name not in found:
            what = "is not on this machine: the tests on it did not run"
            lines.append(f"{'NOTE: ' if name in IMPORTANT else ''}CPython {name} {what}")
    return lines
