"""An order for a worker: its mailbox, its pipes, and the message to the template.

Runs in: master.
Fails by: OSError when descriptors run out or the template has gone; BlockingIOError when it is busy.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import messages, packets

if TYPE_CHECKING:
    import socket


class Ordered(NamedTuple):
    """The master's ends of what the new worker will hold."""

    mailbox: socket.socket
    pipes: tuple[int, ...]  # to read its stdout and stderr from; none if they go nowhere
    trace: int  # to read its stacks from; -1 if it is never asked for them


def order_worker(
    template: socket.socket,
    slot: int,
    *,
    must_prove_itself: bool,
    catch_output: bool,
    traced: bool,
    access_log: int | None,
) -> Ordered:
    """Ask a template to fork a worker for `slot`."""
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        mailbox, their_mailbox = packets.socket_pair()
        theirs.callback(their_mailbox.close)
        ours.callback(mailbox.close)
        pipes: list[int] = []
        descriptors = [their_mailbox.fileno()]
        for _ in ("stdout", "stderr"):
            if catch_output:
                reader, writer = os.pipe()
                ours.callback(os.close, reader)
                pipes.append(reader)
            else:
                writer = os.open(os.devnull, os.O_WRONLY)
            theirs.callback(os.close, writer)
            descriptors.append(writer)
        trace = -1
        if traced:
            # Not blocking at either end: a signal handler that waits for us would be a worker that waits for us.
            trace, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, trace)
            theirs.callback(os.close, writer)
            descriptors.append(writer)
        if access_log is not None:
            descriptors.append(access_log)
        packets.send(template, messages.ForkWorker(slot, int(must_prove_itself), descriptors=tuple(descriptors)))
        ours.pop_all()
    return Ordered(mailbox, tuple(pipes), trace)
