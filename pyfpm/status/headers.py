"""Headers of the pages that pyfpm answers itself.

Runs in: worker, monitor, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

# As PHP-FPM has them.
NOT_TO_BE_KEPT = (
    ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Cache-Control", "no-cache, no-store, must-revalidate, max-age=0"),
)
