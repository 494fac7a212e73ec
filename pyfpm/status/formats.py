"""Snapshots as text, HTML, XML, JSON or metrics: PHP-FPM's fields, names, types and order, then ours.

Runs in: whoever answers a status request, Python 3.9 and up.   Not pure: dates are in local time, as PHP-FPM's.
Fails by: nothing.

What is unknown is `unknown` in text, HTML and XML, `null` in JSON, and no sample at all in OpenMetrics. Those who read
PHP-FPM's pages take it: a missing number is skipped, and null is no type error to Go's and Python's JSON.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache

from pyfpm.status.headers import HTML, PLAIN
from pyfpm.status.markup import escape
from pyfpm.status.metrics import exposition
from pyfpm.status.snapshot import FIELDS, Process, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyfpm.facts import Step

    Value = str | int | float | None
    Writer = Callable[[Sequence[Snapshot], dict[str, str], bool], str]

UNKNOWN = "unknown"
DATE = "%d/%b/%Y:%H:%M:%S %z"
LIST = "processes"

# A field's name as PHP-FPM spells it; `request URI` has capitals in the text format alone.
_POOL = [(name, name.replace("_", " ")) for name in FIELDS]
_PROCESS = [(name, name.replace("_", " ")) for name in Process._fields]
_PROCESS_KEYS = [key for _, key in _PROCESS]
_TAGS = [name.replace("_", "-") for name in Process._fields]
# A thousand workers are shown in milliseconds, so a worker is one pattern and not a call for each value.
_START_TIME = Process._fields.index("start_time")
_VALUES = ["%.2f" if name == "last_request_cpu" else "%s" for name in Process._fields]
_PROCESS_LINES = "\n".join(_VALUES)
_TEXT_PROCESS = "\n".join(
    [f"{key.replace('uri', 'URI') + ':':21} {value}" for key, value in zip(_PROCESS_KEYS, _VALUES)]
)
_XML_PROCESS = "".join(["<process>", *[f"<{tag}>%s</{tag}>" for tag in _TAGS], "</process>"])
_DATES = ("start_time", "last_reload_time")


def is_full(query: str) -> bool:
    """Whether the workers are asked for; people want to see them."""
    keys = query.split("&")
    return "full" in keys or "html" in keys


def render(snapshots: Sequence[Snapshot], query: str, *, is_list: bool = False) -> tuple[str, bytes]:
    """(content type, body) for a query string; keys count whole, and in PHP-FPM's order of precedence.

    One pool looks as PHP-FPM's page does, unless one of a list (`is_list`) is what was asked for.
    """
    asked = _keys(query)
    for key, (kind, write) in _FORMATS.items():
        if key in asked:
            return kind, write(snapshots, asked, is_list or len(snapshots) != 1).encode("utf-8", "replace")
    if "openmetrics" in asked:
        return render_metrics(snapshots, query, is_openmetrics=True)
    text = "\n".join([_text(snapshot, "full" in asked) for snapshot in snapshots])
    return PLAIN, text.encode("utf-8", "replace")


def render_metrics(snapshots: Sequence[Snapshot], query: str, is_openmetrics: bool) -> tuple[str, bytes]:
    """(content type, body) as OpenMetrics, or in Prometheus' own older text format."""
    asked = _keys(query)
    kind = "application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain; version=0.0.4"
    text = exposition(snapshots, "full" in asked, asked.get("compat") == "phpfpm", is_openmetrics)
    return f"{kind}; charset=utf-8", text.encode("utf-8", "replace")


def _keys(query: str) -> dict[str, str]:
    return dict([part.partition("=")[::2] for part in query.split("&")])


def _text(snapshot: Snapshot, full: bool) -> str:
    lines = [_line(key, value) for _, key, value in _for_people(snapshot)]
    for process in snapshot.processes if full else ():
        lines += ["", "*" * 24, _TEXT_PROCESS % _row(process, True)]
    return "\n".join([*lines, ""])


def _line(key: str, value: str) -> str:
    return f"{key + ':':21} {value}"


def _html(snapshots: Sequence[Snapshot], asked: dict[str, str], is_list: bool) -> str:
    from pyfpm.status.dashboard import page  # it brings libcrypto along, and most who ask are programs

    del asked, is_list
    return page(snapshots)


def _xml(snapshots: Sequence[Snapshot], asked: dict[str, str], is_list: bool) -> str:
    pools = [line for snapshot in snapshots for line in _xml_pool(snapshot, "full" in asked)]
    return "\n".join(['<?xml version="1.0" ?>', *(["<pools>", *pools, "</pools>"] if is_list else pools), ""])


def _xml_pool(snapshot: Snapshot, full: bool) -> list[str]:
    lines = ["<status>", *[_element(name, _show(name, getattr(snapshot, name), False)) for name, _ in _POOL]]
    if full:
        lines.append(f"<{LIST}>")
        for process in snapshot.processes:
            lines.append(_XML_PROCESS % tuple(escape(_PROCESS_LINES % _row(process, False)).split("\n")))
        lines.append(f"</{LIST}>")
    return [*lines, "</status>"]


def _element(name: str, value: str) -> str:
    tag = name.replace("_", "-")
    return f"<{tag}>{escape(value)}</{tag}>"


def _json(snapshots: Sequence[Snapshot], asked: dict[str, str], is_list: bool) -> str:
    pools = [_json_pool(snapshot, asked) for snapshot in snapshots]
    return json.dumps({"pools": pools} if is_list else pools[0], separators=(",", ":"))


def _json_pool(snapshot: Snapshot, asked: dict[str, str]) -> dict[str, object]:
    members: dict[str, object] = {key: getattr(snapshot, name) for name, key in _POOL}
    if "history" in asked:
        members["history"] = [_past(step) for step in snapshot.history]
    if "full" in asked:
        members[LIST] = [dict(zip(_PROCESS_KEYS, process)) for process in snapshot.processes]
    return members


def _past(step: Step | None) -> list[float | None] | None:
    """[requests, queue, busy] of a step of the last ten minutes."""
    if step is None:
        return None
    return [step.requests, None if step.queue < 0 else step.queue, step.busy / 1e6]


def _for_people(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    return [(name, key, _show(name, getattr(snapshot, name), True)) for name, key in _POOL]


def _row(process: Process, dates: bool) -> tuple[Value, ...]:
    """A worker's values as its patterns take them."""
    values = [UNKNOWN if value is None else value for value in process]
    if dates:
        values[_START_TIME] = _date(process.start_time)
    return tuple(values)


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
_FORMATS: dict[str, tuple[str, Writer]] = {
    "html": (HTML, _html),
    "xml": ("text/xml;charset=UTF-8", _xml),
    "json": ("application/json", _json),
}
