"""What answers where the application cannot, or not in time: 503, at once, instead of a front server that hangs.

Runs in: worker, as the pool's user, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RETRY_AFTER = "10"  # seconds
_TEXT = b"Service temporarily unavailable\n"


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """503 with Retry-After, whatever is asked. The reason is in the log and in `pyfpm status`, not on the page."""
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(_TEXT))),
        ("Retry-After", RETRY_AFTER),
        ("Cache-Control", "no-store"),
    ]
    start_response("503 Service Unavailable", headers)
    return [_TEXT]
