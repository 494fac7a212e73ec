"""What the command line said, for the daemon and for the verbs.

Runs in: anyone's shell, an init system.
Fails by: nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """The options that stand before a verb. `daemonize`: None if neither -D nor -F was given."""

    config: str
    prefix: str | None
    pid: str | None
    daemonize: bool | None
    force_stderr: bool
    allow_root: bool

    def in_background(self) -> Options:
        return self._replace(daemonize=True)
