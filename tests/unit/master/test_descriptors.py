"""Where descriptors run out half-way, what was opened before is closed again."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import subprocess
import sys

import pytest

from pyfpm.config.directives import PoolSettings
from pyfpm.config.values import Address
from pyfpm.master import processes
from pyfpm.master.spawn import start_template
from pyfpm.scoreboard import Scoreboard
from tests.harness.sockets import open_descriptors


def exhausted(*_: object) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


def test_a_scoreboard_that_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many"):  # noqa: PT012
        patch.setattr(mmap, "mmap", exhausted)
        Scoreboard.create("www", 4)
    assert open_descriptors() == before


def test_a_template_without_its_second_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Scoreboard.create("www", 4)
    before = open_descriptors()
    pipe, asked = os.pipe, iter([False, True])
    with monkeypatch.context() as patch, socket.socket() as listener, pytest.raises(OSError, match="Too many"):  # noqa: PT012
        patch.setattr(os, "pipe", lambda: exhausted() if next(asked) else pipe())
        start_template(
            PoolSettings(name="www", app="a:b", listen=Address("unix", path="/x"), pm="static", pm_max_children=1),
            listener=listener, scoreboard=board, bell=0, generation=1, preload="no", alarm_below=0,
            is_watched=False, time_to_leave=30.0,
        )  # fmt: skip
    assert open_descriptors() == before
    board.close()


def test_who_has_ended_is_no_stranger() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert not processes.is_stranger(ended.pid), "it is a child, be it a zombie"
    ended.wait()
    assert not processes.is_stranger(ended.pid), "it was one"
    assert processes.is_stranger(os.getppid())
    assert processes.is_stranger(0), "of another pid namespace"
