"""`pyfpm top` without its screen: look again and again, and keep the last picture; print it as text.

Runs in: an operator's shell.
Fails by: nothing once it watches: a master that goes away is waited for, and it is said why there is nothing new.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pyfpm.cli.picture import Picture, compose
from pyfpm.cli.processes import read_stat
from pyfpm.cli.screen import POOL_COLUMNS, WORKER_COLUMNS
from pyfpm.cli.speech import ask_stacks, ask_status, room
from pyfpm.cli.stacks import show_all
from pyfpm.cli.steering import Steering, chosen
from pyfpm.cli.tables import lay_out
from pyfpm.errors import NoMaster
from pyfpm.status.reports import printable

if TYPE_CHECKING:
    from pyfpm.cli.options import Options

PATIENCE = 3.0  # seconds of the master's silence, while somebody looks at the screen


class Watcher:
    """Asks the master, and keeps the last picture. While there is no answer that says why."""

    def __init__(self, options: Options, pools: tuple[str, ...]) -> None:
        self.picture = Picture()
        self.error: NoMaster | None = None
        self._options = options
        self._pools = pools

    def look(self) -> None:
        try:
            master, pools, workers = ask_status(self._options, self._pools, full=True, silence=PATIENCE)
        except NoMaster as error:
            self.error = error
            self.picture = replace(self.picture, fault=f"{error}; what is below is from before")
            return
        self.error = None
        stats = {}
        for worker in workers:
            stat = read_stat(worker.pid)
            if stat is not None and stat.parent == master:  # in another namespace the pid means another process
                stats[worker.pid] = stat
        self.picture = compose(self.picture, time.monotonic(), master, pools, workers, stats)

    def stacks(self, pid: int) -> tuple[str, ...]:
        try:
            return tuple(show_all(ask_stacks(self._options, (str(pid),), silence=PATIENCE)))
        except NoMaster as error:
            return (str(error),)


def print_looks(watcher: Watcher, interval: float, iterations: int | None) -> None:
    """The pools and the workers that are at work, as text, one look after the other."""
    steering = Steering()
    while True:
        picture = watcher.picture
        busy = [one for one in chosen(picture, steering) if one.report.is_busy]
        if watcher.error is not None:
            lines = [time.strftime("%H:%M:%S"), str(watcher.error)]
        else:
            lines = [time.strftime("%H:%M:%S"), *lay_out(POOL_COLUMNS, picture.pools, room()), ""]
            lines += lay_out(WORKER_COLUMNS, busy, room()) if busy else ["no worker is busy"]
        for line in (*lines, ""):
            click.echo(printable(line))
        if iterations is not None:
            iterations -= 1
            if not iterations:
                return
        time.sleep(interval)
        watcher.look()
