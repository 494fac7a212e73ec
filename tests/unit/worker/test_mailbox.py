"""What a worker says: it learns whether anybody listens."""

from __future__ import annotations

import socket

from pyfpm import messages
from pyfpm.worker.mailbox import Mailbox


def test_whoever_has_been_forgotten_learns_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        mailbox = Mailbox(ours, None)
        assert mailbox.say(messages.Born())
        theirs.close()
        assert not mailbox.say(messages.Born())
