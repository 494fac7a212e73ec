"""The template of a pool: greet, load the application once, say so, then fork a worker for each order.

Runs in: template, as the pool's user, Python 3.9 and up.
Fails by: LoadFailed to the master and exit 70; it ends quietly when the master closes the channel.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
import time
from os import close, pipe, read, waitpid
from signal import signal as set_handler
from socket import socket

from pyfpm import catalogue, kernel, messages, packets
from pyfpm.errors import ApplicationError, MessageError
from pyfpm.fork import EXIT_INTERNAL, flush_streams, fork_child, leave
from pyfpm.scoreboard import Scoreboard
from pyfpm.template.files import Files
from pyfpm.template.leftovers import Leftovers
from pyfpm.worker.application import load_application
from pyfpm.worker.mailbox import Mailbox
from pyfpm.worker.main import run_worker
from pyfpm.worker.pages import load_what_pages_need

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main(channel_descriptor: str, pool: str) -> None:
    """The life of a template. It never returns: threads that an application left running must not hold it up."""
    kernel.set_title(f"pyfpm: pool {pool} template")
    channel = socket(fileno=int(channel_descriptor))
    received = packets.receive(channel, messages.Speaker.MASTER_GREETS)
    if received is None or not isinstance(received[0], messages.Greeting):
        leave(EXIT_INTERNAL)
    greeting = received[0]
    template = Template(channel, json.loads(greeting.text), greeting.descriptors)
    template.prepare()
    try:
        template.load()
    except ApplicationError as error:
        packets.send(channel, messages.LoadFailed(error.code, text=str(error)))
        leave(EXIT_INTERNAL)
    template.obey()
    leave(0)


class Template:
    """A pool's application, loaded, and what its workers share: they are forked from it."""

    def __init__(self, channel: socket, settings: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        self.channel = channel
        self.settings = settings
        self.listener = socket(fileno=descriptors[0])
        self.scoreboard = Scoreboard(descriptors[1], settings["slots"])
        self.bell = descriptors[2]
        self.files: Files | None = None
        self.application: Callable[..., Any] | None = None

    def prepare(self) -> None:
        """Make this interpreter the pool's: its title, its import path, its streams."""
        kernel.set_dumpable(self.settings["dumpable"])
        sys.argv = ["pyfpm"]
        sys.path[:0] = [path for path in (self.settings["chdir"], *self.settings["pythonpath"]) if path]
        # A pipe is block-buffered by default: what an application prints would reach the log at its death.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]

    def load(self) -> None:
        """Load the application if it is to be shared, and tell the master how that went."""
        preload = self.settings["preload"]
        note = ""
        if preload != "no":
            began = time.time_ns()
            gc.disable()  # what the import leaves is frozen below: collecting meanwhile only dirties pages
            with Leftovers() as leftovers:
                self.application = load_application(self.settings["app"])
            set_handler(signal.SIGCHLD, signal.SIG_DFL)  # or whoever forks here may not be told how that ended
            note = "; ".join(leftovers.found)
            if note and preload == "auto":
                # This process cannot be made clean again. The master starts another one that does not import, and what
                # the import started goes with this one: it leads the process group.
                packets.send(self.channel, messages.Unclean(text=note))
                os.killpg(os.getpid(), signal.SIGKILL)
            self.files = Files.loaded(began)
            gc.enable()
            gc.collect()
        load_what_pages_need(self.settings)
        # Frozen objects are never looked at by a worker's collector, so their pages stay shared.
        gc.freeze()
        packets.send(self.channel, messages.Loaded(text=note))

    def obey(self) -> None:
        """Fork a worker for each order until the master closes the channel."""
        while True:
            try:
                received = packets.receive(self.channel, messages.Speaker.MASTER_ORDERS)
            except MessageError:
                # What the master says is right, so it was the kernel that has left the descriptors out.
                text = "the application has left the template no free descriptors for a worker; see rlimit_files"
                Mailbox(self.channel, None).error(catalogue.OUT_OF_DESCRIPTORS, text)
                leave(EXIT_INTERNAL)
            if received is None:
                return
            order = received[0]
            if isinstance(order, messages.ForkWorker):
                self.fork_worker(order)
                for descriptor in order.descriptors:
                    close(descriptor)
            elif isinstance(order, messages.AskFiles):
                changed = "not preloaded" if self.files is None else self.files.changed()
                packets.send(self.channel, messages.FilesChanged(text=changed))

    def fork_worker(self, order: messages.ForkWorker) -> None:
        """Fork twice, so that the worker is an orphan and becomes the child of the master, the subreaper.

        The worker must not go on before that has happened: it would arm its parent-death signal on the process in the
        middle. It waits for the end of file on a pipe that this process closes after it has reaped the one in the
        middle, for the kernel re-parents before it reports an end.
        """
        try:
            gate_reader, gate_writer = pipe()
        except OSError as error:
            packets.send(self.channel, messages.ForkFailed(order.slot, error.errno or 0))
            return

        def become_worker() -> None:
            close(gate_writer)
            self.channel.close()
            read(gate_reader, 1)
            close(gate_reader)
            run_worker(self.settings, order, self.listener, self.bell, self.scoreboard, self.application)

        def leave_an_orphan() -> None:
            try:
                fork_child(become_worker, run_exit_functions=True)
            except OSError as error:
                sys.exit(error.errno or EXIT_INTERNAL)  # an exit code is all that is left of this process
            except MemoryError:
                sys.exit(errno.ENOMEM)

        flush_streams()  # or what is in the buffers would be written by each of us
        try:
            middle = fork_child(leave_an_orphan)
            _, status = waitpid(middle, 0)
            if status != 0:
                code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else EXIT_INTERNAL
                raise OSError(0 if code == EXIT_INTERNAL else code, "the process in the middle failed")
        except OSError as error:
            packets.send(self.channel, messages.ForkFailed(order.slot, error.errno or 0))
        finally:
            close(gate_writer)
            close(gate_reader)
