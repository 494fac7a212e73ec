"""The head of an answer: what an application may say, and how it hears what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from pyfpm.errors import ApplicationError
from pyfpm.protocols import cgi

OK = "200 OK"


def test_head_and_length() -> None:
    headers = [("Content-Type", "text/plain"), ("Content-Length", "5")]
    assert cgi.head(OK, headers) == (b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n", 5)


def test_no_headers_no_length() -> None:
    assert cgi.head("404 Not Found", []) == (b"Status: 404 Not Found\r\n\r\n", None)


def test_the_same_name_may_come_again() -> None:
    out, _ = cgi.head(OK, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert out == b"Status: 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"


def test_latin_1() -> None:
    assert cgi.head(OK, [("X", "caf\xe9")])[0] == b"Status: 200 OK\r\nX: caf\xe9\r\n\r\n"


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
def test_length_in_any_case(name: str) -> None:
    assert cgi.head(OK, [(name, "007")])[1] == 7


@pytest.mark.parametrize("value", ["", "-1", "+1", "1 ", " 1", "1_0", "0x1", "²", "\u0661", "1.5", "9" * 20, "1, 1"])
def test_bad_length(value: str) -> None:
    with pytest.raises(ApplicationError, match=r"'Content-Length' is .* not a number of bytes"):
        cgi.head(OK, [("Content-Length", value)])


def test_length_twice() -> None:
    with pytest.raises(ApplicationError, match="there twice"):
        cgi.head(OK, [("Content-Length", "1"), ("content-length", "1")])


@pytest.mark.parametrize("status", ["200 ", "100 Continue", "999 Strange", "200 caf\xe9"])
def test_good_status(status: str) -> None:
    assert cgi.head(status, [])[0].startswith(b"Status: " + status.encode("latin-1"))


@pytest.mark.parametrize("status", ["", "200", "20 OK", "2000 x", "200OK", "abc OK", "099 Low", "²00 OK", " 200 OK"])
def test_bad_status(status: str) -> None:
    with pytest.raises(ApplicationError, match="three digits, a space and a reason"):
        cgi.head(status, [])


@pytest.mark.parametrize("status", ["200 OK\r\nX: y", "200 OK\n", "200 \0", "200 \x7f", "200 \u20ac"])
def test_status_that_no_head_may_have(status: str) -> None:
    for _ in range(2):  # nothing bad is remembered as good
        with pytest.raises(ApplicationError, match="characters that no header may have"):
            cgi.head(status, [])


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\n", "caf\xe9", "\u20ac", "A\0", "(", "A\x7f"])
def test_bad_name(name: str) -> None:
    with pytest.raises(ApplicationError, match="not a token"):
        cgi.head(OK, [(name, "x")])


@pytest.mark.parametrize("char", [chr(n) for n in [*range(32), 127]] + ["\u20ac", "\ud800"])
def test_bad_value(char: str) -> None:
    with pytest.raises(ApplicationError, match=r"the header 'X-Bad' has the value .*: only latin-1"):
        cgi.head(OK, [("X-Good", "1"), ("X-Bad", f"a{char}b")])


def test_a_smuggled_line_is_not_hidden_by_a_missing_one() -> None:
    with pytest.raises(ApplicationError, match="'X-Bad'"):
        cgi.head(OK, [("X-Bad", "a\r\nSet-Cookie: evil=1")])


@pytest.mark.parametrize(
    "name", ["Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Status"]
)
def test_headers_of_the_server(name: str) -> None:
    with pytest.raises(ApplicationError, match=f"'{name}' belongs to the server"):
        cgi.head(OK, [(name, "x")])


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (200, [], "the status must be str, not int"),
        (b"200 OK", [], "the status must be str, not bytes"),
        (None, [], "the status must be str, not NoneType"),
        (OK, (("A", "b"),), "list of tuples .*, not tuple"),
        (OK, iter([]), "list of tuples .*, not list_iterator"),
        (OK, {"A": "b"}, "list of tuples .*, not dict"),
        (OK, None, "list of tuples .*, not NoneType"),
        (OK, ["ab"], "header 'ab' is not a tuple"),
        (OK, [["A", "b"]], r"header \['A', 'b'\] is not a tuple"),
        (OK, [("A", "b", "c")], r"is not a tuple \(name, value\)"),
        (OK, [("A", 1)], "header 'A' has the value 1; both must be str"),
        (OK, [("A", b"x")], "both must be str"),
        (OK, [("A", None)], "both must be str"),
        (OK, [(b"A", "x")], "both must be str"),
        (OK, [([], "x")], "both must be str"),
        (OK, [("Content-Length", 5)], "header 'Content-Length' has the value 5; both must be str"),
    ],
)
def test_wrong_types(status: Any, headers: Any, words: str) -> None:
    with pytest.raises(ApplicationError, match=words):
        cgi.head(status, headers)


def test_memory_is_bounded() -> None:
    for number in range(5000):
        cgi.head(f"200 {number}", [(f"X-{number}", "v")])
    assert len(cgi._lines) <= 1024
    assert len(cgi._status_lines) <= 1024
    assert cgi.head("200 4999", [("X-4999", "v")])[0] == b"Status: 200 4999\r\nX-4999: v\r\n\r\n"
