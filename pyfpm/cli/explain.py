"""`pyfpm explain 417`: what a code of the error catalogue means, from docs/errors.md, which is packed beside this file.

Runs in: an operator's shell. It asks no master.
Fails by: exit code 64 for what is no code.
"""

from __future__ import annotations

import re
from importlib import resources

import click

from pyfpm.catalogue import Code

_CODE = re.compile(r"\[?(?:PYFPM-)?0*(\d{1,5})\]?", re.IGNORECASE)
_ENTRY = re.compile(r"^## (PYFPM-\d+)\n\n```\n(.*?)```\n\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^]]+)\]\([^)]*\)")


@click.command
@click.argument("codes", nargs=-1, metavar="[CODE]...")
def explain(codes: tuple[str, ...]) -> int:
    """Show cause and remedy of a code in the log, PYFPM-417 or 417; without one, list them all."""
    entries = read_page(resources.files(__package__).joinpath("errors.md").read_text(encoding="utf-8"))
    if not codes:
        for code, (lines, _) in entries.items():
            click.echo(f"{code}  {lines.splitlines()[0].strip()}")
        return 0
    found = [(code, *entries[code]) for code in map(read_code, codes) if code in entries]
    if len(found) < len(codes):
        raise click.UsageError("no such code; 'pyfpm explain' lists them")
    click.echo("\n\n".join(f"{code}\n\n{lines}\n{text}" for code, lines, text in found))
    return 0


def read_code(text: str) -> str:
    """The code that somebody means, as it stands in the log; "" for none."""
    found = _CODE.fullmatch(text.strip())
    return str(Code(int(found[1]))) if found else ""


def read_page(page: str) -> dict[str, tuple[str, str]]:
    """By code: the lines of the log, and the explanation, as plain text."""
    return {code: (_indented(lines), _plain(text)) for code, lines, text in _ENTRY.findall(page)}


def _indented(lines: str) -> str:
    return "".join(f"    {line}\n" for line in lines.splitlines())


def _plain(text: str) -> str:
    """Without what only Markdown needs; where a link leads is a document beside this one."""
    return _LINK.sub(r"\1", text).replace("**", "").replace("`", "").strip()
