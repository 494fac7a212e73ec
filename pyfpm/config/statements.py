"""What a configuration file says, whichever its language: sections, and assignments within them.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

from typing import NamedTuple

# INI only has text. What TOML says with a type keeps it, so that `app = 5` can be refused.
Raw = str | int | float | bool | list[str]


class Section(NamedTuple):
    """From here on, assignments are for this pool, or for `global`."""

    name: str
    where: str


class Assignment(NamedTuple):
    """`name = value`; `key` is what stood in brackets after the name, "" for `[]` and None without brackets."""

    name: str
    key: str | None
    value: Raw
    where: str


Statement = Section | Assignment
