"""Text that others chose, made fit for one line of a log and for a terminal.

Runs in: master; tests.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; every text has an escaped form.
"""

from __future__ import annotations

# \xNN always names a byte. C0 but tab, which harms nobody, and DEL:
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)}
# C1, two bytes each in UTF-8: U+009B starts a terminal command just as ESC [ does.
_C1 = {code: f"\\xc2\\x{code:02x}" for code in range(128, 160)}
# Bytes that were no UTF-8, as "surrogateescape" hands them over.
_UNDECODED = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(128, 256)}
_LINE = {**_CONTROL, **_C1, **_UNDECODED}
_QUOTED = {**_LINE, ord('"'): '\\"', ord("\\"): "\\\\"}
# JSON has no \xNN: a control character keeps its number; a byte that was no text reads as \xNN once decoded.
_JSON = {
    **{code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160))},
    **{code: "\\" + shown for code, shown in _UNDECODED.items()},
    ord("\n"): "\\n",
    ord("\t"): "\\t",
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}
_ESCAPE_LENGTHS = {b"x": 4, b"u": 6}


def escape_line(text: str) -> bytes:
    """For a line of ours: control characters become \\xNN; the text can neither end the line nor drive a terminal."""
    return text.translate(_LINE).encode("utf-8", "backslashreplace")


def escape_quoted(text: str) -> bytes:
    """For text between quotes: the same, and quotes and backslashes get a backslash, so it can be read back."""
    return text.translate(_QUOTED).encode("utf-8", "backslashreplace")


def escape_end(text: str) -> bytes:
    """The bytes as they came, but for NUL, which ends a line for the journal: what follows would begin one."""
    return text.replace("\0", "\\x00").encode("utf-8", "surrogateescape")


def escape_json(text: str) -> bytes:
    """The inside of a JSON string, in UTF-8."""
    return text.translate(_JSON).encode("utf-8", "replace")  # a lone surrogate is no text; some parsers refuse it


def escape_journal_json(text: str) -> bytes:
    """The same without "<": the journal breaks a line at 48 KiB (LineMax=), and <0> after that would be a priority."""
    return escape_json(text).replace(b"<", rb"\u003c")


def cut(text: bytes, room: int) -> int:
    """Where to cut escaped text so that the piece has at most `room` bytes and no character or escape is torn."""
    if len(text) <= room:
        return len(text)
    end = room
    while end > room - 4 and text[end] & 0xC0 == 0x80:  # in the midst of a UTF-8 character
        end -= 1
    slash = text.rfind(b"\\", max(0, end - 5), end)
    if slash >= 0 and _starts_escape(text, slash):
        length = _ESCAPE_LENGTHS.get(text[slash + 1 : slash + 2], 2)
        if slash + length > end:
            return slash
    return end


def _starts_escape(text: bytes, slash: int) -> bool:
    # In a row of backslashes every other one is the second half of a pair.
    before = slash - len(text[:slash].rstrip(b"\\"))
    return before % 2 == 0
