"""The listen queue as the kernel tells it, of real listeners; and what is unknown where it does not tell."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pyfpm.master import backlog
from pyfpm.master.backlog import Backlog, Queue, listen_queue, question, read_reply, sequence_of

LIMIT = 32


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def asked(stack: ExitStack) -> Backlog:
    return stack.enter_context(closing(Backlog()))


def listening(stack: ExitStack, kind: str, folder: Path) -> socket.socket:
    if kind == "unix":
        made = stack.enter_context(socket.socket(socket.AF_UNIX))
        made.bind(str(folder / "socket"))
        made.listen(LIMIT)
        return made
    family, host = (socket.AF_INET6, "::1") if kind == "tcp6" else (socket.AF_INET, "127.0.0.1")
    try:
        return stack.enter_context(socket.create_server((host, 0), family=family, backlog=LIMIT))
    except OSError as error:
        pytest.skip(f"no {kind} here: {error}")


def connect(stack: ExitStack, listener: socket.socket, times: int = 1) -> None:
    for _ in range(times):
        stack.enter_context(socket.socket(listener.family)).connect(listener.getsockname())


@pytest.mark.parametrize("kind", ["unix", "tcp4", "tcp6"])
class TestOfARealListener:
    def test_counts_those_who_wait(self, stack: ExitStack, asked: Backlog, kind: str, tmp_path: Path) -> None:
        listener = listening(stack, kind, tmp_path)
        assert asked.of(listener) == Queue(0, LIMIT)
        for waiting in (1, 2, 3):
            connect(stack, listener)
            assert asked.of(listener) == Queue(waiting, LIMIT)

    def test_forgets_those_who_were_accepted(self, stack: ExitStack, asked: Backlog, kind: str, tmp_path: Path) -> None:
        listener = listening(stack, kind, tmp_path)
        connect(stack, listener, 5)
        stack.enter_context(listener.accept()[0])
        assert asked.of(listener) == Queue(4, LIMIT)

    def test_knows_a_limit_that_was_changed(self, stack: ExitStack, asked: Backlog, kind: str, tmp_path: Path) -> None:
        listener = listening(stack, kind, tmp_path)
        listener.listen(7)
        assert asked.of(listener) == Queue(0, 7)

    def test_can_be_asked_once(self, stack: ExitStack, kind: str, tmp_path: Path) -> None:
        listener = listening(stack, kind, tmp_path)
        connect(stack, listener, 2)
        assert listen_queue(listener) == Queue(2, LIMIT)

    def test_does_not_know_a_socket_that_does_not_listen(
        self, stack: ExitStack, asked: Backlog, kind: str, tmp_path: Path
    ) -> None:
        listener = listening(stack, kind, tmp_path)
        with socket.socket(listener.family) as client:
            client.connect(listener.getsockname())
            assert asked.of(client) is None

    def test_does_not_know_a_closed_one(self, stack: ExitStack, asked: Backlog, kind: str, tmp_path: Path) -> None:
        listener = listening(stack, kind, tmp_path)
        listener.close()
        assert asked.of(listener) is None


def test_each_listener_has_its_own_queue(stack: ExitStack, asked: Backlog, tmp_path: Path) -> None:
    listeners = []
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        listeners.append(listening(stack, "unix", tmp_path / str(number)))
        connect(stack, listeners[-1], number)
    assert [asked.of(listener) for listener in listeners] == [Queue(number, LIMIT) for number in range(5)]


class TestUnknown:
    """Never 0 for what nobody told us."""

    @pytest.mark.parametrize("number", [errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EPERM])
    def test_without_netlink_only_tcp_is_known(
        self, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        unix, tcp = listening(stack, "unix", tmp_path), listening(stack, "tcp4", tmp_path)
        real = socket.socket

        def refuse(family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> socket.socket:
            if family == socket.AF_NETLINK:
                raise OSError(number, "not here")
            return real(family, kind, proto, fileno)

        monkeypatch.setattr(socket, "socket", refuse)
        with closing(Backlog()) as asked:
            assert asked.of(unix) is None
            assert asked.of(tcp) == Queue(0, LIMIT)

    def test_a_listener_that_the_kernel_denies_is_asked_for_once(
        self, stack: ExitStack, asked: Backlog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # An inode that does not exist: what a kernel without unix_diag, or another network namespace, answers too.
        listener = listening(stack, "unix", tmp_path)
        questions = []

        def of_nobody(inode: int, sequence: int) -> bytes:
            questions.append(inode)
            return question(0xFFFFFFF0, sequence)

        monkeypatch.setattr(backlog, "question", of_nobody)
        assert asked.of(listener) is None
        assert asked.of(listener) is None
        assert len(questions) == 1

    def test_one_that_is_denied_does_not_hide_the_others(
        self, stack: ExitStack, asked: Backlog, tmp_path: Path
    ) -> None:
        with socket.socket(socket.AF_UNIX) as unbound:
            assert asked.of(unbound) is None
        assert asked.of(listening(stack, "unix", tmp_path)) == Queue(0, LIMIT)

    def test_a_late_reply_is_not_taken_for_this_one(self, stack: ExitStack, asked: Backlog, tmp_path: Path) -> None:
        listener = listening(stack, "unix", tmp_path)
        netlink = asked._netlink
        assert netlink is not None
        netlink.send(question(0xFFFFFFF0, 0xFFFFFFFF))  # its reply stays unread
        assert asked.of(listener) == Queue(0, LIMIT)

    def test_after_close(self, stack: ExitStack, asked: Backlog, tmp_path: Path) -> None:
        asked.close()
        assert asked.of(listening(stack, "unix", tmp_path)) is None


class TestReply:
    HEAD = struct.pack("=BBBxIII", socket.AF_UNIX, socket.SOCK_STREAM, backlog.LISTENING, 9, 0, 0)

    def reply(self, body: bytes, kind: int = backlog.SOCK_DIAG_BY_FAMILY) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 3, 0) + body

    def test_the_queue_stands_behind_other_attributes(self) -> None:
        other = struct.pack("=HH5s3x", 9, 0, b"/path")
        queue = struct.pack("=HHII", 12, backlog.UNIX_DIAG_RQLEN, 3, 128)
        assert read_reply(self.reply(self.HEAD + other + queue)) == Queue(3, 128)

    def test_no_such_attribute(self) -> None:
        assert read_reply(self.reply(self.HEAD + struct.pack("=HHI", 8, 6, 0))) is None

    def test_an_attribute_without_length_does_not_hang_us(self) -> None:
        assert read_reply(self.reply(self.HEAD + bytes(40))) is None

    @pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM, errno.EINVAL])
    def test_an_error(self, number: int) -> None:
        assert read_reply(self.reply(struct.pack("=i", -number) + bytes(16), kind=2)) is None

    def test_its_sequence(self) -> None:
        assert sequence_of(self.reply(self.HEAD)) == 3
