"""`pyfpm top` on a screen: draw, obey the keys, look again.

Runs in: an operator's terminal.
Fails by: nothing; whatever ends it (a key, Ctrl-C, TERM, a fault) the terminal is as it was before.

What is drawn is decided in cli/screen.py, what a key does in cli/steering.py; here is what has effects.
"""

from __future__ import annotations

import contextlib
import curses
import locale
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pyfpm.cli.screen import Style, render
from pyfpm.cli.steering import Steering, Wish, chosen, hold_selection, press

if TYPE_CHECKING:
    from pyfpm.cli.watching import Watcher

FIRST_INTERVAL = 0.5  # a second look soon: there are no rates before it
ESCAPE_DELAY = 50  # milliseconds: what follows later is no part of the key's sequence
_KEYS = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left", curses.KEY_PPAGE: "page up",
    curses.KEY_NPAGE: "page down", curses.KEY_HOME: "home", curses.KEY_END: "end", curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace", curses.KEY_RESIZE: "resize",
}  # fmt: skip
_CHARACTERS = {"\n": "enter", "\r": "enter", "\t": "tab", "\x1b": "escape", "\x7f": "backspace", "\b": "backspace"}
_COLOURS = {Style.TROUBLE: curses.COLOR_RED, Style.SLOW: curses.COLOR_YELLOW}


def can_draw() -> bool:
    """Whether there is a terminal at both ends, of a kind in which a place can be written to."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    locale.setlocale(locale.LC_ALL, "")  # or curses knows no character beyond ASCII
    try:
        curses.setupterm()
    except curses.error:
        return False
    return bool(curses.tigetstr("cup"))


def show_looks(watcher: Watcher, interval: float, iterations: int | None) -> None:
    """Until somebody wants to leave, or so many looks have been shown."""
    with _leaving_properly(), _drawing() as screen:
        Display(screen, watcher, Steering(interval), iterations).run()


class Display:
    """The screen and the keyboard."""

    def __init__(self, screen: curses.window, watcher: Watcher, steering: Steering, iterations: int | None) -> None:
        self._screen = screen
        self._watcher = watcher
        self._steering = steering
        self._left = iterations
        self._looked = time.monotonic() - steering.interval + FIRST_INTERVAL
        self._attributes = _attributes()

    def run(self) -> None:
        while True:
            self._draw()
            wish = self._hear()
            if wish is Wish.LEAVE:
                return
            if wish is Wish.STACKS and self._steering.selected is not None:
                lines = self._watcher.stacks(self._steering.selected)
                self._steering = replace(self._steering, stacks=lines, scroll=0)
            if wish is Wish.LOOK or self._is_due():
                self._watcher.look()
                self._looked = time.monotonic()
                if self._left is not None:
                    self._left -= 1
                    if not self._left:
                        return

    def _is_due(self) -> bool:
        return not self._steering.paused and time.monotonic() >= self._looked + self._steering.interval

    def _draw(self) -> None:
        picture = self._watcher.picture
        self._steering = hold_selection(self._steering, chosen(picture, self._steering))
        height, width = self._screen.getmaxyx()
        self._screen.erase()
        for number, line in enumerate(render(picture, self._steering, width, height)):
            with contextlib.suppress(curses.error):  # the cell at the lower right is written, and then there is no next
                self._screen.addstr(number, 0, self._encodable(line.text), self._attributes[line.style])
        self._screen.refresh()

    def _encodable(self, text: str) -> str:
        encoding = self._screen.encoding
        return text.encode(encoding, "replace").decode(encoding)

    def _hear(self) -> Wish:
        """The next key, if one comes before it is time to look."""
        wait = self._looked + self._steering.interval - time.monotonic()
        self._screen.timeout(-1 if self._steering.paused else max(0, int(wait * 1000) + 1))
        try:
            pressed = self._screen.get_wch()
        except curses.error:  # none
            return Wish.NOTHING
        key = _KEYS.get(pressed, "") if isinstance(pressed, int) else _CHARACTERS.get(pressed, pressed)
        self._steering, wish = press(self._steering, key, self._watcher.picture)
        return wish


def _attributes() -> dict[Style, int]:
    """How this terminal shows each style."""
    shown = {
        Style.PLAIN: curses.A_NORMAL,
        Style.TITLE: curses.A_BOLD,
        Style.HEAD: curses.A_UNDERLINE,
        Style.SELECTED: curses.A_REVERSE,
        Style.TROUBLE: curses.A_BOLD,
        Style.SLOW: curses.A_BOLD,
        Style.QUIET: curses.A_DIM,
    }
    if os.environ.get("NO_COLOR") or not curses.has_colors():
        return shown
    curses.start_color()
    curses.use_default_colors()
    for number, (style, colour) in enumerate(_COLOURS.items(), 1):
        curses.init_pair(number, colour, -1)
        shown[style] |= curses.color_pair(number)
    return shown


@contextlib.contextmanager
def _drawing() -> Iterator[curses.window]:
    """The terminal as a screen, and then as it was. Not curses.wrapper: that paints all in white on black."""
    screen = curses.initscr()
    try:
        curses.noecho()
        curses.cbreak()
        screen.keypad(True)
        curses.set_escdelay(ESCAPE_DELAY)
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        yield screen
    finally:
        screen.keypad(False)
        curses.echo()
        curses.nocbreak()
        with contextlib.suppress(curses.error):
            curses.curs_set(1)
        curses.endwin()


@contextlib.contextmanager
def _leaving_properly() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as an exception does, so that the terminal is given back."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
