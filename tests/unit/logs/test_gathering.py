"""Events of several printed lines: tracebacks whole, in however many pieces they come, and nothing lost or mixed."""

from __future__ import annotations

import io
import json
import logging
import traceback
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.logs.escapes import escape_json
from pyfpm.logs.gathering import MOST_LINES
from pyfpm.logs.layouts import Frame
from pyfpm.logs.worker_output import OutputLines

FRAME = Frame(b'{"message":"', b'"}\n', escape_json, rb"\n")


def deep(levels: int) -> None:
    if levels > 0:
        deep(levels - 1)
    raise ValueError("in the depth")


def chained() -> None:
    try:
        deep(2)
    except ValueError as error:
        try:
            raise KeyError("on the way") from error
        except KeyError:
            raise RuntimeError("at last")  # noqa: B904  that is the link that is meant


def printed(action: str) -> str:
    """What Python prints."""
    stream = io.StringIO()
    try:
        if action == "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        chained() if action == "chained" else deep(3)
    except (ValueError, RuntimeError, ExceptionGroup):
        if action == "logged":
            record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "it went wrong", None, None)
            stream.write(logging.Formatter("%(levelname)s:%(name)s:%(message)s").format(record) + "\n")
        if action == "thread":
            stream.write("Exception in thread Thread-1 (work):\n")
        traceback.print_exc(file=stream)
    return stream.getvalue()


def output(limit: int = 1024, buffering: bool = True) -> OutputLines:
    return OutputLines(lambda: FRAME, limit=limit, buffering=buffering)


def messages(shown: list[bytes]) -> list[str]:
    return [json.loads(line)["message"] for line in b"".join(shown).splitlines()]


def in_one(text: str) -> list[str]:
    """What is there at once, and the pipe dry behind it."""
    lines = output()
    return messages([*lines.feed(text.encode()), lines.pause(), lines.settle()])


def in_lines(text: str) -> list[str]:
    """Line by line, and the pipe dry after each."""
    lines, shown = output(), []
    for line in text.splitlines(keepends=True):
        shown += [*lines.feed(line.encode()), lines.pause()]
    return messages([*shown, lines.settle()])


@pytest.mark.parametrize("action", ["plain", "chained", "group", "logged", "thread"])
def test_a_traceback_is_one_event(action: str) -> None:
    text = printed(action)
    assert in_one(text + "after\n") == [text.rstrip("\n"), "after"]


@pytest.mark.parametrize("action", ["plain", "chained", "group", "thread"])
def test_a_traceback_is_one_event_when_it_comes_in_pieces(action: str) -> None:
    text = printed(action)
    assert in_lines("before\n" + text + "after\n") == ["before", text.rstrip("\n"), "after"]


def test_a_warning_has_its_line_of_code() -> None:
    text = warnings.formatwarning("old", UserWarning, "shop.py", 3, "call_it()")
    assert in_one(text) == ["shop.py:3: UserWarning: old\n  call_it()"]


def test_two_tracebacks_are_two_events() -> None:
    text = printed("plain")
    assert in_one(text + text) == [text.rstrip("\n")] * 2


def test_lines_that_do_not_belong_together_are_events_of_their_own() -> None:
    assert in_one("one\ntwo\n\nthree\n") == ["one", "two", "", "three"]


def test_an_event_may_go_on_only_after_a_traceback() -> None:
    plain, begun = output(), output()
    plain.feed(b"hello\n")
    assert not plain.is_open
    assert messages([plain.pause()]) == ["hello"]
    begun.feed(b"Traceback (most recent call last):\n")
    assert begun.is_open
    assert begun.pause() == b""
    assert messages(begun.finish()) == ["Traceback (most recent call last):"]


def test_what_is_read_as_it_comes_is_not_held() -> None:
    lines = output(buffering=False)
    assert messages(lines.feed(b"Traceback (most recent call last):\n  one\n")) == [
        "Traceback (most recent call last):",
        "  one",
    ]


def test_an_event_has_an_end() -> None:
    text = "".join(f" {number}\n" for number in range(MOST_LINES + 1))
    assert [message.count("\n") for message in in_one(text)] == [MOST_LINES - 1, 0]


PIECES = st.lists(
    st.sampled_from(
        ["Traceback (most recent call last):\n", "  File\n", "ValueError: x\n", "\n", "\t\x1b[1m\n", "half", "y" * 90]
    )
    | st.text(max_size=30)
)


@given(PIECES, st.booleans())
def test_nothing_is_lost_or_invented(pieces: list[str], pauses: bool) -> None:
    lines, shown = output(limit=64), []
    for piece in pieces:
        shown += lines.feed(piece.encode("utf-8", "surrogatepass"))
        if pauses:
            shown.append(lines.pause())
    shown += lines.finish()
    text = "".join(pieces).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    expected = json.loads('"' + escape_json(text).decode() + '"')
    assert "".join(messages(shown)).replace("\n", "") == expected.replace("\n", "")
