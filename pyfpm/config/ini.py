"""INI in PHP-FPM's dialect to statements, each with its file and line.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: problems in the list that it returns beside the statements; never by an exception.

A value is bare, "double quoted" (\\" and \\\\ inside) or 'single quoted' (nothing is special inside). ${NAME} and
${NAME:-default} come from the environment, except in single quotes. Words stay words: `on` is not turned into 1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config.statements import Assignment, Section, Statement
from pyfpm.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEY = re.compile(r"(?P<name>[^\[\]\s]+)\s*(?:\[(?P<key>[^\[\]]*)\])?")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SINGLE_QUOTED = re.compile(r"'([^']*)'")
_QUOTES = {'"': _DOUBLE_QUOTED, "'": _SINGLE_QUOTED}


def parse_ini(content: bytes, file: str, environ: Mapping[str, str]) -> tuple[list[Statement], list[Problem]]:
    """All that the file says, and all that is wrong with how it says it."""
    statements: list[Statement] = []
    problems: list[Problem] = []
    for where, line in _lines(content.removeprefix(b"\xef\xbb\xbf"), file):
        subject = ""
        try:
            text = _decode(line)
            if not text or text[0] in ";#":
                continue
            if text[0] == "[":
                name, bracket, rest = text[1:].partition("]")
                # Opened even if misspelt: what follows must not be taken for more of the section before.
                statements.append(Section(name.strip(), where))
                _refuse_rest(rest, "after the name of a section")
                if not bracket:
                    raise ValueError("a section's name must end with ']'")
                continue
            subject, key, rest = _read_name(text)
            statements.append(Assignment(subject, key, _read_value(rest, environ), where))
        except ValueError as error:
            problems.append(Problem(catalogue.BAD_SYNTAX, where, subject, *map(str, error.args)))
    return statements, problems


def _lines(content: bytes, file: str) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        yield f"{file}:{number}", line


def _decode(line: bytes) -> str:
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        reason = f"byte 0x{line[error.start]:02x} in column {error.start + 1} is not UTF-8"
        raise ValueError(reason, "save the file as UTF-8") from None
    if "\0" in text:
        raise ValueError("a zero byte is not text")
    return text


def _read_name(text: str) -> tuple[str, str | None, str]:
    """The name, the key in brackets if there are any, and what follows the equals sign."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise ValueError(
            f"'{_shorten(text)}' is neither a section nor 'name = value'", "comments begin with ';' or '#'"
        )
    found = _KEY.fullmatch(name.strip())
    if not found:
        raise ValueError(f"'{_shorten(name.strip())}' is not a directive's name")
    key: str | None = found["key"]
    return found["name"], key if key is None else key.strip(), rest.strip()


def _read_value(text: str, environ: Mapping[str, str]) -> str:
    quote = text[:1]
    if quote not in _QUOTES or not quote:
        return _read_bare(text, environ)
    found = _QUOTES[quote].match(text)
    if not found:
        raise ValueError(f"no closing {quote} on this line", "a value cannot go over several lines")
    _refuse_rest(text[found.end() :], "after the closing quote")
    if quote == "'":
        return found[1]
    return _expand(found[1], environ, is_quoted=True)


def _read_bare(text: str, environ: Mapping[str, str]) -> str:
    # A variable's default may hold a semicolon, so variables are looked for before the comment is.
    comment = re.search(r";", _VARIABLE.sub(lambda found: "_" * len(found[0]), text))
    value = text[: comment.start()].rstrip() if comment else text
    if '"' in value:
        # PHP would drop the quotes and join the pieces, which nobody wants in a log format.
        raise ValueError("a quote in the middle of a value", 'put all of the value in quotes and write \\" inside')
    return _expand(value, environ, is_quoted=False)


def _expand(text: str, environ: Mapping[str, str], *, is_quoted: bool) -> str:
    """`text` with its variables replaced and its escapes resolved. What a variable holds is taken as it is."""
    pieces = []
    position = 0
    for found in _VARIABLE.finditer(text):
        pieces.append(_plain(text[position : found.start()], is_quoted))
        value = environ.get(found[1], "")
        # As in a shell, ':-' means "unset or empty".
        pieces.append(value or found[2] or "")
        position = found.end()
    pieces.append(_plain(text[position:], is_quoted))
    return "".join(pieces)


def _plain(text: str, is_quoted: bool) -> str:
    if "${" in text:
        raise ValueError(
            f"'{_shorten(text[text.index('${') :])}' is not a variable", "write ${NAME} or ${NAME:-default}"
        )
    return re.sub(r'\\(["\\])', r"\1", text) if is_quoted else text


def _refuse_rest(text: str, place: str) -> None:
    rest = text.strip()
    if rest and rest[0] not in ";#":
        raise ValueError(f"unexpected '{_shorten(rest)}' {place}")


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
