"""The monitor: answers status requests of all pools, also while every worker is busy and the master stands still.

Runs in: monitor, as root until its modules are loaded, then as status_user.
Fails by: a traceback on stderr and exit 70; it ends when the master closes the channel, and dies with it.

It only reads: scoreboards that it cannot write, and questions. It runs no application, opens no file and starts no
process; and it says nothing, for the master does not listen.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback

import pyfpm.status.dashboard  # noqa: F401 - else imported when it is asked for: the confined open no file
from pyfpm import kernel, messages, packets
from pyfpm.fork import EXIT_INTERNAL, leave
from pyfpm.monitor.confine import confine
from pyfpm.monitor.server import Server
from pyfpm.monitor.shown import Shown

TITLE = "pyfpm: monitor"


def main(channel: str, master: str, uid: str, gid: str) -> None:
    """The life of the monitor. It never returns."""
    try:
        kernel.set_title(TITLE)
        time.localtime()  # looks up the time zone, which is a file
        confine(int(uid), int(gid))
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != int(master):
            leave(0)  # it died before we could ask to be told
        gc.freeze()
        Monitor(socket.socket(fileno=int(channel))).server.run()
    except Exception:
        print(traceback.format_exc(), file=sys.stderr, end="")
    leave(EXIT_INTERNAL)


class Monitor:
    """What the master shows, and the server that answers from it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._shown = Shown()
        self.server = Server(self._shown)
        self.server.watch(channel, self._hear_master)

    def _hear_master(self, _now: float) -> None:
        received = packets.receive(self._channel, messages.Speaker.MASTER_SHOWS)
        if received is None:
            leave(0)
        match received[0]:
            case messages.ShowBoard() as message:
                self._shown.add_board(message)
            case messages.ShowPool() as message:
                self._shown.add_pool(message)
            case messages.ShowListener() as message:
                self.server.listen(message.number, socket.socket(fileno=message.descriptors[0]), message.pool)
            case messages.Forget() as message:
                self._shown.forget(message.number)
                self.server.forget(message.number)
