"""On which line each key of a TOML document stands: tomllib does not tell.

Runs in: master, as root; a command, to find it.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at: the text has been read by tomllib, and a key that is not found has no line.

It is a scanner, not a parser: it only keeps apart strings, brackets and keys, in a text known to be right.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str, ...]

_TOKEN = re.compile(
    r"""
      (?P<skip>    [ \t]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<string>  \"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<mark>    [\[\]{}=,.] )
    | (?P<word>    [^\s\[\]{}=,.\#"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """The line of every table and key, by its path: ("pool", "www", "listen", "mode")."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.tokens = [(found.lastgroup, found[0]) for found in _TOKEN.finditer(text)]
        self.position = 0
        self.line = 1
        self.lines: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while (token := self._peek()) is not None:
            if token[0] == "newline":
                self._next()
            elif token[1] == "[":
                table = self._read_key()
                self._remember((), table)
                self._skip_line()
            else:
                self._read_pair(table)
        return self.lines

    def _peek(self) -> tuple[str | None, str] | None:
        """The next token that is neither blank nor a comment."""
        while self.position < len(self.tokens) and self.tokens[self.position][0] == "skip":
            self.position += 1
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _next(self) -> str:
        token = self._peek()
        self.position += 1
        text = token[1] if token else ""
        self.line += text.count("\n")
        return text

    def _remember(self, above: Path, key: Path) -> None:
        for length in range(1, len(key) + 1):
            self.lines.setdefault((*above, *key[:length]), self.line)

    def _read_key(self) -> Path:
        """The parts of a key, up to its `=` or the `]` of a header, which stays."""
        parts = []
        while (token := self._peek()) is not None and token[1] not in ("=", "]", "\n"):
            text = self._next()
            if token[0] == "string":
                parts.append(tomllib.loads(f"k = {text}")["k"])
            elif token[0] == "word":
                parts.append(text)
        return tuple(parts)

    def _read_pair(self, table: Path) -> None:
        key = self._read_key()
        self._remember(table, key)
        self._next()  # the equals sign
        self._read_value((*table, *key))

    def _read_value(self, path: Path) -> None:
        token = self._peek()
        if token is not None and token[1] == "{":
            self._read_inline_table(path)
        elif token is not None and token[1] == "[":
            self._skip_list()
        else:
            while (token := self._peek()) is not None and token[1] not in (",", "}", "\n"):
                self._next()

    def _read_inline_table(self, path: Path) -> None:
        self._next()
        while (token := self._peek()) is not None and token[1] != "}":
            if token[1] in (",", "\n"):
                self._next()
            else:
                self._read_pair(path)
        self._next()

    def _skip_list(self) -> None:
        """Past a list, with all that is nested in it."""
        depth = 0
        while self._peek() is not None:
            text = self._next()
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(text, 0)
            if depth == 0:
                return

    def _skip_line(self) -> None:
        while (token := self._peek()) is not None and token[0] != "newline":
            self._next()
