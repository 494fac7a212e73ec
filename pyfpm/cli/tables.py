"""Rows in columns, as wide as their content; and as many of the columns as a terminal has room for.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing. Whatever stands in a cell is made fit for a terminal here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from pyfpm.cli.units import fit, width_of
from pyfpm.status.reports import printable

_GAP = 2
Row = TypeVar("Row")


class Column(NamedTuple, Generic[Row]):
    """A head and what stands below it. Where room is short, the columns of the highest `rank` go first.

    `least` cells are its own, so that a table that is drawn again and again stands still; of the last column only if it
    has so much to say.
    """

    head: str
    cell: Callable[[Row], str]
    is_text: bool = False  # text begins at the left, a number ends at the right
    rank: int = 0
    least: int = 0


def lay_out(columns: Sequence[Column[Row]], rows: Sequence[Row], room: int | None = None) -> list[str]:
    """The lines of a table, its head first. The last column gets what the others leave, and is cut there."""
    cells = [[column.head, *(printable(column.cell(row)) for row in rows)] for column in columns]
    widths = [max(column.least, *map(width_of, texts)) for column, texts in zip(columns, cells, strict=True)]
    widths[-1] = max(map(width_of, cells[-1]))
    kept = _choose(columns, widths, room)
    lines = []
    for number in range(len(rows) + 1):
        parts = [_pad(cells[index][number], widths[index], columns[index].is_text) for index in kept]
        line = (" " * _GAP).join(parts).rstrip()
        lines.append(line if room is None else fit(line, room))
    return lines


def _choose(columns: Sequence[Column[Row]], widths: Sequence[int], room: int | None) -> list[int]:
    """The indexes of the columns that there is room for."""
    kept = list(range(len(columns)))
    if room is None:
        return kept
    needed = [*widths[:-1], min(widths[-1], columns[-1].least)]
    while sum(needed[index] + _GAP for index in kept) - _GAP > room:
        worst = max(kept, key=lambda index: columns[index].rank)
        if not columns[worst].rank:
            break
        kept.remove(worst)
    return kept


def _pad(text: str, width: int, is_text: bool) -> str:
    space = " " * (width - width_of(text))
    return text + space if is_text else space + text
