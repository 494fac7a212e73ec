"""What each code of access.format shows, and each key of `access.format = json`.

Runs in: worker, Python 3.9 and up, each request.   Not pure: local time (timestamp.py).
Fails by: PyfpmError, in PHP-FPM's words, for a code or modifier that is none. What was compiled never fails.
"""

from __future__ import annotations

from pyfpm.errors import PyfpmError
from pyfpm.logs.timestamp import iso_stamp, stamp

TYPE_CHECKING = False  # typing itself would cost every worker memory
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.logs.access_log import Entry

    Getter = Callable[[Entry], object]  # text, unless an application has put something else into the environ

CLF_TIME = "%d/%b/%Y:%H:%M:%S %z"


def getter(code: str, modifier: str) -> Getter:
    """The function that shows %{modifier}code of an entry."""
    if code in _MODIFIED:
        return _MODIFIED[code](code, modifier)
    if code not in _PLAIN:
        raise PyfpmError(f"Invalid token in the access.format (%{code})")
    if modifier:
        raise PyfpmError(f"embrace is not allowed for modifier %{code}")
    return _PLAIN[code]


def _cpu(code: str, modifier: str) -> Getter:
    which = modifier.lower() or "total"
    if which not in ("total", "user", "system"):
        raise PyfpmError(f"only 'total', 'user' or 'system' are allowed as a modifier for %{code} ('{modifier}')")
    user, system = which != "system", which != "user"

    def get(entry: Entry) -> str:
        spent = user * entry.cpu_user + system * entry.cpu_system
        return f"{spent / entry.duration * 100 if entry.duration > 0 else 0:.2f}"

    return get


def _time_taken(code: str, modifier: str) -> Getter:
    get = _TIMES_TAKEN[code]
    which = modifier.lower()
    if which in ("", "seconds"):
        return lambda entry: "-" if (seconds := get(entry)) is None else f"{seconds:.3f}"
    if which in ("milliseconds", "milli", "miliseconds", "mili"):
        return lambda entry: "-" if (seconds := get(entry)) is None else f"{seconds * 1e3:.3f}"
    if which in ("microseconds", "micro"):
        return lambda entry: "-" if (seconds := get(entry)) is None else str(int(seconds * 1e6))
    allowed = "'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds'"
    raise PyfpmError(f"only {allowed} are allowed as a modifier for %{code} ('{modifier}')")


def _memory(code: str, modifier: str) -> Getter:
    units = {"": 1, "bytes": 1, "kilobytes": 1 << 10, "kilo": 1 << 10, "megabytes": 1 << 20, "mega": 1 << 20}
    unit = units.get(modifier.lower())
    if unit is None:
        allowed = "'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes'"
        raise PyfpmError(f"only {allowed} are allowed as a modifier for %{code} ('{modifier}')")
    return lambda entry: str(entry.memory // unit)


def _variable(code: str, name: str) -> Getter:
    if not name:
        raise PyfpmError(f"the name of the environment variable must be set between embraces for %{code}")
    return lambda entry: entry.environ.get(name, "-")


def _header(code: str, name: str) -> Getter:
    if not name:
        raise PyfpmError(f"the name of the header must be set between embraces for %{code}")
    wanted = name.lower()  # PHP-FPM minds the case; what HTTP calls the same header is the same here

    def get(entry: Entry) -> str:
        for header, value in entry.headers:
            if header.lower() == wanted:
                return value
        return "-"

    return get


def _time(code: str, pattern: str) -> Getter:
    show = stamp(pattern or CLF_TIME)
    try:
        show(0)
    except (ValueError, UnicodeError) as error:
        raise PyfpmError(f"wrong time format for %{code} ('{pattern}'): {error}") from error
    if code == "t":
        return lambda entry: show(entry.accepted)
    return lambda entry: show(entry.logged)


def uri_of(environ: dict[str, object]) -> str:
    """The path as the client sent it. PHP-FPM shows the script's name and loses what follows (bug 81670)."""
    uri = environ.get("REQUEST_URI")
    if uri:
        return str(uri).partition("?")[0]
    return f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}" or "-"


def _content_length(environ: dict[str, object]) -> int:
    length = environ.get("CONTENT_LENGTH")
    if type(length) is not str:
        return length if type(length) is int else 0  # an application has put it there
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0


# In seconds; the letters but `d` are ours, of those that PHP-FPM leaves free.
_TIMES_TAKEN: dict[str, Callable[[Entry], float | None]] = {
    "c": lambda entry: entry.cpu_user + entry.cpu_system,
    "d": lambda entry: entry.duration,
    "F": lambda entry: entry.first_byte,
    "w": lambda entry: entry.waited,
}
_PLAIN: dict[str, Getter] = {
    "%": lambda _: "%",
    "f": lambda entry: entry.environ.get("SCRIPT_FILENAME") or "-",
    "l": lambda entry: str(_content_length(entry.environ)),
    "m": lambda entry: entry.environ.get("REQUEST_METHOD") or "-",
    "n": lambda entry: entry.pool,
    "p": lambda entry: str(entry.pid),
    "P": lambda entry: str(entry.ppid),
    "q": lambda entry: entry.environ.get("QUERY_STRING") or "",
    "Q": lambda entry: "?" if entry.environ.get("QUERY_STRING") else "",
    "r": lambda entry: uri_of(entry.environ),
    "R": lambda entry: entry.peer,
    "s": lambda entry: str(entry.status),
    "u": lambda entry: entry.environ.get("REMOTE_USER") or "",
}
_MODIFIED: dict[str, Callable[[str, str], Getter]] = {
    "C": _cpu,
    **dict.fromkeys(_TIMES_TAKEN, _time_taken),
    "e": _variable,
    "M": _memory,
    "o": _header,
    "t": _time,
    "T": _time,
}


# What the worker must measure for a code. All else is known, or is noted of each request anyway.
MEASURES = {"C": "cpu", "c": "cpu", "F": "first_byte", "M": "memory"}
JSON_MEASURES = frozenset(("cpu", "first_byte"))


# One JSON object a request


def _iso_time() -> Getter:
    show = iso_stamp()
    return lambda entry: show(entry.accepted)


def _text_of(name: str) -> Getter:
    return lambda entry: entry.environ.get(name) or ""


def _seconds(seconds: float | None) -> str:
    return "null" if seconds is None else f"{seconds:.6f}"


def json_fields() -> list[tuple[str, str, Getter]]:
    """(key, "%s" for a number or '"%s"' for text, getter): the format's promise, in its order."""
    text, number = '"%s"', "%s"
    return [
        ("time", text, _iso_time()),  # when it was accepted
        ("pool", text, _PLAIN["n"]),
        ("pid", number, _PLAIN["p"]),
        ("peer", text, _PLAIN["R"]),  # who connected: the front server
        ("remote_addr", text, _text_of("REMOTE_ADDR")),  # for whom, as the front server says
        ("user", text, _PLAIN["u"]),
        ("method", text, _text_of("REQUEST_METHOD")),
        ("host", text, _text_of("HTTP_HOST")),
        ("uri", text, _PLAIN["r"]),
        ("query", text, _PLAIN["q"]),
        ("protocol", text, _text_of("SERVER_PROTOCOL")),
        ("script_name", text, _text_of("SCRIPT_NAME")),
        ("status", number, _PLAIN["s"]),
        ("duration", number, lambda entry: f"{entry.duration:.6f}"),  # seconds, as the next three
        ("queue_time", number, lambda entry: _seconds(entry.waited)),
        ("first_byte", number, lambda entry: _seconds(entry.first_byte)),
        ("cpu", number, lambda entry: f"{entry.cpu_user + entry.cpu_system:.6f}"),
        ("content_length", number, _PLAIN["l"]),  # of the request
        ("referer", text, _text_of("HTTP_REFERER")),
        ("user_agent", text, _text_of("HTTP_USER_AGENT")),
    ]
