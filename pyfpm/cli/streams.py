"""The standard streams, also for somebody who was started without.

Runs in: anyone's shell, an init system; before anything else.
Fails by: OSError where not even /dev/null can be opened.
"""

from __future__ import annotations

import os
import sys


def have_standard_streams() -> None:
    """/dev/null for each that the caller has closed: the first file that is opened would get its number otherwise."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
