"""environ["pyfpm.finish_request"]: the answer ends there, the code goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyfpm.errors import ApplicationError
from tests.harness import fcgi_client as client
from tests.unit.gateway.serving import response_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Finish = Callable[[], None]


def run(application: Callable[[Any, Finish], Any], method: str = "GET") -> tuple[client.Answer, int]:
    """The answer, and how many bytes came too late."""
    sends: list[bytes] = []
    response = response_to(sends.append)
    response.begin(1, method == "HEAD")
    response.run(lambda _, start: application(start, response.finish), {})
    assert response.is_last
    return client.answer(client.output(b"".join(sends))), response.ignored


@pytest.mark.parametrize("headers", [[], [("Content-Length", "5")]])
def test_in_a_generator(headers: list[tuple[str, str]]) -> None:
    went_on = []

    def application(start: Any, finish: Finish) -> Iterator[bytes]:
        start("200 OK", headers)
        yield b"whole"
        finish()
        yield b"late"
        yield b""
        yield b"later"
        went_on.append(True)

    answer, ignored = run(application)
    assert answer.body == b"whole"
    assert answer.ended is not None
    assert ignored == 9
    assert went_on


def test_after_write() -> None:
    def application(start: Any, finish: Finish) -> list[bytes]:
        start("200 OK", [])(b"whole")
        finish()
        return [b"late"]

    answer, ignored = run(application)
    assert (answer.body, ignored) == (b"whole", 4)


def test_without_a_body() -> None:
    def application(start: Any, finish: Finish) -> list[bytes]:
        start("204 No Content", [])
        finish()
        return []

    answer, ignored = run(application)
    assert (answer.status, answer.body, ignored) == (204, b"", 0)


@pytest.mark.parametrize(
    ("begin", "complaint"),
    [
        (lambda _: None, "before start_response"),
        (lambda start: start("200 OK", [("Content-Length", "5")]), "shorter than its Content-Length"),
    ],
)
def test_an_answer_that_is_not_whole_cannot_end(begin: Callable[[Any], object], complaint: str) -> None:
    def application(start: Any, finish: Finish) -> list[bytes]:
        begin(start)
        with pytest.raises(ApplicationError, match=complaint):
            finish()
        raise KeyError("as far as it gets")

    with pytest.raises(KeyError):
        run(application)
