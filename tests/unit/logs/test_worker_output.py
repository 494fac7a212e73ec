"""Workers' output: cut at newlines and at the limit, and nothing of it lost, invented or dangerous."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.logs.escapes import escape_json, escape_quoted
from pyfpm.logs.layouts import Frame
from pyfpm.logs.worker_output import OutputLines

HEAD = b"[21-Nov-2026 20:52:49] WARNING: "
START = HEAD + b'[pool www] child 912 said into stderr: "'
PIECES = st.lists(st.binary(max_size=80) | st.text(max_size=80).map(str.encode) | st.just(b"\n") | st.just(b"\\" * 30))


def output(*, limit: int = 1024, decorate: bool = True, buffering: bool = True) -> OutputLines:
    frame = Frame(START, b'"\n', escape_quoted) if decorate else Frame(b"", b"\n", None)
    return OutputLines(lambda: frame, limit=limit, buffering=buffering)


def feed(lines: OutputLines, pieces: list[bytes]) -> list[bytes]:
    return [line for piece in pieces for line in lines.feed(piece)] + lines.finish()


def text_of(line: bytes) -> bytes:
    assert line.startswith(START)
    assert line.endswith(b'"\n')
    return line[len(START) : -2]


def test_a_line_is_decorated_as_php_fpm_does() -> None:
    assert output().feed(b"hello\n") == [START + b'hello"\n']


def test_plain_lines_are_the_text_only() -> None:
    assert output(decorate=False).feed(b"one\n\n\x1b[1mtwo\xff\nthr") == [b"one\n", b"\n", b"\x1b[1mtwo\xff\n"]


def test_text_waits_for_its_newline_or_the_end_of_the_pipe() -> None:
    lines = output(decorate=False)
    assert lines.feed(b"a") == []
    assert lines.feed(b"b\nc") == [b"ab\n"]
    assert lines.finish() == [b"c\n"]
    assert lines.finish() == []


def test_without_buffering_nothing_waits() -> None:
    lines = output(decorate=False, buffering=False)
    assert lines.feed(b"a") == [b"a\n"]
    assert lines.feed(b"\n\nb\n") == [b"\n", b"b\n"]  # the first newline ended "a", the second is an empty line


def test_a_line_shows_when_it_was_begun() -> None:
    clock = iter([b"0 ", b"1 ", b"2 ", b"3 "])
    lines = OutputLines(lambda: Frame(next(clock), b"\n", escape_quoted))
    lines.feed(b"begun")
    shown = lines.feed(b" ended\nnext\n")
    assert [line[:2] for line in shown] == [b"1 ", b"2 "]


def test_plain_lines_are_cut_as_php_fpm_cuts() -> None:
    assert feed(output(decorate=False), [b"x" * 2046 + b"\n"]) == [b"x" * 1023 + b"\n"] * 2


def test_decorated_lines_repeat_head_and_quotes() -> None:
    lines = feed(output(limit=512), [b"x" * 1000 + b"\n"])
    assert [len(line) for line in lines[:-1]] == [512, 512]
    assert b"".join(text_of(line) for line in lines) == b"x" * 1000


def test_escapes_and_quotes_can_be_read_back() -> None:
    shown = output().feed('say "hi"\\ \x1b[2J\x9b \t é'.encode() + b"\xff\n")
    assert shown == [START + 'say \\"hi\\"\\\\ \\x1b[2J\\xc2\\x9b \t é\\xff"\n'.encode()]


def test_a_character_split_over_two_reads_is_one() -> None:
    assert feed(output(), [b"caf\xc3", b"\xa9\n\xc3", b"\n"]) == [START + "café".encode() + b'"\n', START + b'\\xc3"\n']


@pytest.mark.parametrize("decorate", [True, False])
def test_a_line_without_end_is_given_out_in_pieces(decorate: bool) -> None:
    lines = output(decorate=decorate)
    given_out = sum(len(line) for _ in range(1000) for line in lines.feed(b"\xff" * 10_000))
    assert given_out >= 10_000_000 - 1024
    assert len(lines._held) <= 1024


@given(PIECES, st.integers(512, 600), st.booleans())
def test_plain_text_is_what_came(pieces: list[bytes], limit: int, buffering: bool) -> None:
    lines = feed(output(limit=limit, decorate=False, buffering=buffering), pieces)
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") and len(line) <= limit for line in lines)
    assert b"".join(lines).replace(b"\n", b"") == b"".join(pieces).replace(b"\n", b"")


@given(PIECES, st.integers(90, 120), st.booleans())
def test_decorated_text_is_what_came(pieces: list[bytes], limit: int, buffering: bool) -> None:
    lines = feed(output(limit=limit, buffering=buffering), pieces)
    texts = [text_of(line) for line in lines]
    assert all(len(line) <= limit for line in lines)
    assert not any(is_control(ord(character)) for text in texts for character in text.decode())
    assert b"".join(read_back(text) for text in texts) == b"".join(pieces).replace(b"\n", b"")


def is_control(code: int) -> bool:
    return (code < 32 and code != 9) or 127 <= code < 160


def read_back(text: bytes) -> bytes:
    """Undo the escapes of one line: each must be whole, or this fails."""
    shown, at = b"", 0
    while at < len(text):
        if text[at : at + 1] != b"\\":
            shown, at = shown + text[at : at + 1], at + 1
        elif text[at + 1 : at + 2] == b"x":
            shown, at = shown + bytes.fromhex(text[at + 2 : at + 4].decode()), at + 4
        else:
            assert text[at + 1 : at + 2] in (b'"', b"\\")
            shown, at = shown + text[at + 1 : at + 2], at + 2
    return shown


@given(PIECES)
def test_how_the_bytes_were_read_does_not_matter(pieces: list[bytes]) -> None:
    assert feed(output(limit=100), pieces) == feed(output(limit=100), [b"".join(pieces)])


@given(PIECES, st.integers(40, 120))
def test_in_json_every_piece_is_a_string_and_none_is_lost(pieces: list[bytes], limit: int) -> None:
    lines = OutputLines(lambda: Frame(b'{"m":"', b'"}\n', escape_json), limit=limit)
    shown = [json.loads(line)["m"] for line in feed(lines, pieces)]
    assert all("\n" not in text for text in shown)
    ended = b"".join(pieces).decode("utf-8", "surrogateescape").replace("\n", "")
    expected = "".join(f"\\x{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in ended)
    assert "".join(shown).replace("\\", "") == expected.replace("\\", "")
