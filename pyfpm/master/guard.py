"""A fault of our own must not stop the sites: it is logged, with what a bug report needs, and the loop goes on.

Runs in: master.
Fails by: nothing but what asks the process to end.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyfpm import __version__, catalogue

if TYPE_CHECKING:
    from pyfpm.logs.error_log import ErrorLog

# One that comes with every turn must not fill the disk.
MOST_REPORTS = 20


def guard(log: ErrorLog) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Makes contexts that swallow and report exceptions."""
    reported = 0

    @contextlib.contextmanager
    def guarded() -> Iterator[None]:
        nonlocal reported
        try:
            yield
        except Exception:
            reported += 1
            if reported <= MOST_REPORTS:
                text = f"a fault in pyfpm {__version__} itself; it goes on, please report this"
                log.alert(catalogue.OUR_FAULT, text, detail=traceback.format_exc())

    return guarded
