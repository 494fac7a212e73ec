"""The last ten minutes of a pool as lines, in SVG, with words for those who cannot see it.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing.
"""

from __future__ import annotations

from pyfpm.facts import STEP
from pyfpm.status import amounts
from pyfpm.status.markup import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Optional

    from pyfpm.status.snapshot import Snapshot

    Values = Sequence[Optional[float]]

RECENT = 3  # steps: the newest may not be there yet
HEIGHT = 40
_ROOM = 2  # above and below, or half the line's width would be cut off


def traffic(pool: Snapshot) -> float | None:
    """Requests per second in the last step that is known."""
    return next((rate for rate in reversed(_rates(pool)[-RECENT:]) if rate is not None), None)


def traffic_line(pool: Snapshot) -> str:
    """Requests per second."""
    return sparkline("Requests per second", _rates(pool), amounts.rate, 1.0)


def queue_line(pool: Snapshot) -> str:
    """Connections that waited."""
    queues = [None if step is None or step.queue < 0 else step.queue for step in pool.history]
    return sparkline("Connections waiting", queues, amounts.count, 4.0)


def share_line(pool: Snapshot) -> str:
    """The share of workers at work, up to all."""
    shares = [None if step is None else min(max(step.busy / 1e6, 0.0), 1.0) for step in pool.history]
    return sparkline("Busy share", shares, amounts.share, 1.0)


def _rates(pool: Snapshot) -> list[float | None]:
    return [None if step is None else max(0, step.requests) / STEP for step in pool.history]


def sparkline(name: str, values: Values, show: Callable[[float | None], str], least: float) -> str:
    """An `<svg>` of `values`, oldest first, None where nothing is known; the top is `least` or what was more."""
    known = [value for value in values if value is not None]
    if not known:
        return f'<svg class="spark" role="img" aria-label="{escape(name)}: no history yet" viewBox="0 0 1 1"></svg>'
    top = max(least, *known)
    words = f"{name} in the last ten minutes: least {show(min(known))}, most {show(max(known))}, last {show(known[-1])}"
    lines = [[(x, round(HEIGHT - _ROOM - y / top * (HEIGHT - 2 * _ROOM), 1)) for x, y in run] for run in _runs(values)]
    line = "".join(["M" + "L".join([f"{x} {y}" for x, y in run]) for run in lines])
    area = "".join([_area(run) for run in lines])
    return (
        f'<svg class="spark" role="img" aria-label="{escape(words)}" viewBox="0 0 {len(values) - 1} {HEIGHT}" '
        f'preserveAspectRatio="none"><path class="area" d="{area}"/><path class="line" d="{line}"/></svg>'
    )


def _runs(values: Values) -> list[list[tuple[int, float]]]:
    """Stretches without a gap, each as (place, value); one value alone is drawn as a short stretch."""
    found: list[list[tuple[int, float]]] = []
    fresh = True
    for place, value in enumerate(values):
        if value is None:
            fresh = True
            continue
        if fresh:
            found.append([(max(0, place - 1), value)])
            fresh = False
        found[-1].append((place, value))
    return found


def _area(run: list[tuple[int, float]]) -> str:
    line = "L".join([f"{x} {y}" for x, y in run])
    return f"M{run[0][0]} {HEIGHT}L{line}L{run[-1][0]} {HEIGHT}Z"
