"""The way to syslog: datagrams to a socket of our own, which comes, goes and hangs."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfpm.catalogue import WORKER_DIED as CODE
from pyfpm.logs.error_log import ErrorLog
from pyfpm.logs.events import Manner
from pyfpm.logs.syslog import Syslog
from pyfpm.master.logfiles import open_error_log
from tests.unit.logs.test_error_log import NOW


class DevLog:
    """What a syslog daemon has of /dev/log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)

    def stop(self) -> None:
        self.socket.close()

    def take(self) -> list[str]:
        taken = []
        try:
            while True:
                taken.append(self.socket.recv(65536).decode())
        except BlockingIOError:
            return taken


@pytest.fixture
def dev_log(tmp_path: Path) -> Iterator[DevLog]:
    made = DevLog(tmp_path / "log")
    yield made
    made.stop()


@pytest.fixture
def syslog(dev_log: DevLog) -> Iterator[Syslog]:
    made = Syslog(str(dev_log.path))
    yield made
    made.close()


def test_messages_have_the_priority_of_their_level(dev_log: DevLog, syslog: Syslog) -> None:
    log = ErrorLog(clock=lambda: NOW)
    log.write_to(syslog)
    log.launched()
    log.speak(Manner(ident="sites", facility=16))
    log.notice("ready")
    log.error(CODE, "failed", pool="www", detail="why\nand how")
    head = f"Nov 21 20:52:49 sites[{os.getpid()}]: "
    assert dev_log.take() == [
        f"<133>{head}NOTICE: ready",
        *(f"<131>{head}ERROR: [pool www] {text}" for text in ("failed [PYFPM-411]", "why", "and how")),
    ]


def test_a_restarted_syslog_is_found_and_nothing_is_lost(dev_log: DevLog, syslog: Syslog) -> None:
    assert syslog.write(b"one\n")
    dev_log.stop()
    dev_log.start()
    assert syslog.write(b"two\n")
    assert dev_log.take() == ["two"]


def test_without_a_syslog_lines_are_counted_until_there_is_one(tmp_path: Path) -> None:
    syslog = Syslog(str(tmp_path / "log"))
    log = ErrorLog(clock=lambda: NOW)
    log.write_to(syslog)
    log.launched()
    log.notice("one")
    log.notice("two")
    dev_log = DevLog(tmp_path / "log")
    log.notice("three")
    shown = [re.sub(r"^.*?\]: ", "", line) for line in dev_log.take()]
    assert shown == [
        "NOTICE: three",
        f"WARNING: 2 log lines were lost: {tmp_path}/log: No such file or directory [PYFPM-603]",
    ]
    dev_log.stop()
    syslog.close()


def test_a_syslog_that_hangs_keeps_nobody_waiting(dev_log: DevLog, syslog: Syslog) -> None:
    sent = sum(syslog.write(b"x" * 1000) for _ in range(2000))
    assert 0 < sent < 2000
    assert syslog.lost == 2000 - sent
    assert len(dev_log.take()) == sent
    assert syslog.write(b"again\n")
    assert syslog.take_lost()[0] == 2000 - sent


def test_a_line_that_is_too_long_is_lost_and_the_next_is_not(dev_log: DevLog, syslog: Syslog) -> None:
    assert not syslog.write(b"x" * 10_000_000)
    assert syslog.write(b"short\n")
    assert dev_log.take() == ["short"]


def test_of_lines_that_come_together_each_is_a_datagram(dev_log: DevLog, syslog: Syslog) -> None:
    assert syslog.write(b"one\n\ntwo\n")
    assert dev_log.take() == ["one", "", "two"]
    assert not syslog.write(b"one\n" + b"x" * 10_000_000 + b"\ntwo\n")
    assert dev_log.take() == ["one", "two"]
    assert syslog.take_lost()[0] == 1


def test_of_lines_that_come_together_all_that_are_lost_are_counted(tmp_path: Path) -> None:
    syslog = Syslog(str(tmp_path / "log"))
    assert not syslog.write(b"one\ntwo\nthree\n")
    assert syslog.take_lost()[0] == 3


def test_the_word_is_no_path() -> None:
    assert isinstance(open_error_log("syslog"), Syslog)
