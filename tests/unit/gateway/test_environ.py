"""Paths just work, whatever the front server; and nothing that a client sends becomes what it must not be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pyfpm.errors import PeerError
from pyfpm.gateway import environ
from pyfpm.gateway.response import FileWrapper
from pyfpm.protocols import fastcgi
from tests.harness.fcgi_client import get_parameters

RECORDED = Path(__file__).parents[2] / "wire" / "nginx-1.22"


def completed(mount: str = "", /, **parameters: Any) -> tuple[dict[str, Any], bool]:
    """A GET of nginx's with some parameters changed, or left out where None."""
    sent = {**get_parameters("/"), **parameters}
    found = {name: value for name, value in sent.items() if value is not None}
    found.update(environ.base_environ(io.StringIO()))
    return found, environ.complete(found, mount, io.BytesIO())


def test_base() -> None:
    errors = io.StringIO()
    assert environ.base_environ(errors) == {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": errors,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
    }


@pytest.mark.parametrize(
    ("front", "script", "info"),
    [
        ("nginx, Apache's ProxyPass, HAProxy", "/shop/a b", None),
        ("lighttpd, Caddy", "", "/shop/a b"),
        ("Caddy without SCRIPT_NAME", None, "/shop/a b"),
        ("Apache's SetHandler", "/shop", "/a b"),
        ("a front with a prefix and an empty rest", "/shop/a b", ""),
    ],
)
def test_paths(front: str, script: str | None, info: str | None) -> None:
    del front
    found, inside = completed(SCRIPT_NAME=script, PATH_INFO=info)
    assert (inside, found["SCRIPT_NAME"], found["PATH_INFO"]) == (True, "", "/shop/a b")
    found, inside = completed("/shop", SCRIPT_NAME=script, PATH_INFO=info)
    assert (inside, found["SCRIPT_NAME"], found["PATH_INFO"]) == (True, "/shop", "/a b")
    found, inside = completed("/sho", SCRIPT_NAME=script, PATH_INFO=info)
    assert (inside, found["SCRIPT_NAME"], found["PATH_INFO"]) == (False, "", "/shop/a b")


@pytest.mark.parametrize(
    ("mount", "path", "expected"),
    [
        ("", "/", (True, "", "/")),
        ("", "", (True, "", "/")),
        ("", "*", (True, "", "/*")),
        ("/shop", "/shop", (True, "/shop", "")),
        ("/shop", "/shop/", (True, "/shop", "/")),
        ("/shop", "/shopping", (False, "", "/shopping")),
        ("/shop", "/", (False, "", "/")),
        ("/a/b", "/a/b/c", (True, "/a/b", "/c")),
        ("", "/100%25", (True, "", "/100%25")),  # decoded once, by the front; never again
    ],
)
def test_mount(mount: str, path: str, expected: tuple[bool, str, str]) -> None:
    found, inside = completed(mount, SCRIPT_NAME=path)
    assert (inside, found["SCRIPT_NAME"], found["PATH_INFO"]) == expected


@pytest.mark.parametrize(("name", "path"), [("get", "/a/b c"), ("get_utf8", "/caf\xc3\xa9/"), ("post_small", "/form")])
def test_paths_as_nginx_sends_them(name: str, path: str) -> None:
    taken = fastcgi.decode((RECORDED / f"{name}.bin").read_bytes(), environ.base_environ(None))
    assert taken is not None
    found = taken[0]
    assert environ.complete(found, "", io.BytesIO())
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", path)


def test_httpoxy() -> None:
    taken = fastcgi.decode((RECORDED / "get_proxy_header.bin").read_bytes(), environ.base_environ(None))
    assert taken is not None
    assert taken[0]["HTTP_PROXY"] == "http://evil.example/"
    environ.complete(taken[0], "", io.BytesIO())
    assert "HTTP_PROXY" not in taken[0]


def test_headers_that_have_a_short_name_come_once() -> None:
    found, _ = completed(CONTENT_LENGTH="0", HTTP_CONTENT_LENGTH="0", HTTP_CONTENT_TYPE="text/plain")
    assert found["CONTENT_LENGTH"] == "0"
    assert not {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"} & set(found)


def test_an_empty_content_length_is_none() -> None:
    assert "CONTENT_LENGTH" not in completed(CONTENT_LENGTH="")[0]


@pytest.mark.parametrize(
    ("https", "scheme", "expected"),
    [
        (None, None, "http"),
        ("on", "http", "https"),
        ("ON", None, "https"),
        ("1", None, "https"),
        ("off", "https", "http"),
        ("OFF", None, "http"),
        ("0", None, "http"),
        ("", "https", "https"),
        ("", None, "http"),
        (None, "https", "https"),
        (None, "http", "http"),
    ],
)
def test_scheme(https: str | None, scheme: str | None, expected: str) -> None:
    found, _ = completed(HTTPS=https, REQUEST_SCHEME=scheme)
    assert found["wsgi.url_scheme"] == expected


def test_what_must_be_there_is_there() -> None:
    gone = dict.fromkeys(["SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "QUERY_STRING", "SERVER_SOFTWARE"])
    found, _ = completed(SERVER_ADDR=None, **gone)
    assert [found[name] for name in gone] == ["localhost", "80", "HTTP/1.0", "", "pyfpm"]
    found, _ = completed(SERVER_NAME="", SERVER_PORT="", HTTPS="on", SERVER_ADDR="192.0.2.1")
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("192.0.2.1", "443")


def test_what_was_sent_stays() -> None:
    found, _ = completed(
        SERVER_NAME="site.example", SERVER_PORT="8080", QUERY_STRING="a=%20", SERVER_SOFTWARE="front/1"
    )
    names = ["SERVER_NAME", "SERVER_PORT", "QUERY_STRING", "SERVER_SOFTWARE"]
    assert [found[name] for name in names] == ["site.example", "8080", "a=%20", "front/1"]


@pytest.mark.parametrize("missing", [{"REQUEST_METHOD": None}, {"REQUEST_METHOD": ""}, {"SCRIPT_NAME": None}])
def test_what_cannot_be_guessed(missing: dict[str, str | None]) -> None:
    with pytest.raises(PeerError, match="include fastcgi_params"):
        completed(**missing)


def test_the_body_is_put_in() -> None:
    found: dict[str, Any] = {**get_parameters("/"), **environ.base_environ(None)}
    body = io.BytesIO(b"x")
    environ.complete(found, "", body)
    assert found["wsgi.input"] is body
