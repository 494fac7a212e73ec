"""Start a template: its descriptors, its environment, its user, and then the pool's own interpreter.

Runs in: master; between fork and exec in the new process.
Fails by: OSError when there is no process or descriptor to be had. What goes wrong in the new process it says itself,
as LoadFailed on its channel.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NamedTuple

from pyfpm import catalogue, kernel, messages, packets
from pyfpm.config.directives import PoolSettings
from pyfpm.config.values import NO_SIGNAL
from pyfpm.errors import StartError
from pyfpm.fork import EXIT_INTERNAL, fork_child, leave
from pyfpm.installed import BOOTSTRAP
from pyfpm.master.accounts import Identity, identity_of
from pyfpm.master.privileges import become
from pyfpm.scoreboard import Scoreboard

# What service managers tell their main process is not for a pool, even where `clear_env = no`.
_MASTERS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Spawned(NamedTuple):
    """A template process as it left for its exec: what the master holds of it."""

    pid: int
    pidfd: int
    channel: socket.socket
    pipes: tuple[int, int]  # to read its stdout and stderr from


def interpreter_of(settings: PoolSettings) -> str:
    """The pool's interpreter: the one named, the one of its virtual environment, or ours."""
    if settings.virtualenv:
        return os.path.join(settings.virtualenv, "bin", "python")
    return settings.python or sys.executable


def environment_of(settings: PoolSettings, identity: Identity | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a pool's processes: PHP-FPM's rules, USER and HOME included."""
    made: dict[str, str] = {}
    if not settings.clear_env:
        made.update({name: value for name, value in environ.items() if name not in _MASTERS_OWN})
    if identity is not None and identity.name:
        made.update(USER=identity.name, HOME=identity.home)
    made.update(settings.env)
    return made


def trace_signal(settings: PoolSettings) -> int:
    """The signal that makes a worker write its stacks; 0 for none."""
    offset = settings.slowlog_signal
    return 0 if offset == NO_SIGNAL else signal.SIGRTMIN + offset


def start_template(
    settings: PoolSettings,
    *,
    listener: socket.socket,
    scoreboard: Scoreboard,
    bell: int,
    generation: int,
    preload: str,
    alarm_below: int,
    is_watched: bool,
    time_to_leave: float,
) -> Spawned:
    """Fork and exec a template for a pool; its greeting is on the way when this returns.

    `is_watched`: there is a status page for all pools, so what requests cost is measured in any case. `time_to_leave`:
    seconds that a worker's last request may take when there is no master any more.
    """
    identity = identity_of(settings)
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as handed_over:
        ours, theirs = packets.socket_pair()
        undo.callback(ours.close)
        handed_over.callback(theirs.close)
        stdout, their_stdout = os.pipe()
        undo.callback(os.close, stdout)
        handed_over.callback(os.close, their_stdout)
        stderr, their_stderr = os.pipe()
        undo.callback(os.close, stderr)
        handed_over.callback(os.close, their_stderr)
        record = settings.template_record() | {
            "preload": preload,
            "slots": scoreboard.slots,
            "connections": settings.pm_max_children,
            "alarm_below": alarm_below,
            "generation": generation,
            "master": os.getpid(),
            "dumpable": settings.process_dumpable or identity is None,
            "access_log": settings.access_log is not None,
            "trace_signal": trace_signal(settings),
            "time_to_leave": time_to_leave,
            "measured": is_watched or bool(settings.pm_status_path or settings.pm_status_listen),
            "timed": bool(settings.request_slowlog_timeout or settings.request_terminate_timeout),
        }
        descriptors = (listener.fileno(), scoreboard.descriptor, bell)
        greeting = messages.Greeting(text=json.dumps(record), descriptors=descriptors)
        # Before the fork: the socket's buffer keeps it until the new interpreter reads it.
        packets.send(ours, greeting)
        environment = environment_of(settings, identity, os.environ)
        pid = fork_child(lambda: _become_template(settings, identity, environment, theirs, their_stdout, their_stderr))
        # Nobody else reaps: the pid is its own until the master has taken notice of its end.
        pidfd = os.pidfd_open(pid)
        undo.pop_all()
    return Spawned(pid, pidfd, ours, (stdout, stderr))


def _become_template(
    settings: PoolSettings,
    identity: Identity | None,
    environment: dict[str, str],
    channel: socket.socket,
    stdout: int,
    stderr: int,
) -> None:
    """In the new process: arrange the standard streams, drop to the pool's user, become its interpreter."""
    python = interpreter_of(settings)
    step = "arrange its streams"
    try:
        os.setsid()  # Ctrl-C at the master's terminal is for the master alone
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.set_inheritable(channel.fileno(), True)
        step = f"become user '{settings.user}'" if identity else f"enter {settings.chdir}"
        become(identity, settings)
        kernel.die_with_parent(signal.SIGTERM)
        step = f"run {python}"
        arguments = ["template", str(channel.fileno()), settings.name, kernel.TITLE_FILLER]
        os.execve(python, [python, BOOTSTRAP, *arguments], environment)
    except (OSError, StartError) as error:
        with contextlib.suppress(OSError):
            text = f"the template cannot {step}: {error}"
            packets.send(channel, messages.LoadFailed(catalogue.TEMPLATE_CANNOT, text=text))
        leave(EXIT_INTERNAL)
