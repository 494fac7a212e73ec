"""A fault of our own must not stop the sites: it is logged, with what a bug report needs, and the loop goes on.

Runs in: master.
Fails by: nothing but what asks the process to end.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyfpm import __version__, catalogue

if TYPE_CHECKING:
    from pyfpm.logs.error_log import ErrorLog

# A minute: one that comes with every turn must not fill the disk, nor keep a later one out of the log for good.
MOST_REPORTS = 10
MINUTE = 60.0


def guard(
    log: ErrorLog, clock: Callable[[], float] = time.monotonic
) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Makes contexts that swallow and report exceptions."""
    faults = 0  # in the minute that began at `since`
    since = -math.inf

    @contextlib.contextmanager
    def guarded() -> Iterator[None]:
        nonlocal faults, since
        try:
            yield
        except Exception:
            left_out = 0
            if clock() - since >= MINUTE:
                left_out = max(0, faults - MOST_REPORTS)
                faults, since = 0, clock()
            faults += 1
            if faults <= MOST_REPORTS:
                more = f"; {left_out} more before this one were not logged" if left_out else ""
                text = f"a fault in pyfpm {__version__} itself; it goes on, please report this{more}"
                log.alert(catalogue.OUR_FAULT, text, detail=traceback.format_exc())

    return guarded
