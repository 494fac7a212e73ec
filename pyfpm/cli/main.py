"""The command `pyfpm`: PHP-FPM's own options, then the daemon; or a verb, for a daemon that runs.

Runs in: anyone's shell, an init system.
Fails by: exit code 64 for wrong usage, 78 for a configuration that cannot be used, 70 for a start that failed; a verb
by those of cli/verbs.py.
"""

from __future__ import annotations

import os
import platform
import sys
import time

import click

from pyfpm import __version__
from pyfpm.cli import verbs, views
from pyfpm.cli.daemon import Options, read_configuration, refuse, show_test, start
from pyfpm.cli.explain import explain
from pyfpm.errors import EXIT_USAGE, ConfigError
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.spawn import PACKAGE
from pyfpm.master.upgrade import TOLERANT

DEFAULT_CONFIG = "/etc/pyfpm.conf"


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Signals: TERM and INT stop now, QUIT stops when the requests in hand are done, USR2 and HUP reload, "
    "USR1 reopens the logs.",
)
@click.option("-c", "--config", default=DEFAULT_CONFIG, show_default=True, metavar="FILE", help="The configuration.")
@click.option("-D", "--daemonize", "background", is_flag=True, help="Go to the background once the pools serve.")
@click.option("-F", "--nodaemonize", "foreground", is_flag=True, help="Stay in the foreground (the default).")
@click.option("-O", "--force-stderr", is_flag=True, help="Log to standard error, whatever error_log says.")
@click.option("-t", "--test", count=True, help="Test the configuration and exit; -tt shows it as it is understood.")
@click.option("-p", "--prefix", metavar="DIR", help="Where relative paths begin.")
@click.option("-g", "--pid", metavar="FILE", help="The pid file, instead of the configured one.")
@click.option("-R", "--allow-to-run-as-root", "allow_root", is_flag=True, help="Permit pools to run as root.")
@click.option("-i", "--info", is_flag=True, help="Show what this pyfpm is made of and exit.")
@click.version_option(__version__, "-v", "--version", message="pyfpm %(version)s")
@click.pass_context
def command(
    context: click.Context,
    config: str,
    background: bool,
    foreground: bool,
    force_stderr: bool,
    test: int,
    prefix: str | None,
    pid: str | None,
    allow_root: bool,
    info: bool,
) -> int:
    """Run WSGI applications in pools of worker processes, behind nginx and other front servers.

    Without a command: be the daemon. With one: tell the daemon of this configuration what to do, and wait until it has.
    """
    if background and foreground:
        raise click.UsageError("-D and -F exclude each other")
    daemonize = True if background else False if foreground else None
    options = Options(config, prefix, pid, daemonize, force_stderr, allow_root)
    if context.invoked_subcommand is not None:
        if test or info or daemonize is not None:
            raise click.UsageError(f"-t, -i, -D and -F do not go with '{context.invoked_subcommand}'")
        context.obj = options
        return 0
    if info:
        show_info()
        return 0
    log = ErrorLog(clock=time.time)
    try:
        configuration = read_configuration(options, log, strict=bool(test) and TOLERANT not in os.environ)
    except ConfigError as error:
        return refuse(error.problems, options, log)
    return show_test(configuration, options, log, test) if test else start(configuration, options, log)


for verb in (*verbs.ALL, *views.ALL, explain):
    command.add_command(verb)


def main() -> None:
    """The entry point of the command."""
    try:
        code = command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = EXIT_USAGE
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.Abort:
        code = EXIT_INTERNAL
    sys.exit(code if isinstance(code, int) else 0)


def show_info() -> None:
    """Everything that a bug report should have."""
    import psutil  # for this alone: every start of the daemon would pay for it

    rows = {
        "pyfpm": f"{__version__}, {PACKAGE}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        "system": f"{platform.platform()}, {psutil.cpu_count()} processors, "
        f"{psutil.virtual_memory().total // 2**20} MiB of memory",
        "user": str(os.geteuid()),
        "configuration": DEFAULT_CONFIG,
        "libraries": ", ".join(f"{name} {_version_of(name)}" for name in ("click", "psutil", "setproctitle")),
        "codec": "pure Python",
    }
    for name, value in rows.items():
        click.echo(f"{name:<14} {value}")


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
