"""Find the running master, ask it, hear it out.

Runs in: an operator's shell.
Fails by: NoMaster, with the exit code for the shell. What the master answers is its verdict, good or bad.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import messages, packets
from pyfpm.config.load import control_path, read_whereabouts
from pyfpm.config.values import LONGEST_SOCKET_PATH
from pyfpm.errors import EXIT_LATER, EXIT_NOT_PERMITTED, EXIT_UNAVAILABLE, MessageError, NoMaster
from pyfpm.master.pidfile import find_holder
from pyfpm.messages import Ask, Progress, Verb, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from pyfpm.cli.options import Options

# What connect(2) says when nobody of ours is there, though a master may run all the same.
_NOBODY_THERE = (errno.ENOENT, errno.ECONNREFUSED, errno.EPROTOTYPE, errno.ENOTSOCK, errno.ENAMETOOLONG, errno.ENOTDIR)
CONNECT_TIMEOUT = 10  # seconds; a master that lives takes whoever comes at its next turn
LAST_MOMENTS = 30.0  # seconds between the master's last word and its end; it has buried all of its children by then


class Whereabouts(NamedTuple):
    """Where the master of a configuration is to be found, if it runs. `reason`: why not even that is known."""

    pid_path: str | None
    control_path: str | None
    reason: str = ""


def find_whereabouts(options: Options) -> Whereabouts:
    """What the configuration says, however wrong it is in other places; -g goes before it."""
    try:
        with open(options.config, "rb"):
            reason = ""
    except OSError as error:
        reason = f"{options.config}: {error.strerror}"
    settings = read_whereabouts(options.config, prefix=options.prefix, environ=os.environ)
    pid_path = options.pid or settings.pid
    return Whereabouts(pid_path, control_path(settings, pid_path), reason)


def running_pid(where: Whereabouts) -> int | None:
    """The pid of the running master by its pid file; None if none runs, or there is no pid file to know by."""
    return find_holder(where.pid_path) if where.pid_path else None


class Master:
    """The running master: `channel` to ask it, or without a control socket only its pid, to send it signals.

    For a `with`.
    """

    def __init__(self, pid: int, channel: socket.socket | None) -> None:
        self.pid = pid
        self.channel = channel
        try:
            # While it is known to live: this pid cannot come to mean another process any more.
            self._pidfd = os.pidfd_open(pid) if pid > 0 else -1
        except OSError:
            self._pidfd = -1  # it has just gone, or lives in a namespace that we do not see

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it: a daemon that is started next must not inherit a conversation with the one before."""
        if self.channel is not None:
            self.channel.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def signal(self, number: signal.Signals) -> None:
        """NoMaster if it is gone, or somebody else's."""
        try:
            if self._pidfd < 0:
                raise ProcessLookupError
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            raise NoMaster(f"the master, pid {self.pid}, has gone") from None
        except PermissionError:
            raise NoMaster(f"no permission to send a signal to pid {self.pid}", EXIT_NOT_PERMITTED) from None

    def wait_gone(self, seconds: float | None = None) -> bool:
        """Wait for its end, however long that takes if nothing else is said; False if it still runs."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def ask(
        self,
        verb: Verb,
        *,
        pools: Iterable[str] = (),
        everything: bool = False,
        full: bool = False,
        on_progress: Callable[[str], None],
        silence: float,
        to_the_end: bool = False,
    ) -> Verdict | None:
        """Ask and hear it out. None if the connection ends without a verdict, as it does with the master's end.

        NoMaster when it has said nothing for `silence` seconds; what was asked for may still happen. `to_the_end`: that
        holds for its first word, after which it may take as long as it likes.
        """
        assert self.channel is not None
        self.channel.settimeout(silence)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it hung up on us, but it may have said why
            flags = messages.EVERYTHING * everything | messages.FULL * full
            packets.send(self.channel, Ask(verb, flags, text="\n".join(pools)))
        try:
            while (received := packets.receive(self.channel, messages.Speaker.MASTER_ANSWERS)) is not None:
                match received[0]:
                    case Progress(text=text):
                        on_progress(text)
                        if to_the_end:
                            self.channel.settimeout(None)
                    case Verdict() as verdict:
                        return verdict
        except ConnectionResetError:
            return None
        except TimeoutError:
            raise NoMaster(
                f"the master, pid {self.pid}, has said nothing for {silence:g} seconds", EXIT_LATER
            ) from None
        except MessageError as error:
            raise NoMaster(f"the master, pid {self.pid}, does not speak our language: {error}") from error
        return None


def find_master(where: Whereabouts) -> Master:
    """The running master; NoMaster, with all that was tried, if there is none."""
    if where.control_path is not None:
        try:
            return _connect(where.control_path)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                text = f"the master at {where.control_path} takes no connection: {CONNECT_TIMEOUT} seconds were waited"
                raise NoMaster(text, EXIT_LATER) from error
            if error.errno not in _NOBODY_THERE:
                code = EXIT_NOT_PERMITTED if isinstance(error, PermissionError) else EXIT_UNAVAILABLE
                raise NoMaster(f"cannot connect to {where.control_path}: {error.strerror}", code) from error
    pid = running_pid(where)
    if pid is not None:
        return Master(pid, None)
    raise NoMaster(_nobody(where))


def _connect(path: str) -> Master:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:  # Python says that without a number
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        # Not settimeout(), with which connect(2) fails at once where the queue is full, for however short a moment.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", CONNECT_TIMEOUT, 0))
        channel.connect(path)
        return Master(packets.peer_of(channel).pid, channel)
    except OSError:
        channel.close()
        raise


def _nobody(where: Whereabouts) -> str:
    if where.reason and where.pid_path is None:
        return f"cannot tell whether a master runs: {where.reason}; -g FILE names its pid file"
    tried = []
    if where.control_path is not None:
        tried.append(f"nobody listens on {where.control_path}")
    if where.pid_path is not None:
        tried.append(f"nobody holds {where.pid_path}")
    if not tried:
        return "cannot tell whether a master runs: the configuration has neither a pid file nor a control socket"
    return f"no master runs: {', '.join(tried)}"
