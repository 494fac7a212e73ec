"""A snapshot as text, HTML, XML, JSON or OpenMetrics: PHP-FPM's fields, names, types and order, then ours.

Runs in: worker that answers a status request, Python 3.9 and up.   Not pure: dates are in local time, as PHP-FPM's.
Fails by: nothing.

What is unknown is `unknown` in text, HTML and XML, `null` in JSON, and no sample at all in OpenMetrics. Those who read
PHP-FPM's pages take it: a missing number is skipped, and null is no type error to Go's and Python's JSON.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache

from pyfpm.status.markup import escape
from pyfpm.status.metrics import openmetrics
from pyfpm.status.snapshot import FIELDS, Process, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Value = str | int | float | None

UNKNOWN = "unknown"
DATE = "%d/%b/%Y:%H:%M:%S %z"
LIST = "processes"

# A field's name as PHP-FPM spells it; `request URI` has capitals in the text format alone.
_POOL = [(name, name.replace("_", " ")) for name in FIELDS]
_PROCESS = [(name, name.replace("_", " ")) for name in Process._fields]
_PROCESS_KEYS = [key for _, key in _PROCESS]
_TAGS = [name.replace("_", "-") for name in Process._fields]
_XML_PROCESS = "".join(["<process>", *[f"<{tag}>%s</{tag}>" for tag in _TAGS], "</process>"])
_DATES = ("start_time", "last_reload_time")


def is_full(query: str) -> bool:
    """Whether the workers are asked for; people want to see them."""
    keys = query.split("&")
    return "full" in keys or "html" in keys


def render(snapshot: Snapshot, query: str) -> tuple[str, bytes]:
    """(content type, body) for a query string; keys count whole, and in PHP-FPM's order of precedence."""
    asked = dict([part.partition("=")[::2] for part in query.split("&")])
    full = is_full(query)
    for key, (kind, write) in _FORMATS.items():
        if key in asked:
            return kind, write(snapshot, full).encode("utf-8", "replace")
    if "openmetrics" in asked:
        text = openmetrics(snapshot, full, asked.get("compat") == "phpfpm")
        return "application/openmetrics-text; version=1.0.0; charset=utf-8", text.encode("utf-8", "replace")
    return "text/plain;charset=UTF-8", _text(snapshot, full).encode("utf-8", "replace")


def _text(snapshot: Snapshot, full: bool) -> str:
    lines = [_line(key, value) for _, key, value in _for_people(snapshot)]
    for process in snapshot.processes if full else ():
        lines += ["", "*" * 24]
        lines += [
            _line("request URI" if key == "request uri" else key, value)
            for key, value in zip(_PROCESS_KEYS, _values(process, True))
        ]
    return "\n".join([*lines, ""])


def _line(key: str, value: str) -> str:
    return f"{key + ':':21} {value}"


def _html(snapshot: Snapshot, full: bool) -> str:
    from pyfpm.status.dashboard import page  # it brings libcrypto along, and most who ask are programs

    del full
    return page([snapshot])


def _xml(snapshot: Snapshot, full: bool) -> str:
    lines = ['<?xml version="1.0" ?>', "<status>"]
    lines += [_element(name, _show(name, getattr(snapshot, name), False)) for name, _ in _POOL]
    if full:
        lines.append(f"<{LIST}>")
        for process in snapshot.processes:
            lines.append(_XML_PROCESS % tuple(escape("\n".join(_values(process, False))).split("\n")))
        lines.append(f"</{LIST}>")
    return "\n".join([*lines, "</status>", ""])


def _element(name: str, value: str) -> str:
    tag = name.replace("_", "-")
    return f"<{tag}>{escape(value)}</{tag}>"


def _json(snapshot: Snapshot, full: bool) -> str:
    members: dict[str, object] = {key: getattr(snapshot, name) for name, key in _POOL}
    if full:
        members[LIST] = [dict(zip(_PROCESS_KEYS, process)) for process in snapshot.processes]
    return json.dumps(members, separators=(",", ":"))


def _for_people(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    return [(name, key, _show(name, getattr(snapshot, name), True)) for name, key in _POOL]


def _values(process: Process, dates: bool) -> list[str]:
    return [_show(name, value, dates) for name, value in zip(Process._fields, process)]


def _show(name: str, value: Value, dates: bool) -> str:
    if type(value) is str:
        return value
    if value is None:
        return UNKNOWN
    if dates and name in _DATES:
        return _date(int(value))
    return f"{value:.2f}" if isinstance(value, float) else str(value)


@lru_cache(64)  # most workers were started together
def _date(seconds: int) -> str:
    return time.strftime(DATE, time.localtime(seconds))


# Precedence is by place, as in PHP-FPM; openmetrics comes behind them, and text last.
_FORMATS: dict[str, tuple[str, Callable[[Snapshot, bool], str]]] = {
    "html": ("text/html;charset=UTF-8", _html),
    "xml": ("text/xml;charset=UTF-8", _xml),
    "json": ("application/json", _json),
}
