"""Serve one request through codec and gateway as a worker does, but for the socket.

Runs in: tests.   Pure.
Fails by: nothing of its own; what the gateway raised is in `Served.error`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfpm.gateway import body, environ
from pyfpm.gateway.response import Response
from pyfpm.protocols import fastcgi
from tests.harness import fcgi_client as client

if TYPE_CHECKING:
    from collections.abc import Callable

    Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


class Served(NamedTuple):
    answer: client.Answer
    sends: list[bytes]
    error: BaseException | None
    response: Response
    errors: str
    """What was written to wsgi.errors."""


def response_to(send: Callable[[bytes], object]) -> Response:
    return Response(send, fastcgi.head, fastcgi.whole, fastcgi.stdout, fastcgi.end)


def answered(response: Response, sends: list[bytes], error: BaseException | None, errors: str = "") -> Served:
    """The answer must be incomplete exactly when the gateway says so."""
    found = client.answer(client.output(b"".join(sends)))
    assert response.finished == (found.ended is not None)
    assert response.incomplete == (bool(sends) and found.ended is None)
    return Served(found, sends, error, response, errors)


def run(application: Application, environ: dict[str, Any] | None = None, method: str = "GET") -> Served:
    """The answer alone: `application` is given `environ` as it is."""
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(1, method == "HEAD")
    error = None
    try:
        response.run(application, environ if environ is not None else {})
    except Exception as raised:
        error = raised
    return answered(response, sends, error)


def serve(application: Application, parameters: client.Pairs, content: bytes = b"", mount: str = "") -> Served:
    """The whole way: bytes, environ, application, bytes."""
    errors = io.StringIO()
    taken = fastcgi.decode(client.request_bytes(parameters, content), environ.base_environ(errors))
    assert taken is not None
    request, _, request_id, data = taken
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(request_id, request["REQUEST_METHOD"] == "HEAD")
    error = None
    if not environ.complete(request, mount, body.received(request, data)):
        response.plain_answer("404 Not Found")
        return answered(response, sends, None)
    try:
        response.run(application, request)
    except Exception as raised:
        error = raised
    return answered(response, sends, error, errors.getvalue())
