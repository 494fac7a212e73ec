"""`pyfpm stop`, `reload`, `upgrade` …: tell the running master what to do, wait until it has, and say how it went.

Runs in: an operator's shell, a deploy script, ExecReload of systemd, logrotate.
Fails by: the exit code, with the reason on stderr: the master's verdict (64, 70, 75, 77, 78, or 1), 69 when no master
runs, 77 where the master may not be reached, 75 when it says nothing any more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import click

from pyfpm.cli.client import LAST_MOMENTS, Master, Whereabouts, find_master, find_whereabouts, running_pid
from pyfpm.cli.options import Options
from pyfpm.cli.speech import POOLS, QUICK, complain, deaf, say, verb
from pyfpm.errors import EXIT_LATER, EXIT_NOT_PERMITTED, EXIT_UNAVAILABLE, NoMaster
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.messages import Verb

PATIENCE = 900.0  # seconds of the master's silence; its own limits for each step are shorter, unless raised very far

PATIENTLY = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=PATIENCE,
    show_default=True,
    metavar="SECONDS",
    help="Give up waiting when the master has said nothing for so long.",
)


# ── start and stop ──────────────────────────────────────────────────────────────────────────────────────────────────


@verb
def start(options: Options) -> int:
    """Start the daemon in the background, and wait until it serves."""
    try:
        with find_master(find_whereabouts(options)) as master:
            say(f"pyfpm is running already, pid {master.pid}")
            return 0
    except NoMaster as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
    return _start(options)


def _start(options: Options, *, before: Callable[[], int] | None = None) -> int:
    from pyfpm.cli import daemon  # late: the other verbs need nothing of it

    return daemon.run(options.in_background(), before=before)


@verb
def stop(options: Options) -> int:
    """Stop the daemon now; requests in hand are cut off."""
    return _end(options, Verb.STOP, signal.SIGTERM)


@verb
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
            verdict = master.ask(verb, silence=QUICK, to_the_end=True, on_progress=say)
            if verdict is not None and verdict.code:
                complain(verdict.text)
                return verdict.code
            if not master.wait_gone(LAST_MOMENTS):
                complain(f"pid {master.pid} has hung up without a word and still runs")
                return EXIT_INTERNAL
        say(f"stopped, pid {master.pid}")
        return 0


@verb
@POOLS
@PATIENTLY
def restart(options: Options, pools: tuple[str, ...], timeout: float) -> int:
    """Stop the daemon gracefully and start it again; with POOLs, start these pools' workers anew, without a gap."""
    if pools:
        return _ask(options, Verb.RESTART, pools=pools, silence=timeout)
    pid = running_pid(find_whereabouts(options))
    if pid is not None and os.geteuid() not in (0, _owner_of(pid)):
        complain("only root and the master's user can restart the daemon; name your pools: pyfpm restart POOL")
        return EXIT_NOT_PERMITTED
    # Nothing is stopped that could not be started again.
    return _start(options, before=lambda: _quit_if_running(options))


def _owner_of(pid: int) -> int:
    """Whose master it is; ours, as far as it matters, if it has ended in the meantime."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return os.geteuid()


def _quit_if_running(options: Options) -> int:
    try:
        return _end(options, Verb.QUIT, signal.SIGQUIT)
    except NoMaster as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
        say(str(error))
        return 0


# ── what goes on while it runs ──────────────────────────────────────────────────────────────────────────────────────


@verb
@POOLS
@click.option("--all", "everything", is_flag=True, help="Every pool, whether it has changed or not.")
@PATIENTLY
def reload(options: Options, pools: tuple[str, ...], everything: bool, timeout: float) -> int:
    """Take over the configuration and new application code, without losing a request; or change nothing and say why."""
    if pools and everything:
        raise click.UsageError("--all and names of pools exclude each other")
    number = None if pools or everything else signal.SIGUSR2
    return _ask(options, Verb.RELOAD, pools=pools, everything=everything, silence=timeout, number=number)


@verb
def logrotate(options: Options) -> int:
    """Open all logs anew. Nobody is restarted; it is no failure if no master runs."""
    try:
        return _ask(options, Verb.LOGROTATE, silence=QUICK, number=signal.SIGUSR1)
    except NoMaster as error:
        if error.exit_code != EXIT_UNAVAILABLE:
            raise
        say(str(error))
        return 0


@verb
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
                raise NoMaster(f"{deaf(master, where)}, and no signal says that")
            _signal(master, where, number)
            say("how it goes is in the error log")
            return 0
        verdict = master.ask(verb, pools=pools, everything=everything, silence=silence, on_progress=say)
        if verdict is None:
            complain(f"the master, pid {master.pid}, has ended the conversation without a verdict")
            return EXIT_LATER
        if verdict.text:
            (complain if verdict.code else say)(verdict.text)
        return verdict.code


def _signal(master: Master, where: Whereabouts, number: signal.Signals) -> None:
    master.signal(number)
    say(f"{deaf(master, where)}: sent {number.name}")
