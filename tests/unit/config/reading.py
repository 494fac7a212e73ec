"""Configurations from text, for the tests of config/."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from pyfpm.config.load import load
from pyfpm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyfpm.config.directives import Configuration, PoolSettings

GOOD_POOL = """
app = mysite.wsgi:application
listen = 9000
pm = static
pm.max_children = 2
"""


class Folder:
    """A folder of configuration files; messages are seen with the folder's own path taken out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def load(
        self,
        name: str,
        *,
        prefix: str | None = None,
        environ: Mapping[str, str] | None = None,
        as_root: bool = False,
    ) -> Configuration:
        return load(str(self.path / name), prefix=prefix, environ=environ or {}, as_root=as_root)

    def read(self, text: str, name: str = "pyfpm.conf", environ: Mapping[str, str] | None = None) -> Configuration:
        self.write(name, text)
        return self.load(name, environ=environ)

    def pool(self, text: str, environ: Mapping[str, str] | None = None) -> PoolSettings:
        """The pool [www] of a good configuration with these lines added."""
        return self.read(f"[www]\n{GOOD_POOL}\n{textwrap.dedent(text)}", environ=environ).pools[0]

    def complaint(self, text: str, name: str = "pyfpm.conf") -> str:
        """All that is said against a configuration."""
        with pytest.raises(ConfigError) as caught:
            self.read(text, name)
        return str(caught.value).replace(f"{self.path}/", "")
