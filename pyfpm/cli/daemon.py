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
from pyfpm.cli.configtest import open_log, read_configuration, refuse
from pyfpm.errors import EXIT_CONFIG, ConfigError, StartError
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.daemon import manner_of
from pyfpm.master.daemonize import Announce, in_background, in_foreground
from pyfpm.master.legacy import is_upgrade
from pyfpm.master.main import Launch, run_master

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.cli.options import Options
    from pyfpm.config.directives import Configuration


def run(options: Options, *, before: Callable[[], int] | None = None) -> int:
    """Start if the configuration is good, and if what has to come `before` went well (0). Returns the exit code.

    What comes before is the end of a daemon. So it is looked at more closely whether there can be another one.
    """
    log = ErrorLog(clock=time.time)
    try:
        configuration = read_configuration(options, log, strict=False, look_up=before is not None)
    except ConfigError as error:
        return refuse(error.problems, options, log)
    return (before() if before is not None else 0) or _start(configuration, options, log)


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
        log.write_to(open_log(None if to_stderr else settings.error_log))
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
