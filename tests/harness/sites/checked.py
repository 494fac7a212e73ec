"""apps.py under the standard library's validator, which raises when server or application break PEP 3333."""

from __future__ import annotations

from wsgiref.validate import validator

import apps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def _read_exactly(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The validator wants read() to be called with a size, as apps.py does."""
    return apps.application(environ, start_response)


application = validator(_read_exactly)
