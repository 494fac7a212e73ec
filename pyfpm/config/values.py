"""Text to values and back: numbers, durations, modes, addresses, lists. The only file that knows "10s".

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: ValueError(reason) or ValueError(reason, advice), for a person to read.

A reader takes the text of a file; a shower gives text that the same reader reads as the same value.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNLIMITED = -1  # the kernel's RLIM_INFINITY
_LARGEST_INT = 2**31 - 1
_LARGEST_LIMIT = 2**63 - 1
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 365 * 86400
_REAL_TIME_SIGNALS = 29  # beyond the first: Linux has 64 signals, and musl begins at 35
_WORDS = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}


class Kind(NamedTuple):
    """A type of value: how to read it, how to show it, and how to say what it may be."""

    read: Callable[[str], Any]
    show: Callable[[Any], str]
    words: str
    natives: tuple[type, ...] = ()  # the TOML types it may be written in, beside a string
    separator: str = ","  # between the items of a TOML list
    rebase: Callable[[Any, str], Any] | None = None  # make relative paths in a value begin at a folder


def show(kind: Kind, value: Any) -> str:
    """The value as a file would spell it; `undefined` when there is none."""
    return "undefined" if value is None or value == () else kind.show(value)


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_text(text: str) -> str:
    """Text that is there and that the system calls can take."""
    if not text:
        raise ValueError("empty value", "leave the directive out to have its default")
    return refuse_nul(text)


def refuse_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a value cannot hold a zero byte")
    return text


def read_mount(text: str) -> str:
    if text == "":
        return text
    if not text.startswith("/"):
        raise ValueError(f"'{text}' must begin with '/'", f"write /{text.rstrip('/')}")
    if text.endswith("/"):
        shorter = text.rstrip("/")
        raise ValueError(f"'{text}' must not end with '/'", f"write {shorter}" if shorter else "leave it empty")
    if re.search(r"[\s?#\0]", text):
        raise ValueError(f"'{text}' is not the path of a URL")
    return text


def read_application(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if colon and _is_dotted(module) and _is_dotted(attribute):
        return text
    advice = "write the import name of the module, ':' and the name of the callable, as in mysite.wsgi:application"
    if module.endswith(".py") or "/" in module:
        advice = f"a module is not a file: {advice}"
    raise ValueError(f"'{text}' is not module:callable", advice)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def read_uri_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"'{text}' must begin with '/'", f"write /{text}")
    return refuse_nul(text)


def own_page(noun: str) -> Callable[[str], str]:
    """Reads the path of a page that pyfpm answers itself: PHP-FPM's rules, in its words."""

    def read(text: str) -> str:
        if not text.startswith("/"):
            raise ValueError(f"the {noun} path '{text}' must start with a '/'", f"write /{text}")
        if len(text) < len("/x"):
            raise ValueError(f"the {noun} path '{text}' is not long enough", f"write /{noun}")
        if not re.fullmatch(r"[A-Za-z0-9/_.~-]+", text):
            raise ValueError(f"the {noun} path '{text}' must contain only the following characters '[alphanum]/_-.~'")
        return text

    return read


def read_ping_response(text: str) -> str:
    if not text:
        raise ValueError(f"the ping response page '{text}' is not long enough", "leave it out for 'pong'")
    return refuse_nul(text)


def read_probe(text: str) -> str:
    """ "/path?query", "//host/path?query", or nothing."""
    if not re.fullmatch(r"[!-~]*", text) or "#" in text:
        raise ValueError(f"'{text}' is not a path of a URL", "write other characters than these as %20")
    if text and not text.startswith("/"):
        raise ValueError(f"'{text}' must begin with '/'", f"write /{text}, or //{text} if it begins with a host")
    if text.startswith("//") and not re.match(r"//[^/?]+/", text):
        raise ValueError(f"'{text}' is not //host/path", f"write {_probe_advice(text)}")
    return text


def _probe_advice(text: str) -> str:
    host = re.match(r"//[^/?]+", text)
    return f"{host[0]}/{text[host.end() :]}" if host else "//www.example.org/health, or a path with one '/'"


TEXT = Kind(read_text, str, "text")
ENVIRONMENT_VALUE = Kind(refuse_nul, str, "text, which may be empty", natives=(int,))
MOUNT = Kind(read_mount, str, "empty, or a path that begins with `/` and does not end with one")
APPLICATION = Kind(read_application, str, "`module:callable`; both may have dots")
URI_PATH = Kind(read_uri_path, str, "a path that begins with `/`")
STATUS_PATH = Kind(own_page("status"), str, "a path that begins with `/`: letters, digits and `/_-.~`")
PING_PATH = Kind(own_page("ping"), str, "a path that begins with `/`: letters, digits and `/_-.~`")
PING_RESPONSE = Kind(read_ping_response, str, "text")
PROBE = Kind(read_probe, str, "`/path`, `/path?query` or `//host/path?query`")


def one_of(*choices: str, aliases: dict[str, str] | None = None, noun: str = "value") -> Kind:
    """One of a few words, in any case. `noun` is what they are, for the refusal of another."""

    def read(text: str) -> str:
        word = (aliases or {}).get(text.lower(), text.lower())
        if word in choices:
            return word
        raise ValueError(f"invalid {noun} '{text}'", f"use {_or(choices)}")

    return Kind(read, str, _or([f"`{choice}`" for choice in choices]))


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


# ── paths ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PREFIX_VARIABLE = "$prefix"
LONGEST_SOCKET_PATH = 107  # sockaddr_un.sun_path, unix(7), less its zero byte


def join_path(base: str, path: str) -> str:
    """`path` as it is when absolute; below `base` otherwise."""
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"


def read_absolute(text: str) -> str:
    if not read_text(text).startswith("/"):
        raise ValueError(f"'{text}' must begin with '/'", "write the whole path")
    return text


def read_chroot(text: str) -> str:
    if text == PREFIX_VARIABLE or text.startswith(PREFIX_VARIABLE + "/"):
        return text
    if PREFIX_VARIABLE in text:
        raise ValueError(f"'{PREFIX_VARIABLE}' must be use at the beginning of the value")
    return read_absolute(text)


def rebase_chroot(path: str, base: str) -> str:
    if not path.startswith(PREFIX_VARIABLE):
        return path
    return (base.rstrip("/") + path[len(PREFIX_VARIABLE) :]) or "/"


def read_pool_log_file(text: str) -> str:
    if text == SYSLOG:
        raise ValueError(f"'{SYSLOG}' is for [global]", "leave the directive out to use the log of the daemon")
    return read_text(text)


def read_facility(text: str) -> int:
    """The number of a facility of syslog(3), by its name in any case or as it is."""
    if re.fullmatch(r"[0-9]{1,2}", text) and int(text) <= _LARGEST_FACILITY:
        return int(text)
    if text.lower() not in _FACILITIES:
        raise ValueError(f"invalid value '{text}'", f"use {_or(list(_FACILITIES))}")
    return _FACILITIES[text.lower()]


def show_facility(number: int) -> str:
    return next((name for name, one in _FACILITIES.items() if one == number), str(number))


def read_path_list(text: str) -> tuple[str, ...]:
    return _split(text, ":", read_text)


NOWHERE = "none"
SYSLOG = "syslog"
_LARGEST_FACILITY = 23
_FACILITIES = {
    "auth": 4,
    "authpriv": 10,
    "cron": 9,
    "daemon": 3,
    "ftp": 11,
    "kern": 0,
    **{f"local{number}": 16 + number for number in range(8)},
    "lpr": 6,
    "mail": 2,
    "news": 7,
    "syslog": 5,
    "user": 1,
    "uucp": 8,
}

PATH = Kind(read_text, str, "a path", rebase=lambda path, base: join_path(base, path))
LOG_FILE = Kind(
    read_text,
    str,
    f"a path, or `{SYSLOG}`",
    rebase=lambda path, base: path if path == SYSLOG else join_path(base, path),
)
POOL_LOG_FILE = Kind(read_pool_log_file, str, "a path", rebase=lambda path, base: join_path(base, path))
SYSLOG_FACILITY = Kind(
    read_facility,
    show_facility,
    f"{_or([f'`{name}`' for name in _FACILITIES])}, or a number up to {_LARGEST_FACILITY}",
    natives=(int,),
)
PATH_OR_NONE = Kind(
    read_text,
    str,
    f"a path, or `{NOWHERE}`",
    rebase=lambda path, base: path if path == NOWHERE else join_path(base, path),
)
ABSOLUTE_PATH = Kind(read_absolute, str, "a path that begins with `/`")
CHROOT = Kind(read_chroot, str, "a path that begins with `/` or with `$prefix`", rebase=rebase_chroot)
PATH_LIST = Kind(
    read_path_list,
    ":".join,
    "paths with `:` between them",
    natives=(list,),
    separator=":",
    rebase=lambda paths, base: tuple(join_path(base, path) for path in paths),
)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(least: int, most: int = _LARGEST_INT, *, words: str = "", refusal: str = "") -> Kind:
    """A whole number within bounds. `refusal` is what PHP-FPM says to one outside."""
    bounds = f"from {least} to {most}" if most != _LARGEST_INT else f"of at least {least}"

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,19}", text):
            raise ValueError(f"'{text}' is not a whole number", f"write a whole number {bounds}")
        value = int(text)
        if not least <= value <= most:
            raise ValueError(refusal or f"{value} is out of bounds", f"write a whole number {bounds}")
        return value

    return Kind(read, str, words or f"a whole number {bounds}", natives=(int,))


def read_core_limit(text: str) -> int:
    if text == "unlimited":
        return UNLIMITED
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > _LARGEST_LIMIT:
        raise ValueError("must be greater than zero or 'unlimited'")
    return int(text)


def show_core_limit(value: int) -> str:
    return "unlimited" if value == UNLIMITED else str(value)


def read_yes_or_no(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(f"invalid boolean value '{text}'", "write yes or no")
    return _WORDS[text.lower()]


def read_mode(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f"'{text}' is not an octal mode", "write three octal digits after a zero, as in 0660")
    return int(text, 8)


FILE_LIMIT = number(0, _LARGEST_LIMIT, words="a whole number; `0` leaves the limit as it is")
CORE_LIMIT = Kind(
    read_core_limit,
    show_core_limit,
    "a whole number of bytes or `unlimited`; `0` leaves the limit as it is",
    natives=(int,),
)
YES_OR_NO = Kind(read_yes_or_no, lambda value: "yes" if value else "no", "`yes` or `no`", natives=(bool,))
MODE = Kind(read_mode, lambda mode: f"0{mode:03o}", "an octal mode such as `0660`")


NO_SIGNAL = -1


def read_signal(text: str) -> int:
    if text.lower() == NOWHERE:
        return NO_SIGNAL
    found = re.fullmatch(r"(?:SIG)?RTMIN(?:\+([0-9]{1,2}))?", text, re.IGNORECASE | re.ASCII)
    if not found or int(found[1] or 0) > _REAL_TIME_SIGNALS:
        advice = f"write SIGRTMIN+n with n from 0 to {_REAL_TIME_SIGNALS}, as in SIGRTMIN+8; or none"
        raise ValueError(f"'{text}' is no real-time signal", advice)
    return int(found[1] or 0)


def show_signal(offset: int) -> str:
    return NOWHERE if offset == NO_SIGNAL else f"SIGRTMIN+{offset}"


# As an offset: which number the first one has is up to the C library.
REAL_TIME_SIGNAL = Kind(
    read_signal, show_signal, f"a real-time signal, `SIGRTMIN+n` with n up to {_REAL_TIME_SIGNALS}, or `none`"
)


def duration(*, zero: bool) -> Kind:
    """A duration as float seconds, exact to the millisecond; `zero` says whether none at all is allowed."""

    def read(text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([a-zA-Z]*)", text)
        if not found or found[2] not in _UNITS:
            raise ValueError(f"'{text}' is not a duration", _duration_advice(found))
        seconds = round(float(found[1]) * _UNITS[found[2]], 3)
        if seconds > _LONGEST:
            raise ValueError(f"'{text}' is too long", "a duration is at most 365d")
        if seconds == 0 and not zero:
            raise ValueError(f"'{text}' must be greater than 0s")
        return seconds

    words = "a duration: `30s`, `5m`, `2h`, `1d`, `1.5s`" + ("" if zero else "; greater than `0s`")
    return Kind(read, show_duration, words, natives=(int, float))


def _duration_advice(found: re.Match[str] | None) -> str:
    if found and found[2].lower() in ("ms", "msec"):
        return f"milliseconds are fractions of a second here: write {float(found[1]) / 1000:.3f}s"
    return "write 30s, 1.5s, 5m, 2h or 1d"


def show_duration(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class MemoryLimit(NamedTuple):
    """The most memory of a process, and how it is counted; no bytes at all mean no limit."""

    bytes: int = 0
    kind: Literal["rss", "pss"] = "rss"

    def show(self) -> str:
        size = _show_size(self.bytes)
        return f"{size} {self.kind}" if self.kind != "rss" else size


_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_LEAST_MEMORY = 2**20  # no interpreter lives on less: whoever writes 256 has forgotten the M


def read_memory_limit(text: str) -> MemoryLimit:
    found = re.fullmatch(r"([0-9]{1,15})([KMG]?)(?:\s+(rss|pss))?", text, re.IGNORECASE | re.ASCII)
    if not found:
        raise ValueError(f"'{text}' is not an amount of memory", "write 256M or 1G, and pss after it if so meant")
    size = int(found[1]) * _SIZES[found[2].upper()]
    if not size:
        return MemoryLimit()
    if size < _LEAST_MEMORY:
        raise ValueError(f"{size} bytes are less than any worker needs", f"write {found[1]}M for megabytes")
    if size > _LARGEST_LIMIT:
        raise ValueError(f"'{text}' is too much")
    return MemoryLimit(size, "pss" if found[3] and found[3].lower() == "pss" else "rss")


def _show_size(size: int) -> str:
    unit = next(unit for unit in ("G", "M", "K", "") if not size % _SIZES[unit]) if size else ""
    return f"{size // _SIZES[unit]}{unit}"


MEMORY_LIMIT = Kind(
    read_memory_limit,
    MemoryLimit.show,
    "bytes with `K`, `M` or `G`, and `rss` (so without a word) or `pss`: `256M`, `256M pss`",
    natives=(int,),
)


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _split(text: str, separator: str, read: Callable[[str], str]) -> tuple[str, ...]:
    """The items of a list, each once: a name that comes twice is no reason to refuse a start."""
    items = [item.strip() for item in read_text(text).split(separator)]
    if "" in items:
        raise ValueError(f"empty item in '{text}'", f"write one '{separator}' between two items")
    return tuple(dict.fromkeys(read(item) for item in items))


def read_client(text: str) -> str:
    try:
        if "/" not in text:
            return str(ipaddress.ip_address(text))
        return str(ipaddress.ip_network(text))
    except ValueError:
        advice = "write addresses such as 127.0.0.1 or ::1, or networks such as 10.0.0.0/8"
        raise ValueError(f"Wrong IP address '{text}'", _network_advice(text) or advice) from None


def _network_advice(text: str) -> str:
    try:
        return f"did you mean '{ipaddress.ip_network(text, strict=False)}'?"
    except ValueError:
        return ""


NAMES = Kind(lambda text: _split(text, ",", read_text), ",".join, "names or ids with `,` between them", natives=(list,))
CLIENTS = Kind(
    lambda text: _split(text, ",", read_client),
    ",".join,
    "IP addresses and networks with `,` between them",
    natives=(list,),
)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Address(NamedTuple):
    """Where a pool listens: `kind` is "unix" with a path, or "tcp" with a port and a host, "" for every interface."""

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""

    def show(self) -> str:
        if self.kind == "unix":
            return self.path
        if not self.host:
            return str(self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """A bare port, host:port split at the last ':', [v6]:port, or the path of a unix socket."""
    if "," in read_text(text):
        raise ValueError(f"'{text}' is more than one address", "a pool listens on one address")
    if text.isascii() and text.isdigit():
        return Address("tcp", port=_read_port(text))
    # A colon makes it TCP, as in PHP-FPM; not after a slash, for no host name has one.
    if ":" not in text or "/" in text:
        return Address("unix", path=text)
    host, _, port = text.rpartition(":")
    if host.startswith("[") or host.endswith("]") or ":" in host:
        host = _read_ipv6(host, text)
    elif not re.fullmatch(r"[A-Za-z0-9._-]*", host):
        raise ValueError(f"'{host}' is not a host", "write host:port, or only the port for every interface")
    return Address("tcp", host=host, port=_read_port(port))


def _read_ipv6(host: str, whole: str) -> str:
    try:
        inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        ipaddress.IPv6Address(inner)
    except ValueError:
        raise ValueError(f"'{whole}' is not an address", "write an IPv6 address as [::1]:9000") from None
    return inner


def _read_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"invalid port value '{text}'", "write a port from 1 to 65535")
    return int(text)


def rebase_address(address: Address, base: str) -> Address:
    return Address("unix", path=join_path(base, address.path)) if address.kind == "unix" else address


ADDRESS = Kind(
    read_address,
    Address.show,
    "`host:port`, `[IPv6]:port`, a port, or the path of a unix socket",
    natives=(int,),
    rebase=rebase_address,
)
