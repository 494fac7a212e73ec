"""Headers of the pages that pyfpm answers itself.

Runs in: worker, monitor, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

PLAIN = "text/plain;charset=UTF-8"
HTML = "text/html;charset=UTF-8"
_ALL = (
    # As PHP-FPM has them.
    ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Cache-Control", "no-cache, no-store, must-revalidate, max-age=0"),
    ("X-Content-Type-Options", "nosniff"),
)


def headers_of(kind: str) -> list[tuple[str, str]]:
    """All headers but the length of a page of this content type."""
    headers = [*_ALL, ("Content-Type", kind)]
    if kind == HTML:
        from pyfpm.status.dashboard import CSP  # most who ask are programs, and the page is large

        headers.append(("Content-Security-Policy", CSP))
    return headers
