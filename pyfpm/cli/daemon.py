"""Start the daemon as the command line and the configuration want it.

Runs in: anyone's shell, an init system; from `run` on it is the master.
Fails by: the exit code: 78 for a configuration that cannot be used, 70 for a start that failed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config.directives import Configuration
from pyfpm.config.load import load
from pyfpm.config.render import dump
from pyfpm.errors import EXIT_CONFIG, ConfigError, Problem, StartError
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.daemon import manner_of
from pyfpm.master.daemonize import Announce, in_background, in_foreground
from pyfpm.master.legacy import FORMAT, is_upgrade
from pyfpm.master.logfiles import open_error_log
from pyfpm.master.main import Launch, run_master
from pyfpm.master.preflight import examine, notices
from pyfpm.master.upgrade import TOLERANT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.cli.options import Options
    from pyfpm.logs.error_log import Sink


def run(options: Options, *, before: Callable[[], int] | None = None) -> int:
    """Start if the configuration is good, and if what has to come `before` went well (0). Returns the exit code.

    What comes before is the end of a daemon. So it is looked at more closely whether there can be another one.
    """
    log = ErrorLog(clock=time.time)
    try:
        configuration = _read_configuration(options, log, strict=False, look_up=before is not None)
    except ConfigError as error:
        return _refuse(error.problems, options, log)
    return (before() if before is not None else 0) or _start(configuration, options, log)


def test(options: Options, *, shown: bool) -> int:
    """Test the configuration and start nothing; if it is to be `shown`, every value in force. Returns the exit code."""
    log = ErrorLog(clock=time.time)
    try:
        is_strict = TOLERANT not in os.environ
        configuration = _read_configuration(options, log, strict=is_strict, look_up=is_strict)
    except ConfigError as error:
        return _refuse(error.problems, options, log)
    if (handed_over := os.environ.get(TOLERANT)) is not None:
        try:
            _prove_upgrade(handed_over, configuration, options)
        except StartError as error:
            log.error(error.code, str(error))
            return EXIT_CONFIG
    if shown:
        for line in dump(configuration):
            log.notice(line)
    log.notice(f"configuration file {options.config} test is successful")
    return 0


def _prove_upgrade(handed_over: str, configuration: Configuration, options: Options) -> None:
    """StartError for what a new image would fail by although the configuration is good: a master runs, and must go on.

    To open its log is harmless here. For an operator's -t it is not: that creates nothing.
    """
    if handed_over != str(FORMAT):
        raise StartError(catalogue.CANNOT_TAKE_OVER, "cannot take over from the pyfpm that runs: its format is another")
    if not options.force_stderr:
        _open_log(configuration.global_.error_log).close()


def _read_configuration(options: Options, log: ErrorLog, *, strict: bool, look_up: bool) -> Configuration:
    """The configuration, if the daemon could start with it; ConfigError with all that is wrong.

    What is one pool's own trouble (its interpreter, its folders) is only said: that pool is tried again and again, and
    the others serve. `strict`, for -t, makes it an error. `look_up` hosts, too, which may take seconds.
    """
    as_root = os.geteuid() == 0
    try:
        configuration = load(
            options.config, prefix=options.prefix, environ=os.environ, as_root=as_root, pid=options.pid
        )
    except ConfigError as error:
        if isinstance(error.readable, Configuration):
            error.problems += _further_problems(error, error.readable, as_root, options.allow_root)
        raise
    for code, warning in configuration.warnings:
        log.warning(code, warning)
    problems = examine(configuration, as_root=as_root, allow_root=options.allow_root, look_up=look_up)
    if problems and (strict or any(not problem.pool for problem in problems)):
        raise ConfigError(problems)
    for problem in problems:
        _say_problem(problem, log)
    for notice in (*configuration.notices, *notices(configuration, as_root=as_root)):
        log.notice(notice)
    return configuration


def _further_problems(error: ConfigError, readable: Configuration, as_root: bool, allow_root: bool) -> list[Problem]:
    """What a start would refuse besides what is wrong in the text, so that one look tells all."""
    known = {problem.subject for problem in error.problems}
    found = examine(readable, as_root=as_root, allow_root=allow_root)
    return [problem for problem in found if problem.subject not in known]


def _say_problem(problem: Problem, log: ErrorLog) -> None:
    first, _, advice = str(problem).partition("\n")
    log.error(problem.code, first, detail=advice)


def _refuse(problems: list[Problem], options: Options, log: ErrorLog) -> int:
    for problem in problems:
        _say_problem(problem, log)
    log.error(catalogue.CONFIG_REFUSED, f"failed to load configuration file '{options.config}'")
    return EXIT_CONFIG


def _start(configuration: Configuration, options: Options, log: ErrorLog) -> int:
    """Become the daemon. Returns its exit code, or in the background the exit code of its start."""
    settings = configuration.global_
    daemonize = settings.daemonize if options.daemonize is None else options.daemonize
    if is_upgrade(os.environ):
        daemonize = False  # the image before this one is in the background already, if it was to be
    log.speak(manner_of(settings))
    to_terminal = not daemonize and sys.stderr.isatty()
    to_stderr = (options.force_stderr or to_terminal) and not daemonize
    try:
        log.write_to(_open_log(None if to_stderr else settings.error_log))
    except StartError as error:
        log.error(error.code, str(error))
        return EXIT_CONFIG

    def life(announce: Announce) -> int:
        try:
            launch = Launch(options.config, options.prefix, options.pid, options.allow_root, announce)
            return run_master(configuration, launch, log)
        except OSError as error:  # the system has none left of something that every start needs
            log.error(catalogue.SYSTEM_REFUSED, str(error))
            log.error(catalogue.START_FAILED, "FPM initialization failed")
            return EXIT_INTERNAL
        except StartError as error:
            log.error(error.code, str(error))
            log.error(catalogue.START_FAILED, "FPM initialization failed")
            # In the background PHP-FPM's parent says 70 whatever the reason.
            return EXIT_INTERNAL if daemonize else EXIT_CONFIG

    return in_background(life) if daemonize else in_foreground(life)


def _open_log(path: str | None) -> Sink:
    try:
        return open_error_log(path)
    except OSError as error:
        text = f"failed to open error_log ({path}): {error.strerror} ({error.errno})"
        raise StartError(catalogue.LOG_NOT_OPENED, text) from error
