"""`pyfpm stop`, `reload`, `status` …: tell the running master what to do, wait until it has, and say how it went.

Runs in: an operator's shell, a deploy script, ExecReload of systemd, logrotate.
Fails by: the exit code, with the reason on stderr: the master's verdict (64, 70, 75, 77, 78, or 1), 69 when no master
runs, 77 where the master may not be reached, 75 when it says nothing any more.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable

import click

from pyfpm.cli.client import LAST_MOMENTS, Master, Whereabouts, find_master, find_whereabouts, running_pid
from pyfpm.cli.daemon import Options, read_configuration, refuse
from pyfpm.cli.daemon import start as start_daemon
from pyfpm.errors import EXIT_LATER, EXIT_NOT_PERMITTED, EXIT_UNAVAILABLE, ConfigError, MessageError, NoMaster
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.logs.error_log import ErrorLog
from pyfpm.messages import Verb
from pyfpm.status.reports import PoolReport, printable, read_report, table

PATIENCE = 900.0  # seconds of the master's silence; its own limits for each step are shorter, unless raised very far
QUICK = 30.0  # the same for what takes the master no time

POOLS = click.argument("pools", nargs=-1, metavar="[POOL]...")
PATIENTLY = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=PATIENCE,
    show_default=True,
    metavar="SECONDS",
    help="Give up waiting when the master has said nothing for so long.",
)


def _verb(life: Callable[..., int]) -> click.Command:
    """A command of this name whose function gets the options of `pyfpm` and fails by NoMaster."""

    @click.pass_obj
    @functools.wraps(life)
    def run(options: Options, /, **arguments: object) -> int:
        try:
            return life(options, **arguments)
        except NoMaster as error:
            _complain(str(error))
            return error.exit_code

    return click.command(life.__name__)(run)


def _say(text: str) -> None:
    # The master quotes applications, and configuration files: nothing of it must reach the terminal as a command.
    for line in text.split("\n"):
        click.echo(printable(line))


def _complain(text: str) -> None:
    for line in text.split("\n"):
        click.echo(f"pyfpm: {printable(line)}", err=True)


# ── start and stop ──────────────────────────────────────────────────────────────────────────────────────────────────


@_verb
def start(options: Options) -> int:
    """Start the daemon in the background, and wait until it serves."""
    try:
        with find_master(find_whereabouts(options)) as master:
            _say(f"pyfpm is running already, pid {master.pid}")
            return 0
    except NoMaster as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
    return _start(options)


def _start(options: Options, *, before: Callable[[], int] = lambda: 0) -> int:
    """Start it if the configuration is good, and if what has to come `before` went well."""
    log = ErrorLog(clock=time.time)
    try:
        configuration = read_configuration(options, log)
    except ConfigError as error:
        return refuse(error.problems, options, log)
    return before() or start_daemon(configuration, options.in_background(), log)


@_verb
def stop(options: Options) -> int:
    """Stop the daemon now; requests in hand are cut off."""
    return _end(options, Verb.STOP, signal.SIGTERM)


@_verb
def quit(options: Options) -> int:
    """Stop the daemon when the requests in hand are done."""
    return _end(options, Verb.QUIT, signal.SIGQUIT)


def _end(options: Options, verb: Verb, number: signal.Signals) -> int:
    where = find_whereabouts(options)
    with find_master(where) as master:
        if master.channel is None:
            _signal(master, where, number)
            master.wait_gone()
        else:
            verdict = master.ask(verb, on_progress=_say)
            if verdict is not None and verdict.code:
                _complain(verdict.text)
                return verdict.code
            if not master.wait_gone(LAST_MOMENTS):
                _complain(f"pid {master.pid} has hung up without a word and still runs")
                return EXIT_INTERNAL
        _say(f"stopped, pid {master.pid}")
        return 0


@_verb
@POOLS
@PATIENTLY
def restart(options: Options, pools: tuple[str, ...], timeout: float) -> int:
    """Stop the daemon gracefully and start it again; with POOLs, start these pools' workers anew, without a gap."""
    if pools:
        return _ask(options, Verb.RESTART, pools=pools, silence=timeout)
    pid = running_pid(find_whereabouts(options))
    if pid is not None and os.geteuid() not in (0, os.stat(f"/proc/{pid}").st_uid):
        _complain("only root and the master's user can restart the daemon; name your pools: pyfpm restart POOL")
        return EXIT_NOT_PERMITTED
    # Nothing is stopped that could not be started again.
    return _start(options, before=lambda: _quit_if_running(options))


def _quit_if_running(options: Options) -> int:
    try:
        return _end(options, Verb.QUIT, signal.SIGQUIT)
    except NoMaster as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
        _say(str(error))
        return 0


# ── what goes on while it runs ──────────────────────────────────────────────────────────────────────────────────────


@_verb
@POOLS
@click.option("--all", "everything", is_flag=True, help="Every pool, whether it has changed or not.")
@PATIENTLY
def reload(options: Options, pools: tuple[str, ...], everything: bool, timeout: float) -> int:
    """Take over the configuration and new application code, without losing a request; or change nothing and say why."""
    if pools and everything:
        raise click.UsageError("--all and names of pools exclude each other")
    number = None if pools or everything else signal.SIGUSR2
    return _ask(options, Verb.RELOAD, pools=pools, everything=everything, silence=timeout, number=number)


@_verb
def logrotate(options: Options) -> int:
    """Open all logs anew. Nobody is restarted; it is no failure if no master runs."""
    try:
        return _ask(options, Verb.LOGROTATE, silence=QUICK, number=signal.SIGUSR1)
    except NoMaster as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
        _say(str(error))
        return 0


@_verb
@PATIENTLY
def upgrade(options: Options, timeout: float) -> int:
    """Replace the master by the pyfpm that is installed now, under the same pid and without losing a connection."""
    return _ask(options, Verb.UPGRADE, silence=timeout)


def _ask(
    options: Options,
    verb: Verb,
    *,
    pools: tuple[str, ...] = (),
    everything: bool = False,
    silence: float,
    number: signal.Signals | None = None,
) -> int:
    """Ask the master, or send signal `number` where it has no control socket. The exit code."""
    where = find_whereabouts(options)
    with find_master(where) as master:
        if master.channel is None:
            if number is None:
                raise NoMaster(f"{_deaf(master, where)}, and no signal says that")
            _signal(master, where, number)
            _say("how it goes is in the error log")
            return 0
        verdict = master.ask(verb, pools=pools, everything=everything, silence=silence, on_progress=_say)
        if verdict is None:
            _complain(f"the master, pid {master.pid}, has ended the conversation without a verdict")
            return EXIT_LATER
        if verdict.text:
            (_complain if verdict.code else _say)(verdict.text)
        return verdict.code


def _signal(master: Master, where: Whereabouts, number: signal.Signals) -> None:
    master.signal(number)
    _say(f"{_deaf(master, where)}: sent {number.name}")


def _deaf(master: Master, where: Whereabouts) -> str:
    place = f" at {where.control_path}" if where.control_path else ""
    return f"the master, pid {master.pid}, has no control socket{place}"


# ── status ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@_verb
@POOLS
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each pool.")
def status(options: Options, pools: tuple[str, ...], as_json: bool) -> int:
    """Show how the pools are: one line each."""
    where = find_whereabouts(options)
    with find_master(where) as master:
        if master.channel is None:
            raise NoMaster(f"{_deaf(master, where)}, so all that is known is that it runs")
        answers: list[str] = []
        verdict = master.ask(Verb.STATUS, pools=pools, silence=QUICK, on_progress=answers.append)
        if verdict is None or verdict.code:
            _complain(verdict.text if verdict else f"the master, pid {master.pid}, has hung up")
            return verdict.code if verdict else EXIT_LATER
    try:
        reports = [read_report(line) for line in "\n".join(answers).split("\n") if line]
    except MessageError as error:
        _complain(str(error))
        return EXIT_INTERNAL
    _show(reports, as_json)
    return 0


def _show(reports: list[PoolReport], as_json: bool) -> None:
    for line in [report.line() for report in reports] if as_json else table(reports):
        click.echo(line)


ALL = (start, stop, quit, restart, reload, logrotate, upgrade, status)
