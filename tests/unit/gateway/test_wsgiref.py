"""The standard library's own judge over the whole way: bytes, environ, application, bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest

from tests.harness.fcgi_client import get_parameters
from tests.unit.gateway.serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterator


def echo(environ: dict[str, Any], start: Any) -> list[bytes]:
    """Method, path and body; reads in every way."""
    body = environ["wsgi.input"]
    parts = [body.read(2), body.readline(), *body.readlines(), *body, body.read(1)]
    print("a word for the log", file=environ["wsgi.errors"])
    if environ["REQUEST_METHOD"] == "DELETE":
        start("204 No Content", [])
        return []
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']} ".encode("latin-1"), *parts]


def written(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    """write() and a generator."""
    del environ
    write = start("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    return (block for block in (b"and ", b"", b"yielded"))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "OPTIONS"])
def test_methods(method: str) -> None:
    content = b"first\nsecond\nthird" if method != "GET" else b""
    size = str(len(content)) if content else ""
    parameters = get_parameters("/a b", REQUEST_METHOD=method, CONTENT_LENGTH=size, HTTP_CONTENT_LENGTH=size)
    served = serve(validator(echo), parameters, content)
    assert served.error is None
    assert served.answer.body == f"{method} |/a b ".encode() + content
    assert served.errors == "a word for the log\n"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("DELETE", 204)])
def test_without_body(method: str, status: int) -> None:
    served = serve(validator(echo), get_parameters("/", REQUEST_METHOD=method))
    assert served.error is None
    assert (served.answer.status, served.answer.body) == (status, b"")


def test_upload_of_unknown_length() -> None:
    served = serve(validator(echo), get_parameters("/", REQUEST_METHOD="POST"), b"some\nthing")
    assert served.error is None
    assert served.answer.body == b"POST |/ some\nthing"


def test_write_and_generator() -> None:
    served = serve(validator(written), get_parameters("/"))
    assert served.error is None
    assert served.answer.body == b"written and yielded"


def test_mount_and_bare_parameters() -> None:
    served = serve(validator(echo), {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/shop"}, mount="/shop")
    assert served.error is None
    assert served.answer.body == b"GET /shop| "


def test_outside_the_mount() -> None:
    served = serve(validator(echo), get_parameters("/other"), mount="/shop")
    assert (served.answer.status, served.answer.body) == (404, b"Not Found\n")
