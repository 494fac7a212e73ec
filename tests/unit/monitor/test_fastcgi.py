"""FastCGI as the monitor hears it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.errors import PeerError
from pyfpm.monitor.fastcgi import FastCgi
from pyfpm.monitor.questions import LARGEST_HEAD, Answer, Heard, Question
from tests.harness.fcgi_client import (
    ABORT,
    BEGIN,
    GET_VALUES,
    PARAMS,
    begin,
    get_parameters,
    pairs,
    record,
    request_bytes,
)

PIECES = st.lists(st.integers(1, 200), max_size=20)


def heard_of(data: bytes, sizes: list[int]) -> tuple[bytes, Heard]:
    """(what was replied on the way, the last that was heard)."""
    dialect = FastCgi()
    reply, heard = b"", Heard()
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        if piece:
            heard = dialect.hear(piece)
            reply += heard.reply
        if heard.is_over or heard.question:
            break
    return reply, heard


@given(PIECES)
def test_a_request_in_any_pieces(sizes: list[int]) -> None:
    sent = request_bytes(get_parameters("/fpm/status", "json", HTTP_ACCEPT="a/b"))
    assert heard_of(sent, sizes)[1].question == Question("GET", ("/fpm/status", "/fpm/status"), "json", "a/b")


def test_however_the_path_is_passed() -> None:
    apart = {"SCRIPT_NAME": "/fpm", "PATH_INFO": "/ping", "REQUEST_URI": "/outside/ping?x=1"}
    question = heard_of(request_bytes(apart), [])[1].question
    assert question == Question("GET", ("/fpm/ping", "/outside/ping"), "x=1")


@given(st.binary(max_size=400), PIECES)
def test_noise_ends_in_an_error_or_in_nothing(noise: bytes, sizes: list[int]) -> None:
    with contextlib.suppress(PeerError):
        heard_of(b"\x01" + noise, sizes)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2), st.binary(max_size=40)), max_size=8))
def test_records_in_no_order_end_in_an_error_or_in_nothing(records: list[tuple[int, int, bytes]]) -> None:
    with contextlib.suppress(PeerError):
        heard_of(begin() + b"".join(record(*one) for one in records), [])


def test_too_much_is_refused() -> None:
    long = pairs({f"X{number}": "x" * 1000 for number in range(40)})
    with pytest.raises(PeerError):
        heard_of(begin() + record(PARAMS, 1, long[:LARGEST_HEAD]) + record(PARAMS, 1, long[LARGEST_HEAD:]), [])


def test_the_questions_of_the_protocol_itself_are_answered() -> None:
    values = record(GET_VALUES, 0, pairs({"FCGI_MPXS_CONNS": ""}))
    reply, heard = heard_of(values + request_bytes({"REQUEST_METHOD": "GET"}), [])
    assert b"FCGI_MPXS_CONNS" in reply
    assert heard.question is not None
    other_role = record(BEGIN, 1, b"\0\2\0" + bytes(5))
    assert heard_of(other_role, [])[1].is_over
    assert heard_of(begin() + record(ABORT, 1), [])[0]


def test_an_answer_longer_than_a_record() -> None:
    dialect = FastCgi()
    dialect.hear(request_bytes({"REQUEST_METHOD": "GET"}))
    sent = dialect.encode(Answer("200 OK", b"x" * 200_000), Question("GET", ("/",), ""))
    assert sent.count(b"x" * 60_000) >= 3
