"""`pyfpm -t`: read the configuration as a start does, say all that is wrong with it, and start nothing.

Runs in: anyone's shell, an init system; a new image that is tested before the old one makes way for it. A start reads
its configuration here, too.
Fails by: the exit code: 78 for a configuration that cannot be used.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.config.directives import Configuration
from pyfpm.config.load import load
from pyfpm.config.render import dump
from pyfpm.errors import EXIT_CONFIG, ConfigError, Problem, StartError
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.legacy import FORMAT
from pyfpm.master.logfiles import open_error_log
from pyfpm.master.preflight import examine, notices
from pyfpm.master.upgrade import TOLERANT

if TYPE_CHECKING:
    from pyfpm.cli.options import Options
    from pyfpm.logs.error_log import Sink


def test(options: Options, *, shown: bool) -> int:
    """Test the configuration and start nothing; if it is to be `shown`, every value in force. Returns the exit code."""
    log = ErrorLog(clock=time.time)
    try:
        is_strict = TOLERANT not in os.environ
        configuration = read_configuration(options, log, strict=is_strict, look_up=is_strict)
    except ConfigError as error:
        return refuse(error.problems, options, log)
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
    # Late: an operator's -t is quicker without a master. Of a new image it must be known that it can import one.
    import pyfpm.cli.daemon  # noqa: F401

    if handed_over != str(FORMAT):
        raise StartError(catalogue.CANNOT_TAKE_OVER, "cannot take over from the pyfpm that runs: its format is another")
    if not options.force_stderr:
        open_log(configuration.global_.error_log).close()


def read_configuration(options: Options, log: ErrorLog, *, strict: bool, look_up: bool) -> Configuration:
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


def refuse(problems: list[Problem], options: Options, log: ErrorLog) -> int:
    """Say why this configuration cannot be used. Returns the exit code."""
    for problem in problems:
        _say_problem(problem, log)
    log.error(catalogue.CONFIG_REFUSED, f"failed to load configuration file '{options.config}'")
    return EXIT_CONFIG


def open_log(path: str | None) -> Sink:
    """The log of the daemon, open; StartError if it cannot be."""
    try:
        return open_error_log(path)
    except OSError as error:
        text = f"failed to open error_log ({path}): {error.strerror} ({error.errno})"
        raise StartError(catalogue.LOG_NOT_OPENED, text) from error
