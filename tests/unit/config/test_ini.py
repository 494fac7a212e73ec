from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.config.ini import parse_ini
from pyfpm.config.statements import Assignment, Section

ENVIRON = {"HOME": "/root", "TRICKY": '"; ${HOME} \\', "EMPTY": ""}


def value_of(line: str) -> str:
    statements, problems = parse_ini(line.encode(), "f", ENVIRON)
    assert problems == []
    assert len(statements) == 1
    assert isinstance(statements[0], Assignment)
    assert isinstance(statements[0].value, str)
    return statements[0].value


def complaint(content: bytes) -> str:
    return "\n".join(map(str, parse_ini(content, "f", ENVIRON)[1]))


def test_sections_assignments_and_comments_have_their_lines() -> None:
    text = b"; one\n# two\n[global] ; three\r\n\n  pid = /run/x.pid\nenv[A B]=c\na[] = d\n"
    assert parse_ini(text, "f", {}) == (
        [
            Section("global", "f:3"),
            Assignment("pid", None, "/run/x.pid", "f:5"),
            Assignment("env", "A B", "c", "f:6"),
            Assignment("a", "", "d", "f:7"),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a = b ; comment", "b"),
        ("a = b # not a comment", "b # not a comment"),
        ("a =", ""),
        ("a = x = y", "x = y"),
        ('a = "b ; c" ; comment', "b ; c"),
        ('a = "%R \\"%m\\" \\\\"', '%R "%m" \\'),
        ("a = '${HOME} \\'", "${HOME} \\"),
        ("a = it's", "it's"),
        ("a = on", "on"),
        ("a = no", "no"),
        ("a = 4|1", "4|1"),
        ("a = ${HOME}/x", "/root/x"),
        ('a = "${HOME}/x"', "/root/x"),
        ("a = ${NOPE}", ""),
        ("a = ${NOPE:-d;e} ; comment", "d;e"),
        ("a = ${EMPTY:-d}", "d"),
        ("a = ${HOME:-d}", "/root"),
        ("a = ${TRICKY}", '"; ${HOME} \\'),
        ('a = "${TRICKY}"', '"; ${HOME} \\'),
        ("a = $HOME", "$HOME"),
        ("\ufeffa = b", "b"),
    ],
)
def test_values(line: str, value: str) -> None:
    assert value_of(line) == value


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"listen", "f:1: 'listen' is neither a section nor 'name = value'\n    comments begin with ';' or '#'"),
        (b"[www", "f:1: a section's name must end with ']'"),
        (b"[www] x", "f:1: unexpected 'x' after the name of a section"),
        (b"\n = 3", "f:2: '' is not a directive's name"),
        (b"env[A = 3", "f:1: 'env[A' is not a directive's name"),
        (b'a = "b', 'f:1: a: no closing " on this line\n    a value cannot go over several lines'),
        (b"a = 'b' c", "f:1: a: unexpected 'c' after the closing quote"),
        (b"a = ${HOME", "f:1: a: '${HOME' is not a variable\n    write ${NAME} or ${NAME:-default}"),
        (b"a = caf\xe9", "f:1: byte 0xe9 in column 8 is not UTF-8\n    save the file as UTF-8"),
        (b"a = \0", "f:1: a zero byte is not text"),
        (
            b'a = %R "%m"',
            'f:1: a: a quote in the middle of a value\n    put all of the value in quotes and write \\" inside',
        ),
    ],
)
def test_mistakes(line: bytes, reason: str) -> None:
    assert complaint(line) == reason


def test_a_misspelt_section_still_begins() -> None:
    statements, problems = parse_ini(b"[a]\n[b\nx = 1\n", "f", {})
    assert len(problems) == 1
    assert statements[1] == Section("b", "f:2")


@given(st.one_of(st.binary(), st.text(alphabet="a[]='\";#${}:-\\\n .é").map(str.encode)))
def test_no_bytes_raise_anything(content: bytes) -> None:
    parse_ini(content, "f", ENVIRON)


@given(st.text(alphabet=st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])))
def test_any_text_survives_in_double_quotes(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if "${" not in text:
        assert value_of(f'a = "{escaped}"') == text
