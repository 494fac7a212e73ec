"""The pages that pyfpm answers in place of the application: pm.status_path and ping.path.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: nothing of its own; what fails in a page is an error of the request, as if the application had failed.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyfpm.protocols.events import Environ
    from pyfpm.scoreboard import Slot

    Application = Callable[[Environ, Callable[..., Any]], list[bytes]]


def load_what_pages_need(settings: dict[str, Any]) -> None:
    """Import in the template, whose memory is shared, what a worker would import when it is first asked."""
    if settings["ping_path"]:
        import pyfpm.status.headers
    if settings["pm_status_path"]:
        import pyfpm.status.formats
        import pyfpm.status.snapshot  # noqa: F401


class Pages:
    """The pages of one pool, by path."""

    def __init__(self, settings: dict[str, Any], slot: Slot) -> None:
        self._pool: str = settings["pool"]
        self._app: str = settings["app"]
        self._slot = slot
        self._pong: bytes = settings["ping_response"].encode("utf-8", "surrogateescape")
        by_path: dict[str | None, Application] = {settings["pm_status_path"]: self._status}
        by_path[settings["ping_path"]] = self._ping  # PHP-FPM looks at this first
        by_path.pop(None, None)
        self._by_path = by_path
        self._paths = tuple(path for path in by_path if path)

    @classmethod
    def of(cls, settings: dict[str, Any], slot: Slot) -> Pages | None:
        """None where no page is configured, so that a request pays nothing for them."""
        return cls(settings, slot) if settings["pm_status_path"] or settings["ping_path"] else None

    def find(self, environ: Environ) -> Application | None:
        """The page that a complete `environ` asks for: by the whole path, or by that of REQUEST_URI."""
        found = self._by_path.get(environ["SCRIPT_NAME"] + environ["PATH_INFO"])
        if found is None and (uri := environ.get("REQUEST_URI", "")).startswith(self._paths):
            found = self._by_path.get(uri.partition("?")[0])
        return found

    def _ping(self, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        from pyfpm.status.headers import PLAIN, headers_of

        del environ
        start_response("200 OK", headers_of(PLAIN))
        return [self._pong]

    def _status(self, environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
        # Here and not above: most pools have no status page, and would hold half a megabyte for it.
        from pyfpm.status.formats import is_full, render
        from pyfpm.status.headers import headers_of
        from pyfpm.status.snapshot import take

        query = environ["QUERY_STRING"]
        board, wall, now = self._slot.scoreboard, time.time(), time.monotonic_ns()
        kind, body = render([take(board, self._pool, self._app, wall, now, is_full(query))], query)
        start_response("200 OK", headers_of(kind))
        return [body]
