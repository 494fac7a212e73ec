"""The head of a CGI answer (RFC 3875, section 6): status and headers to bytes, checked.

Runs in: worker, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: ApplicationError, naming the header that is wrong.

The check is one count of control bytes over the finished head: a CR, LF or NUL that an application lets through would
give whoever supplied it a header, or a whole answer, of his own. A pattern matched against each value costs more than
the rest of the head.
"""

from __future__ import annotations

from pyfpm.errors import ApplicationError

_CONTROLS = bytes(range(32)) + b"\x7f"
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 9110, section 5.6.2
_OF_THE_SERVER = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",  # hop-by-hop: RFC 2616, section 13.5.1
    "te", "trailer", "trailers", "transfer-encoding", "upgrade",
    "status",  # the name of CGI's own line
))  # fmt: skip
_LENGTH_LINE = "\r\nContent-Length: "
# Applications may take names of headers from their clients, so what is remembered has a limit.
_REMEMBERED = 1024
_lines: dict[str, str] = {}
_status_lines: dict[str, str] = {}


def head(status: str, headers: list[tuple[str, str]]) -> tuple[bytes, int | None]:
    """The finished head, blank line included, and the value of Content-Length or None.

    `status` is "200 OK"; names are tokens, values latin-1 text without control characters, as PEP 3333 has it
    ("The start_response() Callable"). Hop-by-hop headers and `Status` are refused: they belong to the server.
    Raises ApplicationError.
    """
    if type(headers) is not list:
        raise _explanation(status, headers)
    length = None
    try:
        text = _status_lines.get(status) or _status_line(status)
        for header in headers:
            if type(header) is not tuple:
                raise TypeError(header)
            name, value = header
            line = _lines.get(name) or _line(name)
            if line is _LENGTH_LINE:
                length = _content_length(value, length)
            text += line + value
        out = (text + "\r\n\r\n").encode("latin-1")
    except (AttributeError, TypeError, ValueError) as error:  # not str, not a pair, not latin-1
        raise _explanation(status, headers) from error
    # Two for each line and two for the blank one; all others came from the application.
    if len(out) - len(out.translate(None, _CONTROLS)) != 2 * len(headers) + 4:
        raise _explanation(status, headers)
    return out, length


def _status_line(status: str) -> str:
    code = status[:3]
    if not (len(code) == 3 and code.isascii() and code.isdecimal() and code >= "100" and status[3:4] == " "):
        raise ApplicationError(f"the status {status!r} is not three digits, a space and a reason, such as '200 OK'")
    line = "Status: " + status
    if len(_status_lines) < _REMEMBERED and _is_text(status):
        _status_lines[status] = line
    return line


def _line(name: str) -> str:
    """The beginning of a header's line; the checks are made once for each name."""
    raw = name.encode("latin-1")
    if not raw or raw.translate(None, _TOKEN):
        raise ApplicationError(f"the header name {name!r} is not a token")
    lower = name.lower()
    if lower in _OF_THE_SERVER:
        raise ApplicationError(f"the header {name!r} belongs to the server; the application must not set it (PEP 3333)")
    line = _LENGTH_LINE if lower == "content-length" else f"\r\n{name}: "
    if len(_lines) < _REMEMBERED:
        _lines[name] = line
    return line


def _content_length(value: str, before: int | None) -> int:
    if before is not None:
        raise ApplicationError("the header 'Content-Length' is there twice")
    # int() alone would take "+5", " 5 ", "5_0" and digits of other scripts.
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise ApplicationError(f"the header 'Content-Length' is {value!r}, not a number of bytes")
    return int(value)


def _is_text(value: str) -> bool:
    return all(" " <= char <= "\xff" and char != "\x7f" for char in value)


def _explanation(status: object, headers: object) -> ApplicationError:
    """Something was wrong; now that time no longer matters, find out what."""
    if not isinstance(status, str):
        return ApplicationError(f"the status must be str, not {type(status).__name__}")
    if not _is_text(status):
        return ApplicationError(f"the status {status!r} has characters that no header may have")
    if type(headers) is not list:
        return ApplicationError(f"the headers must be a list of tuples (name, value), not {type(headers).__name__}")
    for header in headers:
        if not (type(header) is tuple and len(header) == 2):
            return ApplicationError(f"the header {header!r} is not a tuple (name, value)")
        name, value = header
        if not (isinstance(name, str) and isinstance(value, str)):
            return ApplicationError(f"the header {name!r} has the value {value!r}; both must be str")
        if not _is_text(name):
            return ApplicationError(f"the header name {name!r} is not a token")
        if not _is_text(value):
            return ApplicationError(f"the header {name!r} has the value {value!r}: only latin-1, no control characters")
    return ApplicationError(f"the headers {headers!r} cannot be sent")
