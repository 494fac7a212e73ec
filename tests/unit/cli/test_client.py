"""A master that does not answer: nobody waits for it for ever."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from pyfpm import packets
from pyfpm.cli import client, verbs
from pyfpm.cli.client import Master, Whereabouts, find_master
from pyfpm.errors import EXIT_LATER, NoMaster
from pyfpm.messages import Progress, Verb, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def test_a_queue_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 1)
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wedged:
        wedged.bind(path)
        wedged.listen(0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
            first.connect(path)
            with pytest.raises(NoMaster, match="takes no connection") as caught:
                find_master(Whereabouts(None, path))
    assert caught.value.exit_code == EXIT_LATER


@pytest.mark.parametrize("to_the_end", [True, False])
def test_silence(to_the_end: bool) -> None:
    ours, theirs = packets.socket_pair()
    with theirs, Master(os.getpid(), ours) as master, pytest.raises(NoMaster, match="said nothing") as caught:
        master.ask(Verb.STOP, silence=0.01, to_the_end=to_the_end, on_progress=lambda _: None)
    assert caught.value.exit_code == EXIT_LATER


def test_who_has_heard_us_may_take_his_time() -> None:
    ours, theirs = packets.socket_pair()
    with theirs, Master(os.getpid(), ours) as master:
        packets.send(theirs, Progress(text="finishing"))

        def end(_: str) -> None:
            packets.send(theirs, Verdict(0))

        assert master.ask(Verb.QUIT, silence=5, to_the_end=True, on_progress=end) == Verdict(0)
        assert ours.gettimeout() is None


def test_a_master_that_ends_while_it_is_looked_at() -> None:
    assert verbs._owner_of(99999999) == os.geteuid()
