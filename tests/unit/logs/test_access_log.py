"""access.format: every code, every refusal, and nothing a client sends can forge a line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.config.directive import directives_of
from pyfpm.config.directives import PoolSettings
from pyfpm.errors import PyfpmError
from pyfpm.logs.access_log import DEFAULT, Entry, compile_format, is_suppressed, measures

ACCEPTED = 1_795_294_369.25
# What a front server can put into a value (bytes as Latin-1), and what an application can (any text).
HOSTILE = st.text(st.characters(max_codepoint=255)) | st.text(st.characters(exclude_categories=()))


@pytest.fixture
def entry() -> Entry:
    entry = Entry("www", pid=912, ppid=17)
    entry.environ = {
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/a%20b/c?x=1&y",
        "QUERY_STRING": "x=1&y",
        "SCRIPT_NAME": "/a b",
        "PATH_INFO": "/c",
        "SCRIPT_FILENAME": "/srv/app.py",
        "CONTENT_LENGTH": "42",
        "REMOTE_USER": "ada",
        "REMOTE_ADDR": "192.0.2.7",
        "HTTP_HOST": "example.org",
    }
    entry.peer = "127.0.0.1"
    entry.status = 201
    entry.headers = [("Content-Type", "text/html"), ("X-Cache", "HIT")]
    entry.accepted = ACCEPTED
    entry.logged = ACCEPTED + 60
    entry.duration = 0.5
    entry.cpu_user = 0.1
    entry.cpu_system = 0.025
    entry.memory = 3 * 1024 * 1024 + 1
    entry.waited = 0.0625
    entry.first_byte = 0.25
    return entry


def show(text: str, entry: Entry) -> str:
    return compile_format(text)(entry).decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("100%%", "100%"),
        ("%C %{user}C %{SYSTEM}C %{total}C", "25.00 20.00 5.00 25.00"),
        ("%d %{seconds}d", "0.500 0.500"),
        ("%{milliseconds}d %{milli}d %{miliseconds}d %{mili}d", "500.000 500.000 500.000 500.000"),
        ("%{microseconds}d %{micro}d %{}d", "500000 500000 0.500"),
        ("%w %{milli}w %F %{micro}F %c %{milli}c", "0.062 62.500 0.250 250000 0.125 125.000"),
        ("%{HTTP_HOST}e %{NOT_THERE}e", "example.org -"),
        ("%f %l %m", "/srv/app.py 42 POST"),
        ("%M %{bytes}M", "3145729 3145729"),
        ("%{kilobytes}M %{kilo}M %{megabytes}M %{mega}M", "3072 3072 3 3"),
        ("%n %p %P", "www 912 17"),
        ("%{x-cache}o %{Content-Type}o %{Absent}o", "HIT text/html -"),
        ("%r%Q%q", "/a%20b/c?x=1&y"),
        ("%R %s %u", "127.0.0.1 201 ada"),
        ("%{%s}t %{%s}T", "1795294369 1795294429"),
        ("%{%Y}t é\t\\", "2026 é\t\\"),
    ],
)
def test_every_code(entry: Entry, text: str, shown: str) -> None:
    assert show(text, entry) == shown + "\n"


def test_the_default_format_is_php_fpms(entry: Entry) -> None:
    entry.peer = "-"
    entry.environ["REMOTE_USER"] = ""
    assert show(DEFAULT, entry) == '- -  21/Nov/2026:20:52:49 +0000 "POST /a%20b/c" 201\n'
    assert [row.default for row in directives_of(PoolSettings) if row.name == "access.format"] == [DEFAULT]


@given(st.lists(HOSTILE | st.integers() | st.none(), min_size=4, max_size=4))
def test_the_default_format_is_written_out_right(values: list[object]) -> None:
    """It has a function of its own; with two more characters it has that of all formats."""
    names = "REQUEST_URI REMOTE_USER REQUEST_METHOD SCRIPT_NAME"
    entry = Entry("www")
    entry.environ = dict(zip(names.split(), values, strict=True))
    assert compile_format(DEFAULT + "%%")(entry) == compile_format(DEFAULT)(entry)[:-1] + b"%\n"


def test_nothing_known_shows_dashes() -> None:
    assert show("%R %m %r %f %u%q%Q %l %C", Entry()) == "- - - -  0 0.00\n"
    assert show("%w %{milli}w %{micro}w %F %c", Entry()) == "- - - - 0.000\n"


def test_the_path_without_request_uri_is_put_together(entry: Entry) -> None:
    del entry.environ["REQUEST_URI"]
    assert show("%r", entry) == "/a b/c\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%Z", "Invalid token in the access.format (%Z)"),
        ("100%", "Invalid token in the access.format (%)"),
        ("%{x", "missing closing embrace in the access.format"),
        ("%{x}", "missing closing embrace in the access.format"),
        ("%{x}m", "embrace is not allowed for modifier %m"),
        ("%{x}%", "embrace is not allowed for modifier %%"),
        ("%{F}C", "only 'total', 'user' or 'system' are allowed as a modifier for %C ('F')"),
        (
            "%{F}d",
            "only 'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds' are allowed as a modifier for %d ('F')",
        ),
        (
            "%{F}M",
            "only 'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes' are allowed as a modifier for %M ('F')",
        ),
        ("%e", "the name of the environment variable must be set between embraces for %e"),
        ("%{}o", "the name of the header must be set between embraces for %o"),
        ("%{\0}t", "wrong time format for %t ('\0'): embedded null character"),
    ],
)
def test_wrong_formats_are_refused_in_php_fpms_words(text: str, words: str) -> None:
    with pytest.raises(PyfpmError) as refusal:
        compile_format(text)
    assert str(refusal.value) == words


def test_only_what_the_format_asks_is_measured() -> None:
    assert measures("%{user}C %c") == {"cpu"}
    assert measures("%m %M %{milli}F") == {"memory", "first_byte"}
    assert measures("json") == {"cpu", "first_byte"}
    for text in (DEFAULT, "%%C %%M %%F %%c", "%w %d"):
        assert measures(text) == frozenset()


def test_a_client_cannot_forge_a_line(entry: Entry) -> None:
    entry.environ["HTTP_USER_AGENT"] = 'a"\n\\\x1b[31mé'
    assert show('"%{HTTP_USER_AGENT}e"', entry) == '"a\\x22\\x0A\\x5C\\x1B[31m\\xE9"\n'


@given(HOSTILE, HOSTILE)
def test_a_line_has_the_quotes_and_the_newline_of_its_format_only(uri: str, user: str) -> None:
    entry = Entry("www")
    entry.environ = {"REQUEST_URI": uri, "REMOTE_USER": user}
    line = compile_format('%u "%r" %s')(entry)
    assert line.isascii()
    assert line.count(b'"') == 2
    assert line.count(b"\n") == 1
    assert line[:-1].decode().isprintable()


@given(st.lists(HOSTILE, min_size=8, max_size=8))
def test_json_is_json_whatever_comes(values: list[str]) -> None:
    names = "REQUEST_URI QUERY_STRING REMOTE_USER HTTP_HOST HTTP_REFERER HTTP_USER_AGENT CONTENT_LENGTH SCRIPT_NAME"
    entry = Entry(pool=values[0])
    entry.environ = dict(zip(names.split(), values, strict=True))
    line = compile_format("json")(entry)
    assert line.count(b"\n") == 1
    assert isinstance(json.loads(line), dict)


def test_json_keys_and_types(entry: Entry) -> None:
    entry.environ["HTTP_USER_AGENT"] = 'caf\xc3\xa9 "\U0001f600"'.encode().decode("latin-1")
    entry.environ["HTTP_REFERER"] = "caf\xe9"  # no UTF-8: its bytes stay characters
    assert json.loads(compile_format("json")(entry)) == {
        "time": "2026-11-21T20:52:49.250+00:00",
        "pool": "www",
        "pid": 912,
        "peer": "127.0.0.1",
        "remote_addr": "192.0.2.7",
        "user": "ada",
        "method": "POST",
        "host": "example.org",
        "uri": "/a%20b/c",
        "query": "x=1&y",
        "protocol": "",
        "script_name": "/a b",
        "status": 201,
        "duration": 0.5,
        "queue_time": 0.0625,
        "first_byte": 0.25,
        "cpu": 0.125,
        "content_length": 42,
        "referer": "caf\xe9",
        "user_agent": 'caf\xc3\xa9 "\U0001f600"',
    }


@pytest.mark.parametrize("length", ["", "abc", "²", "-1", "9" * 5000, None])
def test_a_content_length_that_is_none_is_zero(entry: Entry, length: str | None) -> None:
    entry.environ["CONTENT_LENGTH"] = length
    assert show("%l", entry) == "0\n"


def test_suppression_wants_all_conditions() -> None:
    paths = frozenset({"/ping"})
    probe: dict[str, object] = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/ping", "QUERY_STRING": ""}
    assert is_suppressed(probe, 200, 0, paths)
    assert is_suppressed({**probe, "REQUEST_METHOD": "HEAD"}, 204, 0, paths)
    assert not is_suppressed(probe, 500, 0, paths)
    assert not is_suppressed(probe, 200, 1, paths)
    assert not is_suppressed({**probe, "REQUEST_METHOD": "POST"}, 200, 0, paths)
    assert not is_suppressed({**probe, "REQUEST_URI": "/ping/x"}, 200, 0, paths)
    assert not is_suppressed({**probe, "REQUEST_URI": "/ping?x", "QUERY_STRING": "x"}, 200, 0, paths)


def test_a_worker_loads_no_big_modules_for_it() -> None:
    code = "import sys; import pyfpm.logs.access_log; print({'typing', 're', 'json', 'dataclasses'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
