"""reload_probe: a request that the first worker of a new generation puts to the application itself, before it is ready.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: ApplicationError saying what the application answered or raised.

Inside the worker and not over the listener: the listener is shared with the workers of the old generation, so nobody
could say who of them has answered.
"""

from __future__ import annotations

import io
import sys

from pyfpm.errors import ApplicationError
from pyfpm.gateway.environ import base_environ, complete
from pyfpm.gateway.response import Response
from pyfpm.protocols import fastcgi
from pyfpm.worker.application import describe, format_traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def prove(application: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Return if the application answers reload_probe with 2xx or 3xx."""
    probe = settings["reload_probe"]
    if not probe:
        return
    environ = _request(probe)
    complete(environ, settings["mount"], io.BytesIO())
    response = Response(_discard, fastcgi.head, fastcgi.whole, fastcgi.stdout, fastcgi.end)
    response.begin(1, False)
    try:
        response.run(application, environ)
    except BaseException as error:
        text = f"the probe GET {probe} failed: {describe(error)}\n{format_traceback(error)}"
        raise ApplicationError(text) from error
    if not 200 <= response.status < 400:
        raise ApplicationError(f"the probe GET {probe} was answered with {response.status}; 2xx or 3xx is wanted")


def _request(probe: str) -> dict[str, Any]:
    """The environ of a GET of "/path?query", or of "//host/path" for applications that mind their host."""
    host = "localhost"
    if probe.startswith("//"):
        host, _, rest = probe[2:].partition("/")
        probe = "/" + rest
    path, _, query = probe.partition("?")
    environ = base_environ(sys.stderr)
    environ.update(
        REQUEST_METHOD="GET",
        SCRIPT_NAME=_decoded(path),
        REQUEST_URI=probe,
        QUERY_STRING=query,
        SERVER_NAME=host,
        SERVER_PORT="80",
        SERVER_PROTOCOL="HTTP/1.1",
        HTTP_HOST=host,
        HTTP_USER_AGENT="pyfpm reload_probe",
        REMOTE_ADDR="127.0.0.1",
    )
    return environ


def _decoded(path: str) -> str:
    """Percent-encoding undone, as a front server does it: the bytes as latin-1 (PEP 3333)."""
    first, *rest = path.encode("latin-1", "replace").split(b"%")
    decoded = first
    for part in rest:
        try:
            decoded += bytes.fromhex(part[:2].decode("ascii")) + part[2:]
        except ValueError:
            decoded += b"%" + part
    return decoded.decode("latin-1")


def _discard(_data: bytes) -> None:
    """Only the status matters."""
