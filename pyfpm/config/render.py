"""The table printed: what -tt shows, docs/configuration.md, the man page, and the sample files of conf/.

Runs in: master (dump), or a developer's shell (`python -m pyfpm.config.render` writes every generated file).
Fails by: OSError when a file cannot be written.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from pyfpm.config import prose
from pyfpm.config.directive import Directive, Origin, Settings, Shape, directives_of
from pyfpm.config.directives import GLOBAL_SECTION, INCLUDE, GlobalSettings, PoolSettings
from pyfpm.config.values import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.config.directives import Configuration

SAMPLE_POOL = "www"
_WIDTH = 118


# ── what -tt shows ──────────────────────────────────────────────────────────────────────────────────────────────────


def dump(configuration: Configuration) -> list[str]:
    """The configuration as it is in force, in PHP-FPM's form: one line of the log each."""
    lines = [f"[{GLOBAL_SECTION}]", *_dump_section(configuration.global_), ""]
    for pool in configuration.pools:
        lines += [f"[{pool.name}]", *_dump_section(pool), ""]
    return lines


def _dump_section(settings: Settings) -> list[str]:
    return [f"\t{line}" for row in directives_of(type(settings)) for line in _dump_row(row, settings)]


def _dump_row(row: Directive, settings: Settings) -> list[str]:
    value = getattr(settings, row.attribute)
    if row.shape is Shape.KEYED:
        return [f"{row.spelled(key)} = {show(row.kind, item)}" for key, item in value.items()]
    if row.shape is Shape.LIST:
        return [f"{row.spelled()} = {show(row.kind, item)}" for item in value]
    return [f"{row.name} = {show(row.kind, value)}"]


# ── docs/configuration.md ───────────────────────────────────────────────────────────────────────────────────────────


def default_words(row: Directive) -> str:
    """The default as the documents say it."""
    if row.is_mandatory:
        return "none: it must be set"
    return row.default_words or f"`{show(row.kind, row.default)}`"


def reference() -> str:
    """The whole of docs/configuration.md."""
    return "\n".join(
        [
            prose.REFERENCE_HEAD,
            *_reference_section("The section [global]", GlobalSettings),
            *_reference_row(INCLUDE),
            *_reference_section("Pools", PoolSettings),
        ]
    )


def _reference_section(title: str, settings: type[Settings]) -> list[str]:
    lines = [f"## {title}", ""]
    for row in directives_of(settings):
        lines += _reference_row(row)
    return lines


def _reference_row(row: Directive) -> list[str]:
    origin = " (pyfpm's own)" if row.origin is Origin.OWN else ""
    lines = [f"### {row.spelled()}{origin}", "", row.doc, ""]
    lines.append(f"- Value: {row.kind.words}")
    if row is not INCLUDE:
        lines.append(f"- Default: {default_words(row)}")
    if row.differs:
        lines.append(f"- Differs from PHP-FPM: {row.differs}")
    if row.example:
        lines.append(f"- Example: `{row.spelled()} = {row.example}`")
    return [*lines, ""]


# ── conf/ ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def sample_daemon() -> str:
    """The whole of conf/pyfpm.conf."""
    return "\n".join(
        [
            *_commented(prose.SAMPLE_DAEMON_HEAD),
            "",
            f"[{GLOBAL_SECTION}]",
            "",
            *[line for row in (*directives_of(GlobalSettings), INCLUDE) for line in _sample_row(row)],
        ]
    )


def sample_pool() -> str:
    """The whole of conf/pyfpm.d/www.conf."""
    return "\n".join(
        [
            *_commented(prose.SAMPLE_POOL_HEAD),
            "",
            f"[{SAMPLE_POOL}]",
            "",
            *[line for row in directives_of(PoolSettings) for line in _sample_row(row)],
        ]
    )


def _sample_row(row: Directive) -> list[str]:
    text = row.doc
    if not row.is_mandatory and row is not INCLUDE:
        text += f" Default: {default_words(row)}."
    value = row.sample or row.example or show(row.kind, row.default)
    comment = "" if row.sample else ";"
    return [*_commented(text.replace("`", "")), f"{comment}{row.spelled()} = {value}", ""]


def _commented(text: str) -> list[str]:
    paragraphs = text.strip("\n").split("\n")
    return [f"; {line}".rstrip() for part in paragraphs for line in (textwrap.wrap(part, _WIDTH - 2) or [""])]


# ── roff ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def man() -> str:
    """The whole of docs/man/pyfpm.8."""
    sections = [
        ("Directives of the daemon", (*directives_of(GlobalSettings), INCLUDE)),
        ("Directives of a pool", directives_of(PoolSettings)),
    ]
    lines = [prose.MAN_HEAD.strip("\n")]
    for title, rows in sections:
        lines += [f".Ss {title}", ".Bl -tag -width Ds", *[line for row in rows for line in _man_row(row)], ".El"]
    return "\n".join([*lines, prose.MAN_TAIL.strip("\n"), ""])


def _man_row(row: Directive) -> list[str]:
    lines = [f".It Ic {row.spelled()}", *_man_text(row.doc), *_man_text(f"Value: {row.kind.words}.")]
    if row is not INCLUDE:
        lines += _man_text(f"Default: {default_words(row)}.")
    if row.differs:
        lines += _man_text(f"Differs from PHP-FPM: {row.differs}")
    return lines


def _man_text(text: str) -> list[str]:
    """Plain lines for roff: short, each sentence on its own, and none that a formatter takes for a command."""
    plain = text.replace("\\", "\\e").replace("`", "").replace("…", "...")
    sentences = re.split(r"(?<=\.) (?=[A-Z])", plain)
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, 78, break_on_hyphens=False)]
    return [f"\\&{line}" if line[0] in ".'" else line for line in lines]


# ── all of them ─────────────────────────────────────────────────────────────────────────────────────────────────────

GENERATED: dict[str, Callable[[], str]] = {
    "docs/configuration.md": reference,
    "docs/man/pyfpm.8": man,
    "conf/pyfpm.conf": sample_daemon,
    "conf/pyfpm.d/www.conf": sample_pool,
}


def write_all(root: Path) -> None:
    """Write every generated file below the root of the project."""
    for name, text in GENERATED.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write_all(Path(__file__).resolve().parents[2])
