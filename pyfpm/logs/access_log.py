"""access.format compiled once to a function that renders a request's line.

Runs in: worker, Python 3.9 and up, each request; master, to check a format.   Not pure: local time (timestamp.py).
Fails by: PyfpmError, in PHP-FPM's words, for a format that cannot be compiled. A compiled format never fails.

No client can forge a line: in text, control characters, quotes, backslashes and bytes beyond ASCII become \\xNN
as in nginx's log; in JSON, what JSON wants.
"""

from __future__ import annotations

from pyfpm.errors import PyfpmError
from pyfpm.logs.access_codes import CLF_TIME, JSON_MEASURES, MEASURES, getter, json_fields, uri_of
from pyfpm.logs.timestamp import stamp

TYPE_CHECKING = False  # typing itself would cost every worker memory
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyfpm.logs.access_codes import Getter

JSON = "json"
DEFAULT = '%R - %u %t "%m %r" %s'
# 1 for each byte that is escaped in a value. (A table and a count are three times as fast as to delete all others.)
_UNSAFE = bytes([byte < 32 or byte > 126 or byte in b'"\\' for byte in range(256)])


class Entry:
    """What is known of a request when it is logged."""

    __slots__ = (
        "accepted",  # seconds since 1970
        "cpu_system",  # seconds
        "cpu_user",
        "duration",  # seconds
        "environ",
        "first_byte",  # seconds from taking the request up to the first byte of the answer; None if there was none
        "headers",  # of the response: a list of (name, value)
        "logged",  # seconds since 1970
        "memory",  # bytes, the peak
        "peer",  # address of the front server, "-" for a unix socket
        "pid",
        "pool",
        "ppid",
        "status",
        "waited",  # seconds until the request was taken up; None if the front server does not say
    )

    def __init__(self, pool: str = "-", pid: int = 0, ppid: int = 0) -> None:
        self.pool: str = pool
        self.pid: int = pid
        self.ppid: int = ppid
        self.environ: dict[str, object] = {}
        self.peer: str = "-"
        self.status: int = 0
        self.headers: list[tuple[str, str]] = []
        self.accepted: float = 0.0
        self.logged: float = 0.0
        self.duration: float = 0.0
        self.waited: float | None = None
        self.first_byte: float | None = None
        self.cpu_user: float = 0.0
        self.cpu_system: float = 0.0
        self.memory = 0


def compile_format(text: str) -> Callable[[Entry], bytes]:
    """The function that renders an entry to its whole line, newline included."""
    if text == JSON:
        fields = json_fields()
        template = "{" + ",".join([f'"{key}":{form}' for key, form, _ in fields]) + "}"
        return _compile_line(template.split("%s"), [get for _, _, get in fields], _escape_json)
    tokens, last = _parse(text)
    literals = [*[literal for literal, _, _ in tokens], last]
    line = _compile_line(literals, [getter(code, modifier) for _, code, modifier in tokens], _escape_text)
    return _default_line(line) if text == DEFAULT else line


def measures(text: str) -> frozenset[str]:
    """What the worker must measure for this format: "cpu", "memory", "first_byte"."""
    if text == JSON:
        return JSON_MEASURES
    return frozenset([MEASURES[code] for _, code, _ in _parse(text)[0] if code in MEASURES])


def is_suppressed(environ: dict[str, object], status: int, content_length: int, paths: frozenset[str]) -> bool:
    """Whether access.suppress_path keeps it out of the log: a plain, successful GET or HEAD of such a path."""
    return (
        200 <= status < 300
        and content_length == 0
        and uri_of(environ) in paths
        and environ.get("REQUEST_METHOD") in ("GET", "HEAD")
        and not environ.get("QUERY_STRING")
    )


def _compile_line(literals: list[str], getters: list[Getter], escape: Callable[[str], str]) -> Callable[[Entry], bytes]:
    """A line is `literals` with a value of each getter between two of them."""
    parts: list[Any] = [""] * (len(literals) + len(getters))
    parts[::2] = literals
    parts.append("\n")
    unsafe = _count_unsafe("".join(parts).encode("utf-8", "backslashreplace"))

    def line(entry: Entry) -> bytes:
        # Nearly every line has nothing to escape, and one look at the whole is cheaper than one at each value: it must
        # have no more bytes that are escaped than the format itself.
        try:
            parts[1:-1:2] = [get(entry) for get in getters]
            data = "".join(parts).encode()
            if _count_unsafe(data) == unsafe:
                return data
        except BaseException:
            pass  # an application has put into the environ what is no text, or a lone surrogate
        parts[1:-1:2] = [escape(_show(get, entry)) for get in getters]
        return "".join(parts).encode("utf-8", "backslashreplace")

    return line


def _default_line(compiled: Callable[[Entry], bytes]) -> Callable[[Entry], bytes]:
    """What nearly everybody has, written out: a function for each value would cost a request twice as much."""
    show = stamp(CLF_TIME)

    def line(entry: Entry) -> bytes:
        try:
            environ = entry.environ
            user, method = environ.get("REMOTE_USER") or "", environ.get("REQUEST_METHOD") or "-"
            text = f'{entry.peer} - {user} {show(entry.accepted)} "{method} {uri_of(environ)}" {entry.status}\n'
            data = text.encode()
            if _count_unsafe(data) == 3:  # two quotes and the newline
                return data
        except BaseException:
            pass  # what makes it fail is for the careful one
        return compiled(entry)

    return line


def _count_unsafe(data: bytes) -> int:
    return data.translate(_UNSAFE).count(1)


def _show(get: Getter, entry: Entry) -> str:
    """A value whose getter or str() fails shows as missing: it is an object of the application's."""
    try:
        return str(get(entry))
    except BaseException:
        return "-"


# Reading a format: `literal %{modifier}code literal …`


def _parse(text: str) -> tuple[list[tuple[str, str, str]], str]:
    """(literal, code, modifier) for each code, and the literal after the last."""
    tokens = []
    at = 0
    while (percent := text.find("%", at)) >= 0:
        literal = text[at:percent]
        modifier, code, at = _parse_code(text, percent + 1)
        tokens.append((literal, code, modifier))
    return tokens, text[at:]


def _parse_code(text: str, at: int) -> tuple[str, str, int]:
    modifier = ""
    if text[at : at + 1] == "{":
        end = text.find("}", at)
        if end < 0 or end + 1 == len(text):
            raise PyfpmError("missing closing embrace in the access.format")
        modifier = text[at + 1 : end]
        at = end + 1
    return modifier, text[at : at + 1], at + 1


# Escaping


# By nginx's rule, and in its spelling.
_TEXT_ESCAPES = [chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\x{byte:02X}" for byte in range(256)]


def _escape_text(text: str) -> str:
    try:
        data = text.encode("latin-1")  # environ holds the client's bytes so (PEP 3333)
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    return "".join([_TEXT_ESCAPES[byte] for byte in data])


def _escape_json(text: str) -> str:
    try:
        shown = text.encode("latin-1").decode()  # the client's bytes are UTF-8, mostly
    except UnicodeError:
        shown = text  # or else each of them stays a character
    return "".join([_json_character(ord(character)) for character in shown])


def _json_character(code: int) -> str:
    if code in (0x22, 0x5C):
        return "\\" + chr(code)
    if 32 <= code < 127:
        return chr(code)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
