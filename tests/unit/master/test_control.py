"""The control socket against clients of every kind: proper, silent, slow, gone, many, and mad."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfpm import messages, packets
from pyfpm.errors import EXIT_LATER, EXIT_NOT_PERMITTED, EXIT_USAGE
from pyfpm.logs.error_log import ErrorLog, Level
from pyfpm.logs.files import LogFile
from pyfpm.master import control
from pyfpm.master.control import Control, Request
from pyfpm.master.loop import Loop
from pyfpm.master.permits import Permit
from pyfpm.messages import Ask, Message, Progress, Verb, Verdict


class Desk:
    """A control socket on a loop of its own, driven by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.path = folder / "control.sock"
        self.log_path = folder / "log"
        self.loop = Loop(lambda: self.now)
        self.log = ErrorLog(Level.DEBUG, clock=lambda: 0.0)
        self.log.write_to(LogFile(str(self.log_path)))
        self.log.launched()
        self.requests: list[Request] = []
        self.permit = Permit()
        self.judged: list[tuple[Verb, tuple[str, ...], bool, int]] = []
        self.control = self.open()
        self.clients: list[socket.socket] = []

    def open(self, path: Path | None = None) -> Control:
        return Control(str(path or self.path), self.loop, self.log, permit=self._judge, on_request=self.requests.append)

    def _judge(self, verb: Verb, pools: tuple[str, ...], everything: bool, uid: int) -> Permit:
        self.judged.append((verb, pools, everything, uid))
        return self.permit

    def client(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.settimeout(5)
        made.connect(str(self.path))
        self.clients.append(made)
        return made

    def hears(self) -> bool:
        """Whether the loop looks at the listener."""
        return self.control.listener is not None and self.control.listener.fileno() in self.loop._selector.get_map()

    def turn(self, turns: int = 5) -> None:
        """A few turns of the loop, none of which waits."""
        for _ in range(turns):
            self.loop.wait(0)
            self.control.reconcile(self.now)

    def ask(self, verb: Verb = Verb.STATUS, *pools: str, everything: bool = False) -> tuple[socket.socket, Request]:
        """A client that has asked, and its request as the master has it."""
        made = self.client()
        packets.send(made, Ask(verb, int(everything), text="\n".join(pools)))
        self.turn()
        return made, self.requests[-1]

    def said(self) -> str:
        return self.log_path.read_text()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.control.close()
        self.loop.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def hear(client: socket.socket) -> list[Message]:
    """All that the master says until it hangs up."""
    heard = []
    while (received := packets.receive(client, messages.Speaker.MASTER_ANSWERS)) is not None:
        heard.append(received[0])
    return heard


def has_ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return packets.receive(client, messages.Speaker.MASTER_ANSWERS) is None
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


# ── a proper client ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_its_progress_and_its_verdict(desk: Desk) -> None:
    desk.permit = Permit(("www",))
    client, request = desk.ask(Verb.RELOAD, "www", "www")
    assert desk.judged == [(Verb.RELOAD, ("www",), False, os.getuid())]
    assert (request.verb, request.pools, request.everything, request.since) == (Verb.RELOAD, ("www",), False, 100.0)
    assert (request.peer.pid, request.peer.uid, request.peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    request.progress("half way")
    request.finish(3, "not quite")
    assert not request.is_open
    request.progress("too late")
    request.finish(0)
    assert hear(client) == [Progress(text="half way"), Verdict(3, text="not quite")]


def test_everything_may_be_asked_for(desk: Desk) -> None:
    desk.permit = Permit(everything=True)
    _, request = desk.ask(Verb.RELOAD, everything=True)
    assert (request.pools, request.everything) == ((), True)
    assert desk.judged[0][2] is True


def test_many_lines_come_in_few_messages(desk: Desk) -> None:
    client, request = desk.ask()
    lines = [f"{number} {'x' * 300}" for number in range(300)]
    request.answer(lines)
    request.answer([])
    request.finish(0)
    heard = hear(client)
    assert "\n".join(message.text for message in heard[:-1]).split("\n") == lines
    assert len(heard) < 6


def test_several_clients_wait_at_the_same_time(desk: Desk) -> None:
    waiting = [desk.ask(Verb.QUIT) for _ in range(3)]
    for number, (client, request) in enumerate(waiting):
        request.finish(number)
        assert hear(client) == [Verdict(number)]


def test_a_request_is_logged_with_who_asked(desk: Desk) -> None:
    desk.ask(Verb.STOP)
    desk.ask(Verb.STATUS)
    who = f"asked by uid {os.getuid()}, pid {os.getpid()}"
    assert f"NOTICE: pid {os.getpid()}, control: stop, {who}" in desk.said()
    assert f"DEBUG: pid {os.getpid()}, control: status, {who}" in desk.said()


def test_a_refusal_is_answered_and_logged(desk: Desk) -> None:
    desk.permit = Permit(refusal="not you", code=EXIT_NOT_PERMITTED)
    client = desk.client()
    packets.send(client, Ask(Verb.STOP, 0))
    desk.turn()
    assert hear(client) == [Verdict(EXIT_NOT_PERMITTED, text="not you")]
    assert desk.requests == []
    assert f"control: refused: stop, asked by uid {os.getuid()}, pid {os.getpid()}: not you" in desk.said()


@pytest.mark.parametrize("ask", [Ask(200, 0), Ask(0, 0), Ask(Verb.STATUS, 4)])
def test_what_only_another_version_knows(desk: Desk, ask: Ask) -> None:
    client = desk.client()
    packets.send(client, ask)
    desk.turn()
    (verdict,) = hear(client)
    assert isinstance(verdict, Verdict)
    assert verdict.code == EXIT_USAGE
    assert not desk.requests
    assert not desk.judged


# ── clients that are none ───────────────────────────────────────────────────────────────────────────────────────────


def test_who_does_not_ask_in_time_is_dropped(desk: Desk) -> None:
    silent, (asked, _) = desk.client(), desk.ask()
    desk.now += control.TIME_TO_ASK - 0.1
    desk.turn()
    assert not has_ended(silent)
    desk.now += 0.1
    desk.turn()
    assert has_ended(silent)
    assert not has_ended(asked)


def test_who_hangs_up_is_forgotten_and_what_he_asked_for_goes_on(desk: Desk) -> None:
    client, request = desk.ask(Verb.RELOAD)
    client.close()
    desk.turn()
    assert not request.is_open
    request.progress("nobody hears this")
    request.finish(0)


def test_who_does_not_read_is_dropped_and_never_waited_for(desk: Desk) -> None:
    _, request = desk.ask(Verb.RELOAD)
    for _ in range(10_000):
        request.progress("x" * 1000)
        if not request.is_open:
            break
    assert not request.is_open
    _, another = desk.ask()
    assert another.is_open


def test_an_answer_of_any_size_comes_as_it_is_read(desk: Desk) -> None:
    client, request = desk.ask()
    lines = [f"{number} {'x' * 5000}" for number in range(1000)]  # more than the socket takes at once
    request.answer(lines)
    request.finish(0, "that was all")
    assert request.is_open, "some of it is still to be read"
    heard: list[Message] = []
    client.setblocking(False)
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError):
            while (received := packets.receive(client, messages.Speaker.MASTER_ANSWERS)) is not None:
                heard.append(received[0])
        desk.turn(1)
        if heard and isinstance(heard[-1], Verdict):
            break
    assert "\n".join(message.text for message in heard[:-1]).split("\n") == lines
    assert heard[-1] == Verdict(0, text="that was all")
    assert has_ended(client)


def test_who_takes_nothing_for_long_is_dropped(desk: Desk) -> None:
    _, request = desk.ask()
    request.answer(["x" * 5000] * 1000)
    desk.turn()
    desk.now += control.TIME_TO_READ - 0.1
    desk.turn()
    assert request.is_open
    desk.now += 0.1
    desk.turn()
    assert not request.is_open


def test_who_hangs_up_in_the_middle_of_an_answer_is_forgotten(desk: Desk) -> None:
    client, request = desk.ask()
    request.answer(["x" * 5000] * 1000)
    client.close()
    desk.turn()
    assert not request.is_open


def test_a_second_question_ends_the_connection(desk: Desk) -> None:
    client, request = desk.ask(Verb.RELOAD)
    packets.send(client, Ask(Verb.STOP, 0))
    desk.turn()
    assert not request.is_open
    assert len(desk.requests) == 1


def test_descriptors_and_other_kinds_are_refused(desk: Desk) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for message in (messages.NewAccessLog(descriptors=(0,)), messages.Ready(0), Verdict(0)):
        client = desk.client()
        try:
            packets.send(client, message)
        except PermissionError:
            assert message.descriptors, "only descriptors are refused by the kernel"
            client.send(message.kind)
        desk.turn()
        assert has_ended(client)
        client.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert desk.requests == []


def test_there_are_only_so_many(desk: Desk) -> None:
    for _ in range(control.MOST_CLIENTS):
        desk.client()
        desk.turn(1)
    late = desk.client()
    desk.turn()
    (verdict,) = hear(late)
    assert isinstance(verdict, Verdict)
    assert verdict.code == EXIT_LATER
    desk.clients[0].close()
    desk.turn()
    _, request = desk.ask()
    assert request.is_open


def test_others_leave_room_for_root_and_for_one_another(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = iter([*[1000] * 5, *range(2000, 2000 + control.MOST_OTHERS), *[0] * control.MOST_CLIENTS])
    monkeypatch.setattr(packets, "peer_of", lambda _: packets.Sender(1, next(uids), 1))
    ended = []
    for _ in range(control.MOST_CLIENTS + 5 + 1):
        desk.client()
        desk.turn(1)
    ended = [number for number, client in enumerate(desk.clients) if has_verdict(client)]
    fifth_of_one, last_others = 4, list(range(control.MOST_OTHERS + 1, control.MOST_OTHERS + 5))
    roots = control.MOST_CLIENTS - control.MOST_OTHERS
    assert ended == [fifth_of_one, *last_others, *range(control.MOST_OTHERS + 5 + roots, control.MOST_CLIENTS + 6)]


def has_verdict(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        received = packets.receive(client, messages.Speaker.MASTER_ANSWERS)
    except BlockingIOError:
        return False
    return received is not None and isinstance(received[0], Verdict)


def test_nobody_can_fill_the_log(desk: Desk) -> None:
    desk.permit = Permit(refusal="no", code=EXIT_NOT_PERMITTED)
    for _ in range(3 * control.MOST_COMPLAINTS):
        client = desk.client()
        packets.send(client, Ask(Verb.STOP, 0))
        desk.turn()
    assert desk.said().count("refused") == control.MOST_COMPLAINTS
    assert desk.said().count("not logged for a minute") == 1
    desk.now += control.MINUTE
    client = desk.client()
    packets.send(client, Ask(Verb.STOP, 0))
    desk.turn()
    assert desk.said().count("refused") == control.MOST_COMPLAINTS + 1


def test_mad_clients_raise_nothing(desk: Desk) -> None:
    chance = random.Random(3)
    kinds = [kind.kind for kind in messages._KINDS.values()]
    for _ in range(600):
        desk.turn(1)
        client = desk.client()
        for _ in range(chance.randrange(4)):
            packet = chance.choice([b"", *kinds, *[Ask.kind] * 20]) + chance.randbytes(chance.choice((0, 1, 2, 9, 400)))
            descriptors = [0] * chance.choice((0, 0, 0, 1, 9))
            with contextlib.suppress(OSError):  # it hung up on us
                socket.send_fds(client, [packet], descriptors)
            if chance.random() < 0.5:
                desk.turn(1)
        if desk.requests and chance.random() < 0.5:
            chance.choice(desk.requests).finish(chance.randrange(256), "x")
        if chance.random() < 0.7:
            client.close()
        if chance.random() < 0.05:
            desk.now += control.TIME_TO_ASK
    desk.turn()
    for client in desk.clients:
        client.close()
    desk.turn(control.MOST_CLIENTS * 2)
    _, request = desk.ask()
    assert request.is_open


# ── the socket ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everybody_may_connect(desk: Desk) -> None:
    assert stat.S_IMODE(desk.path.stat().st_mode) == 0o666


def test_its_end_removes_the_socket_and_hangs_up(desk: Desk) -> None:
    client, request = desk.ask(Verb.STOP)
    desk.control.close()
    assert not desk.path.exists()
    assert hear(client) == []
    assert not request.is_open
    desk.control.close()


def test_what_another_has_put_there_since_stays(desk: Desk) -> None:
    desk.path.unlink()
    desk.path.write_text("mine")
    desk.control.close()
    assert desk.path.read_text() == "mine"


def test_a_left_over_is_replaced(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))
    second = desk.open(path)
    assert second.listener is not None
    second.close()
    assert "WARNING" not in desk.said()


def test_another_master_keeps_its_socket(desk: Desk) -> None:
    second = desk.open()
    assert second.listener is None
    assert f"no control socket ({desk.path}): another process listens there; signals work as ever" in desk.said()
    second.close()
    _, request = desk.ask()
    assert request.is_open


def test_a_pool_keeps_its_socket(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "pool.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as pool:
        pool.bind(str(path))
        pool.listen()
        assert desk.open(path).listener is None
    assert path.exists()


def test_a_file_is_not_overwritten(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    assert desk.open(path).listener is None
    assert path.read_text() == "precious"
    assert "it exists and is not a socket" in desk.said()


@pytest.mark.parametrize("name", ["no/such/folder.sock", "x" * 200])
def test_a_place_that_cannot_be_is_a_warning(desk: Desk, tmp_path: Path, name: str) -> None:
    second = desk.open(tmp_path / name)
    assert second.listener is None
    second.reconcile(desk.now)
    second.close()
    assert "WARNING" in desk.said()


def test_nowhere_is_no_warning(desk: Desk) -> None:
    nowhere = Control(None, desk.loop, desk.log, permit=desk._judge, on_request=desk.requests.append)
    nowhere.reconcile(desk.now)
    nowhere.close()
    assert "control" not in desk.said()


def test_the_next_master_takes_over_listener_and_client(desk: Desk) -> None:
    """As `upgrade` does over an exec: here the descriptors are duplicated within one process."""
    client, request = desk.ask(Verb.UPGRADE)
    channel, listener = desk.control.channel_of(request), desk.control.listener
    assert channel is not None
    assert listener is not None
    channel, listener = channel.dup(), listener.dup()
    desk.path.rename(desk.path.with_suffix(".kept"))  # closing is not what exec does
    desk.control.close()
    desk.path.with_suffix(".kept").rename(desk.path)
    desk.control = Control(
        str(desk.path), desk.loop, desk.log, permit=desk._judge, on_request=desk.requests.append, inherited=listener
    )
    adopted = desk.control.adopt(channel, Verb.UPGRADE, desk.now)
    adopted.finish(0, "upgraded")
    assert hear(client) == [Verdict(0, text="upgraded")]
    _, another = desk.ask()
    assert another.is_open


def test_when_descriptors_run_out_it_is_deaf_for_a_while_and_not_busy(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.client()

    class Exhausted:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

        def fileno(self) -> int:
            assert listener is not None
            return listener.fileno()

    listener = desk.control.listener
    with monkeypatch.context() as patch:
        patch.setattr(desk.control, "listener", Exhausted())
        desk.loop.wait(0)
    for _ in range(3):  # turns that come at once must not find it ready: that would be a loop without a pause
        desk.control.reconcile(desk.now)
        assert not desk.hears()
    desk.now += control.SHORTAGE_PAUSE
    desk.control.reconcile(desk.now)
    assert desk.hears()
    _, request = desk.ask()
    assert request.is_open
