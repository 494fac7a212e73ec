"""The command `pyfpm`: PHP-FPM's own options, then the daemon.

Runs in: anyone's shell, an init system.
Fails by: exit code 64 for wrong usage, 78 for a configuration that cannot be used, 70 for a start that failed.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass

import click
import psutil

from pyfpm import __version__
from pyfpm.config.directives import Configuration
from pyfpm.config.load import load
from pyfpm.config.render import dump
from pyfpm.errors import ConfigError, Problem, StartError
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.logs.error_log import ErrorLog, Level
from pyfpm.logs.files import LogFile
from pyfpm.master.daemonize import Announce, in_background, in_foreground
from pyfpm.master.main import Launch, run_master
from pyfpm.master.preflight import examine, notices
from pyfpm.master.spawn import PACKAGE

EXIT_USAGE = 64  # EX_USAGE of sysexits.h, and of PHP-FPM
EXIT_CONFIG = 78  # EX_CONFIG
DEFAULT_CONFIG = "/etc/pyfpm.conf"


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    config: str
    prefix: str | None
    pid: str | None
    daemonize: bool | None
    force_stderr: bool
    allow_root: bool


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Signals: TERM and INT stop now, QUIT stops when the requests in hand are done, USR1 reopens the logs.",
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
def command(
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
    """Run WSGI applications in pools of worker processes, behind nginx and other front servers."""
    if background and foreground:
        raise click.UsageError("-D and -F exclude each other")
    if info:
        show_info()
        return 0
    daemonize = True if background else False if foreground else None
    options = Options(config, prefix, pid, daemonize, force_stderr, allow_root)
    log = ErrorLog(clock=time.time)
    try:
        configuration = read_configuration(options, log)
    except ConfigError as error:
        return refuse(error.problems, options, log)
    return show_test(configuration, options, log, test) if test else start(configuration, options, log)


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


def read_configuration(options: Options, log: ErrorLog) -> Configuration:
    """The configuration, if the daemon could start with it; ConfigError with all that is wrong."""
    as_root = os.geteuid() == 0
    configuration = load(options.config, prefix=options.prefix, environ=os.environ, as_root=as_root)
    for warning in configuration.warnings:
        log.warning(warning)
    problems = examine(configuration, as_root=as_root, allow_root=options.allow_root)
    if problems:
        raise ConfigError(problems)
    for notice in notices(configuration, as_root=as_root):
        log.notice(notice)
    return configuration


def refuse(problems: list[Problem], options: Options, log: ErrorLog) -> int:
    for problem in problems:
        first, _, advice = str(problem).partition("\n")
        log.error(first, detail=advice)
    log.error(f"failed to load configuration file '{options.config}'")
    return EXIT_CONFIG


def show_test(configuration: Configuration, options: Options, log: ErrorLog, times: int) -> int:
    if times > 1:
        for line in dump(configuration):
            log.notice(line)
    log.notice(f"configuration file {options.config} test is successful")
    return 0


def start(configuration: Configuration, options: Options, log: ErrorLog) -> int:
    """Become the daemon. Returns its exit code, or in the background the exit code of its start."""
    settings = configuration.global_
    daemonize = settings.daemonize if options.daemonize is None else options.daemonize
    log.level = Level[settings.log_level.upper()]
    log.limit = settings.log_limit
    to_terminal = not daemonize and sys.stderr.isatty()
    if not (options.force_stderr or to_terminal) or daemonize:
        try:
            log.write_to(LogFile(settings.error_log))
        except OSError as error:
            log.error(f"failed to open error_log ({settings.error_log}): {error.strerror} ({error.errno})")
            return EXIT_CONFIG

    def life(announce: Announce) -> int:
        try:
            return run_master(configuration, Launch(options.config, options.pid or settings.pid, announce), log)
        except StartError as error:
            log.error(str(error))
            log.error("FPM initialization failed")
            # In the background PHP-FPM's parent says 70 whatever the reason.
            return EXIT_INTERNAL if daemonize else error.exit_code

    return in_background(life) if daemonize else in_foreground(life)


def show_info() -> None:
    """Everything that a bug report should have."""
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
