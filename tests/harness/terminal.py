"""A terminal of our own: a command runs in it, keys are pressed, and what is on its screen is read.

Runs in: tests.
Fails by: WaitTimeout with the screen as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pyte

from tests.harness.daemon import end_with_the_tests
from tests.harness.waits import PATIENCE, Deadline, WaitTimeout, wait_readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEFT = b"\x1b[?1049l"  # rmcup of xterm: the screen is again what it was before


class Terminal:
    """An xterm of so many columns and lines. `raw` is all that it was sent."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._ours, self._theirs = os.openpty()
        self._set_size(columns, lines)
        self._before = termios.tcgetattr(self._theirs)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        def take_over() -> None:
            end_with_the_tests()
            fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environ},
            start_new_session=True,
            preexec_fn=take_over,  # noqa: PLW1509  ioctl(2) takes no lock
        )

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def wait(self, pattern: str, *, absent: str = "", seconds: float = PATIENCE) -> re.Match[str]:
        """Until `pattern` is on the screen, and `absent` is not; a line's end is a newline."""
        deadline = Deadline(seconds, f"{pattern!r} on the screen")
        try:
            while True:
                text = "\n".join(self.lines)
                found = re.search(pattern, text, re.MULTILINE)
                if found and not (absent and re.search(absent, text, re.MULTILINE)):
                    return found
                wait_readable(self._ours, deadline)
                self._take()
        except WaitTimeout as error:
            raise WaitTimeout(f"{error}\n" + "\n".join(self.lines)) from error

    def wait_exit(self, seconds: float = PATIENCE) -> int:
        """The exit code; all that it has said by then is in `raw`."""
        assert self.process is not None
        code = self.process.wait(seconds)
        os.set_blocking(self._ours, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take()
        os.set_blocking(self._ours, True)
        return code

    def is_as_before(self) -> bool:
        """Whether a shell would find the terminal as it had left it."""
        return self.raw.count(LEFT) == 1 and termios.tcgetattr(self._theirs) == self._before

    def _take(self) -> None:
        said = os.read(self._ours, 65536)
        self.raw += said
        self._stream.feed(said)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
