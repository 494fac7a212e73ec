"""How a verb is made, and what all of them say in the same words.

Runs in: an operator's shell.
Fails by: NoMaster, which a verb tells on stderr and by its exit code.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

from pyfpm.cli.client import Master, Whereabouts, find_master, find_whereabouts
from pyfpm.cli.options import Options
from pyfpm.errors import EXIT_LATER, MessageError, NoMaster
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.messages import Verb, Verdict
from pyfpm.status.reports import PoolReport, StackReport, WorkerReport, printable, read_stack, read_status

QUICK = 10.0  # seconds of the master's silence over what takes it no time
# The user of a pool may not ask one question right after the other; whoever types two need not know that.
ASK_AGAIN = 0.1  # seconds
BUSY = 2.0  # seconds of "later"

POOLS = click.argument("pools", nargs=-1, metavar="[POOL]...")


def verb(life: Callable[..., int]) -> click.Command:
    """A command of this name whose function gets the options of `pyfpm` and fails by NoMaster."""

    @click.pass_obj
    @functools.wraps(life)
    def run(options: Options, /, **arguments: object) -> int:
        try:
            return life(options, **arguments)
        except NoMaster as error:
            complain(str(error))
            return error.exit_code

    return click.command(life.__name__)(run)


def say(text: str) -> None:
    # The master quotes applications, and configuration files: nothing of it must reach the terminal as a command.
    for line in text.split("\n"):
        click.echo(printable(line))


def complain(text: str) -> None:
    for line in text.split("\n"):
        click.echo(f"pyfpm: {printable(line)}", err=True)


def room() -> int | None:
    """How many columns the terminal has; None if what is said goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def deaf(master: Master, where: Whereabouts) -> str:
    place = f" at {where.control_path}" if where.control_path else ""
    return f"the master, pid {master.pid}, has no control socket{place}"


class Answer(NamedTuple):
    """What the master, whose pid it is, has answered: lines, and a last word."""

    pid: int
    lines: list[str]
    text: str


def ask(options: Options, verb: Verb, pools: tuple[str, ...], *, full: bool = False, silence: float = QUICK) -> Answer:
    """Ask what changes nothing; again if the master says "later". NoMaster, with the master's code, if it refuses."""
    give_up = time.monotonic() + BUSY
    while True:
        pid, lines, verdict = _ask_once(options, verb, pools, full, silence)
        if not verdict.code:
            return Answer(pid, lines, verdict.text)
        if verdict.code != EXIT_LATER or time.monotonic() >= give_up:
            raise NoMaster(verdict.text, verdict.code)
        time.sleep(ASK_AGAIN)


def _ask_once(
    options: Options, verb: Verb, pools: tuple[str, ...], full: bool, silence: float
) -> tuple[int, list[str], Verdict]:
    where = find_whereabouts(options)
    with find_master(where) as master:
        if master.channel is None:
            raise NoMaster(f"{deaf(master, where)}, so all that is known is that it runs")
        answers: list[str] = []
        verdict = master.ask(verb, pools=pools, full=full, silence=silence, on_progress=answers.append)
        if verdict is None:
            raise NoMaster(f"the master, pid {master.pid}, has hung up", EXIT_LATER)
        return master.pid, [line for line in "\n".join(answers).split("\n") if line], verdict


def ask_status(
    options: Options, pools: tuple[str, ...], *, full: bool = False, silence: float = QUICK
) -> tuple[int, list[PoolReport], list[WorkerReport]]:
    """The master's pid, how the pools are, and if it is to be `full` the workers."""
    answer = ask(options, Verb.STATUS, pools, full=full, silence=silence)
    with _believing():
        return answer.pid, *read_status(answer.lines)


def ask_stacks(
    options: Options, which: tuple[str, ...], *, idle: bool = False, silence: float = QUICK
) -> list[StackReport]:
    """The stacks of the workers of pools, or with these pids."""
    answer = ask(options, Verb.STACK, which, full=idle, silence=silence)
    with _believing():
        return [read_stack(line) for line in answer.lines]


@contextlib.contextmanager
def _believing() -> Iterator[None]:
    try:
        yield
    except MessageError as error:
        raise NoMaster(str(error), EXIT_INTERNAL) from error
