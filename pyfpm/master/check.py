"""Look at a configuration as `pyfpm -t` would, in a process of its own: it may take seconds.

Runs in: master (Check), and the child that looks.
Fails by: OSError when there is no process to be had; a child that says nothing sensible is a problem of its own.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import catalogue, kernel
from pyfpm.fork import fork_child
from pyfpm.master import processes
from pyfpm.master.preflight import examine

if TYPE_CHECKING:
    from pyfpm.config.directives import Configuration
    from pyfpm.master.loop import Loop

LARGEST_ANSWER = 256 * 1024


class Finding(NamedTuple):
    """Something that a start would refuse. `pool` is whose trouble it is, empty if it is everybody's."""

    pool: str
    text: str
    code: catalogue.Code


class Check:
    """The child, and what it has found. `findings` is None until it is over."""

    def __init__(self, loop: Loop, configuration: Configuration, *, allow_root: bool) -> None:
        self.findings: list[Finding] | None = None
        self._loop = loop
        self._answer = b""
        self._reader, writer = os.pipe()
        try:
            self.pid = fork_child(_look_at(configuration, allow_root, writer))
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            os.close(self._reader)
            raise
        finally:
            os.close(writer)
        os.set_blocking(self._reader, False)
        loop.watch(self._reader, self._on_readable)

    def close(self) -> None:
        """End the child, if it still looks, and forget about it."""
        if self._reader < 0:
            return
        processes.send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._loop.forget(self._reader)
        os.close(self._reader)
        self._reader = -1

    def _on_readable(self, _now: float) -> None:
        piece = os.read(self._reader, 65536)
        self._answer += piece
        if piece and len(self._answer) <= LARGEST_ANSWER:
            return
        self.close()
        try:
            self.findings = [Finding(pool, text, catalogue.Code(code)) for pool, text, code in json.loads(self._answer)]
        except ValueError:
            self.findings = [Finding("", "the check of the new configuration failed", catalogue.CHECK_FAILED)]


def _look_at(configuration: Configuration, allow_root: bool, writer: int) -> Callable[[], None]:
    def life() -> None:
        kernel.die_with_parent(signal.SIGKILL)
        found = examine(configuration, as_root=os.geteuid() == 0, allow_root=allow_root)
        answer = json.dumps([(problem.pool, str(problem), problem.code) for problem in found]).encode()
        while answer:
            answer = answer[os.write(writer, answer) :]

    return life
