"""`pyfpm top`: watch the running daemon, on the screen or line by line, and change nothing.

Runs in: an operator's shell.
Fails by: the exit code, with the reason on stderr, as the verbs of cli/verbs.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import click

from pyfpm.cli.options import Options
from pyfpm.cli.speech import POOLS, verb
from pyfpm.cli.steering import INTERVALS
from pyfpm.cli.watching import Watcher, print_looks


@verb
@POOLS
@click.option(
    "--interval",
    type=click.FloatRange(min=INTERVALS[0]),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Look so often.",
)
@click.option("-n", "--iterations", type=click.IntRange(min=1), metavar="N", help="Look so many times, then leave.")
@click.option("--plain", is_flag=True, help="Print text, one look after the other; so too where no terminal is.")
def top(options: Options, pools: tuple[str, ...], interval: float, iterations: int | None, plain: bool) -> int:
    """Watch pools and workers, live; ? shows the keys."""
    watcher = Watcher(options, pools)
    watcher.look()
    if watcher.error is not None:  # wrong from the beginning: there is nothing to wait for
        raise watcher.error
    with contextlib.suppress(KeyboardInterrupt):
        (print_looks if plain else _way_to_show())(watcher, interval, iterations)
    return 0


def _way_to_show() -> Callable[[Watcher, float, int | None], None]:
    """On the screen if there is one."""
    try:
        from pyfpm.cli import display
    except ImportError:  # a Python that was built without curses
        return print_looks
    return display.show_looks if display.can_draw() else print_looks
