"""`pyfpm -i`: what this pyfpm is made of.

Runs in: anyone's shell.
Fails by: nothing.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import click
import psutil

from pyfpm import __version__
from pyfpm.installed import PACKAGE


def show_info(config: str) -> None:
    """Everything that a bug report should have."""
    rows = {
        "pyfpm": f"{__version__}, {PACKAGE}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        "system": f"{platform.platform()}, {psutil.cpu_count()} processors, "
        f"{psutil.virtual_memory().total // 2**20} MiB of memory",
        "user": str(os.geteuid()),
        "configuration": config,
        "libraries": ", ".join(f"{name} {_version_of(name)}" for name in ("click", "psutil", "setproctitle")),
        "codec": "pure Python",
    }
    for name, value in rows.items():
        click.echo(f"{name:<14} {value}")


def _version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
