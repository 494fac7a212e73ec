"""The command `pyfpm`: PHP-FPM's own options, then the daemon; or a verb, for a daemon that runs.

Runs in: anyone's shell, an init system.
Fails by: exit code 64 for wrong usage, 78 for a configuration that cannot be used, 70 for a start that failed; a verb
by those of cli/verbs.py.
"""

from __future__ import annotations

import importlib
import sys

import click

from pyfpm import __version__
from pyfpm.cli.options import Options
from pyfpm.cli.streams import have_standard_streams
from pyfpm.errors import EXIT_USAGE
from pyfpm.fork import EXIT_INTERNAL

DEFAULT_CONFIG = "/etc/pyfpm.conf"
# By module of this folder. It is imported when one of its verbs is called: half of what a start costs is importing, and
# a deploy script that asks for a reload needs no master, a master no tables for terminals.
VERBS = {
    "verbs": ("start", "stop", "quit", "restart", "reload", "logrotate", "upgrade"),
    "views": ("status", "stack", "memory", "ping"),
    "top": ("top",),
    "explain": ("explain",),
}


class Verbs(click.Group):
    """The verbs, each imported when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:  # noqa: ARG002  click's interface
        return sorted(name for names in VERBS.values() for name in names)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        for module, names in VERBS.items():
            if name in names:
                found: click.Command = getattr(importlib.import_module(f"pyfpm.cli.{module}"), name)
                return found
        return None


@click.group(
    cls=Verbs,
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
        from pyfpm.cli.info import show_info

        show_info(config)
        return 0
    # Imported when it is clear which one it is, as the verbs are: a test needs no master.
    if test:
        from pyfpm.cli import configtest

        return configtest.test(options, shown=test > 1)
    from pyfpm.cli import daemon

    return daemon.run(options)


def main() -> None:
    """The entry point of the command."""
    have_standard_streams()
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
