"""PEP 3333 from the application's side: what goes out, when, and what a broken application hears."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pyfpm.errors import ApplicationError, PeerGone, RequestTimeout
from pyfpm.gateway.response import FileWrapper
from tests.harness import fcgi_client as client
from tests.unit.gateway.serving import response_to, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.gateway.serving import Served

TEXT = ("Content-Type", "text/plain")


class App:
    """Starts with `status` and `headers`, returns `result`."""

    def __init__(self, result: Any, *headers: tuple[str, str], status: str = "200 OK") -> None:
        self.result = result
        self.headers = [TEXT, *headers]
        self.status = status

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        del environ
        start(self.status, self.headers)
        return self.result


class Closing:
    """An iterable that counts how often it was closed."""

    def __init__(self, blocks: Iterator[Any], error: Exception | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self.blocks

    def close(self) -> None:
        self.closed += 1
        if self.error:
            raise self.error


def length(value: int) -> tuple[str, str]:
    return ("Content-Length", str(value))


def stdout_records(served: Served) -> list[bytes]:
    found, _ = client.records(b"".join(served.sends))
    return [record.content for record in found if record.kind == client.STDOUT and record.content]


def refused(served: Served, words: str) -> None:
    """An error for the log, and a client that cannot take the answer for a whole one."""
    assert isinstance(served.error, ApplicationError), served.error
    assert words in str(served.error)
    assert not served.response.finished


# What goes out


@pytest.mark.parametrize("result", [[b"hello"], (b"hello",)])
def test_a_list_of_one_is_one_send_with_its_length(result: Any) -> None:
    served = run(App(result))
    headers = [("status", "200 OK"), ("content-type", "text/plain"), ("content-length", "5")]
    assert served.answer == (200, headers, b"hello", b"", (0, 0), False)
    assert len(served.sends) == 1
    assert (served.response.status, served.response.body_bytes) == (200, 5)
    assert served.response.headers == [TEXT]


@pytest.mark.parametrize("result", [[b"hello"], [b"he", b"llo"], [b"", b"hello", b""], iter([b"hello"])])
def test_a_length_given_is_kept(result: Any) -> None:
    served = run(App(result, length(5)))
    assert (served.answer.header("content-length"), served.answer.body) == ("5", b"hello")


def test_an_iterable_of_one_with_its_length_is_one_send() -> None:
    """Flask and Django: head, body and end in one system call, and before the iterable is asked for more."""
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(1, False)
    seen = []

    def blocks() -> Iterator[bytes]:
        yield b"hello"
        seen.append(len(sends))

    response.run(App(blocks(), length(5)), {})
    assert (seen, len(sends), response.finished) == ([1], 1, True)


def test_each_block_is_out_before_the_next_is_asked_for() -> None:
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(1, False)
    seen = []

    def blocks() -> Iterator[bytes]:
        for block in (b"", b"one", b"", b"two"):
            seen.append(len(sends))
            yield block
        seen.append(len(sends))

    response.run(App(blocks()), {})
    assert seen == [0, 0, 1, 1, 2]  # no head before there is a body (PEP 3333), nothing for an empty block
    found = client.answer(client.output(b"".join(sends)))
    assert (found.body, found.header("content-length")) == (b"onetwo", None)


def test_start_response_may_come_with_the_first_block() -> None:
    def application(environ: Any, start: Any) -> Iterator[bytes]:
        del environ
        start("201 Created", [TEXT])
        yield b"late"

    assert run(application).answer[:3:2] == (201, b"late")


@pytest.mark.parametrize("result", [[], [b""], iter([]), iter([b"", b""]), ()])
def test_nothing_is_a_length_of_0(result: Any) -> None:
    served = run(App(result))
    assert (served.answer.header("content-length"), served.answer.body, len(served.sends)) == ("0", b"", 1)


def test_write() -> None:
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(1, False)

    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        write = start("200 OK", [TEXT])
        write(b"")
        assert not sends
        write(b"one")
        assert len(sends) == 1
        return [b"two"]

    response.run(application, {})
    found = client.answer(client.output(b"".join(sends)))
    assert (found.body, found.header("content-length"), response.body_bytes) == (b"onetwo", None, 6)


@pytest.mark.parametrize("size", [65_535, 65_536, 1 << 20, (1 << 20) + 1, 3_500_000])
@pytest.mark.parametrize("as_list", [True, False])
def test_large_blocks(size: int, as_list: bool) -> None:
    data = bytes(range(250)) * (size // 250 + 1)
    blocks = [data[:size]]
    served = run(App(blocks if as_list else iter(blocks)))
    assert served.answer.body == data[:size]
    assert served.response.body_bytes == size
    assert max(map(len, served.sends)) < (1 << 20) + 1000


def test_a_large_block_and_a_small_one() -> None:
    blocks = [b"x" * 2_000_000, b"y"]
    assert run(App(iter(blocks), length(2_000_001))).answer.body == b"".join(blocks)


def test_a_large_block_that_is_broken_off_is_counted_as_far_as_it_went() -> None:
    """An application that goes on then cannot send more than its Content-Length."""
    response = response_to(break_off)
    response.begin(1, False)
    with pytest.raises(RequestTimeout):
        response.run(App([b"x" * 2_000_000], length(2_000_000)), {})
    assert response.body_bytes == 1 << 20


def break_off(data: bytes) -> None:
    if len(data) > 1 << 20:
        raise RequestTimeout("now")


# No body


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "100 Continue"])
@pytest.mark.parametrize("result", [[], [b""], [b"body"], iter([b"", b"body"]), iter([])])
def test_a_status_without_body(status: str, result: Any) -> None:
    served = run(App(result, status=status))
    assert (served.error, served.answer.body, served.answer.header("content-length")) == (None, b"", None)
    assert served.answer.ended == (0, 0)


@pytest.mark.parametrize(
    ("result", "headers", "expected"),
    [
        ([b"hello"], [], "5"),
        ([b"hello"], [length(5)], "5"),
        ([b""], [], None),
        ([], [], None),
        ([], [length(5)], "5"),
        (iter([]), [length(5)], "5"),
        (iter([b"hello"]), [], None),
        ([b"he", b"llo"], [], None),
    ],
)
def test_head(result: Any, headers: list[tuple[str, str]], expected: str | None) -> None:
    served = run(App(result, *headers), method="HEAD")
    assert (served.error, served.answer.body, served.answer.header("content-length")) == (None, b"", expected)
    assert len(served.sends) == 1
    assert served.response.body_bytes == 0


def test_head_does_not_make_a_whole_body_for_nothing() -> None:
    made = []

    def blocks() -> Iterator[bytes]:
        for number in range(1000):
            made.append(number)
            yield b"x" * 1000

    closing = Closing(blocks())
    assert run(App(closing), method="HEAD").answer.ended == (0, 0)
    assert (len(made), closing.closed) == (1, 1)


# Content-Length that is not true


@pytest.mark.parametrize("result", [[b"abc"], [b"ab", b"c"], [], iter([]), [b""]])
def test_shorter_in_a_list_or_empty(result: Any) -> None:
    refused(run(App(result, length(5))), "shorter than its Content-Length")


def test_shorter() -> None:
    served = run(App(iter([b"abc"]), length(5)))
    refused(served, "shorter than its Content-Length: 3 of 5 bytes")
    assert (served.response.sent, served.response.incomplete, served.answer.ended) == (True, True, None)


@pytest.mark.parametrize("result", [[b"abcdef"], iter([b"abcdef"])])
def test_longer_at_once_is_not_sent_at_all(result: Any) -> None:
    served = run(App(result, length(5)))
    refused(served, "longer than its Content-Length of 5 bytes")
    assert served.sends == []


def test_longer_later_ends_without_end() -> None:
    served = run(App(iter([b"abc", b"def"]), length(5)))
    refused(served, "longer")
    assert (served.answer.body, served.response.incomplete) == (b"abc", True)


def test_surplus_behind_a_complete_answer_is_an_error_and_is_not_sent() -> None:
    served = run(App(iter([b"abc", b"def"]), length(3)))
    assert isinstance(served.error, ApplicationError)
    assert (served.answer.body, served.answer.ended) == (b"abc", (0, 0))


def test_write_beyond_the_length() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        start("200 OK", [length(3)])(b"abcd")
        return []

    served = run(application)
    refused(served, "longer")
    assert served.sends == []


# Contracts


@pytest.mark.parametrize("result", [[], iter([])])
def test_start_response_never_called(result: Any) -> None:
    refused(run(lambda environ, start: result), "without calling start_response")  # noqa: ARG005


@pytest.mark.parametrize("result", [[b"x"], [b""], iter([b"x"])])
def test_a_block_before_start_response(result: Any) -> None:
    refused(run(lambda environ, start: result), "before it called start_response")  # noqa: ARG005


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (["text"], "gave 'text' as a block"),
        (iter([b"a", "text"]), "gave 'text' as a block"),
        ([None], "gave None as a block"),
        ([bytearray(b"x")], "it must be bytes"),
        ("text", "gave 't' as a block"),
        (b"bytes", "gave 98 as a block"),
        (None, "returned None, not an iterable"),
        (5, "returned 5, not an iterable"),
    ],
)
def test_not_bytes(result: Any, words: str) -> None:
    refused(run(App(result)), words)


def test_write_of_text() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        start("200 OK", [])("text")
        return []

    refused(run(application), "it must be bytes")


def test_start_response_twice() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        start("200 OK", [])
        start("200 OK", [])
        return []

    refused(run(application), "a second time, without exc_info")


def test_bad_headers_are_refused_where_they_are_given() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        with pytest.raises(ApplicationError, match="'X-Bad'"):
            start("200 OK", [("X-Bad", "a\nb")])
        start("500 Sorry", [])  # it did not count as a call
        return [b"sorry"]

    assert run(application).answer[:3:2] == (500, b"sorry")


def test_headers_changed_afterwards_change_nothing() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        headers = [("X", "1")]
        start("200 OK", headers)
        headers[0] = ("X", "a\nb")
        return [b""]

    assert run(application).answer.header("x") == "1"


def test_exc_info_before_the_head_replaces_it() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        start("200 OK", [length(5)])
        try:
            raise ValueError("broken")
        except ValueError:
            start("500 Broken", [TEXT], sys.exc_info())
        return [b"sorry!"]

    served = run(application)
    assert served.answer[:3:2] == (500, b"sorry!")
    assert (served.answer.header("content-length"), served.response.status) == ("6", 500)


def test_exc_info_may_make_a_body_possible() -> None:
    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        start("304 Not Modified", [])
        start("500 Broken", [], (ValueError, ValueError("x"), None))
        return [b"sorry"]

    assert run(application).answer.body == b"sorry"


def test_exc_info_after_the_head_is_raised() -> None:
    def application(environ: Any, start: Any) -> Iterator[bytes]:
        del environ
        start("200 OK", [])
        yield b"first"
        try:
            raise ValueError("broken")
        except ValueError:
            start("500 Broken", [], sys.exc_info())
        yield b"never"

    served = run(application)
    assert isinstance(served.error, ValueError)
    assert (served.answer[:3:2], served.response.incomplete) == ((200, b"first"), True)


# Closed whatever happens


def broken(*blocks: bytes) -> Iterator[bytes]:
    yield from blocks
    raise ValueError("broken")


@pytest.mark.parametrize("blocks", [iter([b"a"]), iter([]), iter(["text"]), broken(), broken(b"a"), iter([b"a" * 9])])
def test_closed_once(blocks: Iterator[bytes]) -> None:
    closing = Closing(blocks)
    run(App(closing, length(5)))
    assert closing.closed == 1


def test_closed_without_start_response() -> None:
    closing = Closing(iter([b"a"]))
    run(lambda environ, start: closing)  # noqa: ARG005
    assert closing.closed == 1


def test_closed_when_the_client_is_gone() -> None:
    def gone(data: bytes) -> None:
        del data
        raise PeerGone("closed")

    response = response_to(gone)
    response.begin(1, False)
    closing = Closing(iter([b"a", b"b"]))
    with pytest.raises(PeerGone):
        response.run(App(closing), {})
    assert closing.closed == 1
    assert response.incomplete


def test_closed_when_it_cannot_even_be_iterated() -> None:
    closed = []

    class OnlyClose:
        def close(self) -> None:
            closed.append(1)

    refused(run(App(OnlyClose())), "not an iterable")
    assert closed == [1]


def test_an_error_of_close_is_an_error_behind_a_complete_answer() -> None:
    served = run(App(Closing(iter([b"a"]), ValueError("close"))))
    assert isinstance(served.error, ValueError)
    assert served.answer.ended == (0, 0)


# Instead of the application


def test_raised_before_the_head_leaves_room_for_a_page() -> None:
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(1, False)

    def application(environ: Any, start: Any) -> list[bytes]:
        del environ
        start("200 OK", [("X-Secret", "1"), length(99)])
        raise ValueError("secret")

    with pytest.raises(ValueError, match="secret"):
        response.run(application, {})
    assert not response.sent
    response.plain_answer("500 Internal Server Error")
    found = client.answer(client.output(b"".join(sends)))
    assert (found.status, found.body) == (500, b"Internal Server Error\n")
    assert found.headers[1:] == [("content-type", "text/plain; charset=utf-8"), ("content-length", "22")]
    assert (response.status, response.finished, len(sends)) == (500, True, 1)


def test_a_page_for_head_and_with_a_text() -> None:
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(3, True)
    response.plain_answer("404 Not Found", "nothing here: caf\xe9")
    found = client.answer(client.output(b"".join(sends), 3))
    assert (found.status, found.body, found.header("content-length")) == (404, b"", "20")


def test_one_object_for_many_requests() -> None:
    sends: list[bytes] = []
    response = response_to(sends.append)
    for number, application in enumerate([App(iter([b"x"])), App([], status="204 No"), App([b"y"], length(1))], 1):
        sends.clear()
        response.begin(number, False)
        assert (response.sent, response.status) == (False, 0)
        response.run(application, {})
        assert client.output(b"".join(sends), number).ended == (0, 0)
    assert client.answer(client.output(b"".join(sends), 3)).body == b"y"


# wsgi.file_wrapper


def test_file_wrapper() -> None:
    file = io.BytesIO(b"x" * 100_000)
    served = run(App(FileWrapper(file)))
    assert served.answer.body == b"x" * 100_000
    assert [len(content) for content in stdout_records(served)][-1] == 100_000 - 65536
    assert file.closed


def test_file_wrapper_takes_a_block_size_and_a_file_without_close() -> None:
    class Reader:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def read(self, size: int) -> bytes:
            self.sizes.append(size)
            return b"x" if len(self.sizes) < 3 else b""

    reader = Reader()
    assert run(App(FileWrapper(reader, 10))).answer.body == b"xx"
    assert reader.sizes == [10, 10, 10]
