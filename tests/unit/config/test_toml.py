from __future__ import annotations

import textwrap

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.config.statements import Assignment, Section, Statement
from pyfpm.config.toml import parse_toml
from pyfpm.config.toml_lines import lines_of


def parse(text: str) -> list[Statement]:
    statements, problems = parse_toml(textwrap.dedent(text).encode(), "f")
    assert problems == []
    return statements


def complaint(content: bytes) -> str:
    return "\n".join(map(str, parse_toml(content, "f")[1]))


def test_tables_become_dotted_names_with_their_lines() -> None:
    assert parse(
        """\
        [global]
        daemonize = true
        include = ["a.toml", "b.conf"]

        [pool.www]
        app = "m:a"   # comment
        listen = { address = "/run/x.sock", mode = "0660" }
        pm.mode = "static"
        pm.max_children = 4
        env = { A = "1", "B.C" = "2" }
        access.suppress_path = ["/a", "/b"]

        [pool.shop.env]
        D = '''
        x'''
        """
    ) == [
        Section("global", "f:1"),
        Assignment("daemonize", None, True, "f:2"),
        Assignment("include", None, ["a.toml", "b.conf"], "f:3"),
        Section("www", "f:5"),
        Assignment("app", None, "m:a", "f:6"),
        Assignment("listen", None, "/run/x.sock", "f:7"),
        Assignment("listen.mode", None, "0660", "f:7"),
        Assignment("pm", None, "static", "f:8"),
        Assignment("pm.max_children", None, 4, "f:9"),
        Assignment("env", "A", "1", "f:10"),
        Assignment("env", "B.C", "2", "f:10"),
        Assignment("access.suppress_path", "", "/a", "f:11"),
        Assignment("access.suppress_path", "", "/b", "f:11"),
        Section("shop", "f:13"),
        Assignment("env", "D", "x", "f:14"),
    ]


def test_lines_are_found_behind_strings_and_lists_over_several_lines() -> None:
    text = 'a = """\n[x]\nb = 1\n"""\nc = [\n  "]", # ]\n  { d = 1 },\n]\n["q.r"]\n\'s\' . t = 1\n'
    assert lines_of(text) == {
        ("a",): 1,
        ("c",): 5,
        ("q.r",): 9,
        ("q.r", "s"): 10,
        ("q.r", "s", "t"): 10,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[global]\na = \n", "f:2: Invalid value, in column 5"),
        (b"[global]\n\na = 'x", 'f:3: Expected "\'"'),
        (b"\n\xff", "f:2: byte 0xff is not UTF-8\n    save the file as UTF-8"),
        (b"\npid = 'x'", "f:2: pid: stands outside of any section\n"),
        (b"[www]\napp = 'x'", "f:1: www: stands outside of any section\n    write [global], or [pool.NAME]"),
        (b"pool.x = 1", "f:1: pool.x: must be a table"),
        (b"[pool.Global]", "f:1: pool.Global: is no name for a pool"),
        (b"[pool.x]\n\nchdir = 2020-01-01", "f:3: chdir: a value cannot be a date or a time\n"),
        (b"[pool.x]\nchdir = [[1]]", "f:2: chdir: a value cannot be a list of lists or tables\n"),
        (b"a=" + b"[" * 5000, "f: tables or lists are nested too deeply"),
        (b"a=" + b"1" * 5000, "f:1: Exceeds the limit"),
    ],
)
def test_mistakes(content: bytes, reason: str) -> None:
    assert complaint(content).startswith(reason)


@given(st.one_of(st.binary(), st.text(alphabet="ab[]{}=,.'\"#\n\\ 1").map(str.encode)))
def test_no_bytes_raise_anything(content: bytes) -> None:
    parse_toml(b"[pool.x]\n" + content, "f")


KEYS = st.text(min_size=1, max_size=4)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, st.one_of(st.integers(), KEYS), max_size=3), max_size=4))
def test_every_key_has_the_line_it_stands_on(document: dict[str, dict[str, int | str]]) -> None:

    text: str = tomli_w.dumps(document)
    lines = lines_of(text)
    headers = [number for number, line in enumerate(text.split("\n"), start=1) if line.startswith("[")]
    assert [lines[(table,)] for table in document] == headers
    for table, pairs in document.items():
        assert [lines[(table, key)] - lines[(table,)] for key in pairs] == list(range(1, len(pairs) + 1))
