"""reload_probe: a request that the first worker of a new generation puts to the application itself, before it is ready.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: ApplicationError saying what the application answered or raised.

Inside the worker and not over the listener: the listener is shared with the workers of the old generation, so nobody
could say who of them has answered.
"""

from __future__ import annotations

import io

from pyfpm import catalogue
from pyfpm.errors import ApplicationError
from pyfpm.gateway.environ import complete
from pyfpm.gateway.response import Response
from pyfpm.protocols import fastcgi
from pyfpm.worker.application import describe, format_traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyfpm.protocols.events import Environ


def prove(application: Callable[..., Any], settings: dict[str, Any], base: Environ) -> None:
    """Return if the application answers reload_probe with 2xx or 3xx. `base` is what each environ has of ours."""
    probe = settings["reload_probe"]
    if not probe:
        return
    environ = _request(probe, base)
    if deadline := base.get("pyfpm.deadline"):
        deadline.extend(settings["request_terminate_timeout"])
    if not complete(environ, settings["mount"], io.BytesIO()):
        # The application would be asked for a path that no visitor's request can have.
        inside = f"reload_probe must begin with {settings['mount']}"
        text = f"the probe GET {probe} is outside the pool's mount {settings['mount']}: {inside}"
        raise ApplicationError(text, catalogue.PROBE_FAILED)
    response = Response(_discard, fastcgi.head, fastcgi.whole, fastcgi.stdout, fastcgi.end)
    response.begin(1, False)
    try:
        response.run(application, environ)
    except BaseException as error:
        text = f"the probe GET {probe} failed: {describe(error)}\n{format_traceback(error)}"
        raise ApplicationError(text, catalogue.PROBE_FAILED) from error
    if not 200 <= response.status < 400:
        text = f"the probe GET {probe} was answered with {response.status}; 2xx or 3xx is wanted"
        raise ApplicationError(text, catalogue.PROBE_FAILED)


def _request(probe: str, base: Environ) -> Environ:
    """The environ of a GET of "/path?query", or of "//host/path" for applications that mind their host."""
    host = "localhost"
    if probe.startswith("//"):
        host, _, rest = probe[2:].partition("/")
        probe = "/" + rest
    path, _, query = probe.partition("?")
    name, port = _name_and_port(host)
    return {
        **base,
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": _decoded(path),
        "REQUEST_URI": probe,
        "QUERY_STRING": query,
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "HTTP_USER_AGENT": "pyfpm reload_probe",
        "REMOTE_ADDR": "127.0.0.1",
    }


def _name_and_port(host: str) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT of "name", "name:8080", "[::1]:8080"; the brackets stay (RFC 3875, 4.1.14)."""
    name, colon, port = host.rpartition(":")
    return (name, port or "80") if colon and not port.endswith("]") else (host, "80")


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
