"""Why something failed, for the log and for whoever asked: a text and its code.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

from typing import NamedTuple

from pyfpm.catalogue import Code, marked


class Reason(NamedTuple):
    """`text` is of one line, or of several where a traceback tells more."""

    code: Code
    text: str

    def __str__(self) -> str:
        return marked(self.text, self.code)

    @property
    def first(self) -> str:
        """What happened, in a line."""
        return self.text.partition("\n")[0]

    @property
    def detail(self) -> str:
        """All that follows that line."""
        return self.text.partition("\n")[2]
