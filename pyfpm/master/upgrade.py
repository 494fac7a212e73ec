"""Upgrade: the master becomes a newer pyfpm by exec, with the same pid, the same sockets and the same children.

Runs in: master, the image that is to be replaced; what comes over to the new one is in legacy.py.
Fails by: refusing. The newer pyfpm first tests the configuration in a process of its own; only if that succeeds, this
one lets itself be replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

from pyfpm import __version__, catalogue
from pyfpm.catalogue import marked
from pyfpm.fork import fork_child
from pyfpm.master import deadlines
from pyfpm.master.legacy import FORMAT, VARIABLE, Legacy, LegacyListener, LegacyPool
from pyfpm.signals import WATCHED

if TYPE_CHECKING:
    from pyfpm.master.control import Control, Request
    from pyfpm.master.daemon import Daemon

# Makes -t the test for an upgrade: one pool's own trouble is none, and what is left to it has this format.
TOLERANT = "PYFPM_TEST_TOLERANT"
TEST_TIMEOUT = 60.0
LONGEST_COMPLAINT = 4000
REFUSED = 1
_STARTING_VERBS = ("start", "restart")


class Upgrade:
    """The upgrade that somebody asks for: test the new image, then become it."""

    def __init__(self, daemon: Daemon, pid_file: int | None) -> None:
        self.is_due = False  # the test has succeeded, the next turn may exec
        self._daemon = daemon
        self._pid_file = pid_file
        self._waiting: list[Request] = []
        self._test_pid = 0
        self._since = 0.0
        self._reader = -1
        self._said = b""

    def request(self, request: Request) -> None:
        """Begin when it is quiet, or join the one under way."""
        self._waiting.append(request)

    def bury(self, pid: int, status: int) -> bool:
        """The test has ended; False if it was another process."""
        if pid != self._test_pid:
            return False
        self._on_readable(0.0)
        self._test_pid = 0
        if os.waitstatus_to_exitcode(status) == 0:
            self.is_due = True
        else:
            said = _without_timestamps(self._said.decode("utf-8", "replace"))
            self._refuse(f"the new pyfpm does not start with this configuration:\n{said}")
        return True

    def reconcile(self, now: float, *, is_quiet: bool) -> None:
        """Test; `is_quiet` while no reload is under way and no pool finishes, which the new image would not know of.

        A reload that comes in between makes another test necessary: what was tested may have changed with it.
        """
        if self._test_pid:
            if deadlines.is_late(self._since, now, TEST_TIMEOUT):
                os.kill(self._test_pid, 9)  # our child, and not reaped yet: nobody else can have this pid
        elif not is_quiet:
            self.is_due = False
        elif self._waiting and not self.is_due:
            try:
                self._test(now)
            except OSError as error:
                self._refuse(f"cannot start the new pyfpm: {error}")

    def _test(self, now: float) -> None:
        self._since = now
        self._said = b""
        with contextlib.ExitStack() as undo:
            reader, writer = os.pipe()
            undo.callback(os.close, reader)
            try:
                self._test_pid = fork_child(lambda: _test_new_image(writer))
            finally:
                os.close(writer)
            undo.pop_all()
        self._reader = reader
        os.set_blocking(reader, False)
        self._daemon.loop.watch(reader, self._on_readable)
        self._daemon.log.notice("testing the configuration with the new pyfpm")

    @property
    def may_replace(self) -> bool:
        """Not while there is a worker that was ordered and is not yet born: the new image would not know it."""
        generations = [generation for pool in self._daemon.pools for generation in pool.generations()]
        return self.is_due and all(child.pid for generation in generations for child in generation.children)

    def replace_master(self, control: Control) -> None:
        """Become the new image. Returns only if that fails."""
        self.is_due = False
        try:
            self._exec(control)
        except OSError as error:
            self._refuse(f"cannot exec the new pyfpm: {error}")

    def _exec(self, control: Control) -> None:
        self._daemon.monitor.close()  # the next image starts its own, which finds whoever has connected meanwhile
        legacy = self._legacy(control)
        command = command_line()
        with contextlib.ExitStack() as undo:
            memory = os.memfd_create("pyfpm-upgrade", 0)
            undo.callback(os.close, memory)
            legacy.write(memory)
            for number in legacy.descriptors():
                os.set_inheritable(number, True)
                undo.callback(os.set_inheritable, number, False)
            self._daemon.log.notice(f"upgrading: exec of {' '.join(command)}")
            # Until the new image listens to them, a signal would be the end of it.
            signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
            undo.callback(let_signals_in)
            for pool in self._daemon.pools:
                pool.current.templates.end(signal.SIGTERM, 0.0)
            environment = {**os.environ, **self._daemon.notifier.environment(), VARIABLE: str(memory)}
            os.execve(sys.executable, command, environment)

    def _legacy(self, control: Control) -> Legacy:
        clients = [channel for request in self._waiting if (channel := control.channel_of(request)) is not None]
        of_pools = [pool.resources.listener for pool in self._daemon.pools]
        return Legacy(
            __version__,
            self._pid_file,
            None if control.listener is None else control.listener.fileno(),
            [channel.fileno() for channel in clients],
            {pool.name: LegacyPool.of(pool) for pool in self._daemon.pools},
            [LegacyListener.of(one) for one in self._daemon.listeners() if one not in of_pools],
        )

    def _on_readable(self, _now: float) -> None:
        if self._reader < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while text := os.read(self._reader, 65536):
                self._said = (self._said + text)[-LONGEST_COMPLAINT:]
            self._daemon.loop.forget(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _refuse(self, reason: str) -> None:
        first, _, detail = reason.partition("\n")
        self._daemon.log.error(catalogue.UPGRADE_REFUSED, f"upgrade refused: {first}", detail=detail)
        for request in self._waiting:
            request.finish(REFUSED, marked(reason, catalogue.UPGRADE_REFUSED))
        self._waiting.clear()


def _without_timestamps(said: str) -> str:
    """What -t says, for a log that has timestamps and levels of its own."""
    return "\n".join(re.sub(r"^\[[^]]*\] [A-Z]+: ", "", line) for line in said.splitlines())


def _test_new_image(output: int) -> None:
    """In a child: run the command of this master with -t, by the interpreter and the code that are on disk now."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    arguments = [argument for argument in command_line() if argument not in ("-D", "--daemonize")]
    os.execve(sys.executable, [*arguments, "-t"], {**os.environ, TOLERANT: str(FORMAT)})


def command_line() -> list[str]:
    """The command that this master was started by, as a command that is the daemon: without `start` or `restart`."""
    own = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    options = sys.argv[1:]
    verb = next((at for at, word in enumerate(options) if word in _STARTING_VERBS), len(options))
    return [*own, *options[:verb]]


def let_signals_in() -> None:
    """They are listened to now: what came while one image replaced the other is delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
