"""The control socket: who may ask, one question each, and the way back for the answer.

Runs in: master.
Fails by: nothing. Without a socket the daemon serves on, with a warning; a client that misbehaves is dropped.

A connection is one Ask, any number of Progress, one Verdict, the end. Anybody may connect (the socket's mode is 0666):
who it is, the kernel says (SO_PEERCRED), and master/permits.py says what he may have. No client is waited for: what
it has not read yet is kept for some seconds. One that does not ask in time, or does not read, loses its connection, and
what it has asked for goes on.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from pyfpm import catalogue, messages, packets
from pyfpm.errors import EXIT_LATER, EXIT_USAGE, MessageError
from pyfpm.master import socket_file
from pyfpm.messages import EVERYTHING, FLAGS, FULL, Ask, Progress, Speaker, Verb, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.catalogue import Code
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.master.loop import Loop
    from pyfpm.master.permits import Permit
    from pyfpm.master.socket_file import SocketFile

TIME_TO_ASK = 5.0  # seconds
MOST_CLIENTS = 32
MOST_OTHERS = 24  # who are neither root nor the master's user: some room is always left for those
MOST_OF_ONE = 4  # of each of those others
TIME_TO_READ = 5.0  # without taking anything
MOST_UNREAD = 8 << 20  # characters; the workers of a large pool with long requests are half of that
SEND_BUFFER = 1 << 20  # cut to net.core.wmem_max; what does not fit waits in the outbox
BATCH = 32 * 1024  # of lines in one message
SHORTAGE_PAUSE = 0.5  # seconds in which nobody is accepted after descriptors ran out
MOST_COMPLAINTS = 20  # logged a minute: nobody must be able to fill the log by asking
MINUTE = 60.0


class Request:
    """What one client asks for, once it may. `since` is when, by the loop's clock; `pools` is empty for all.

    For stacks some of the words in `pools` may be pids: those are in `workers` then, and no pool has such a name.
    """

    def __init__(
        self, verb: Verb, peer: packets.Sender, since: float, tell: Callable[[messages.Message], None]
    ) -> None:
        self.verb = verb
        self.peer = peer
        self.since = since
        self.pools: tuple[str, ...] = ()
        self.workers: frozenset[int] = frozenset()
        self.everything = False
        self.full = False
        self.is_open = True  # somebody still waits for the verdict
        self._tell = tell

    def __str__(self) -> str:
        about = f" {' '.join(self.pools)}" if self.pools else " --all" if self.everything else ""
        return f"{self.verb.name.lower()}{about}, asked by uid {self.peer.uid}, pid {self.peer.pid}"

    def progress(self, text: str) -> None:
        """Tell what happens on the way."""
        if self.is_open:
            self._tell(Progress(text=text))

    def answer(self, lines: list[str]) -> None:
        """Tell many lines, in as few messages as they fit."""
        batch: list[str] = []
        size = 0
        for line in lines:
            if size + len(line) > BATCH and batch:
                self.progress("\n".join(batch))
                batch, size = [], 0
            batch.append(line)
            size += len(line)
        if batch:
            self.progress("\n".join(batch))

    def finish(self, code: int, text: str = "") -> None:
        """Tell how it ended; nothing can be told after that."""
        if self.is_open:
            self._tell(Verdict(code, text=text))


class _Client:
    """A connection. `request` is there from when it has asked."""

    def __init__(self, channel: socket.socket, peer: packets.Sender, since: float) -> None:
        self.channel = channel
        self.peer = peer
        self.since = since
        self.request: Request | None = None
        self.outbox: deque[messages.Message] = deque()
        self.unread = 0  # characters in it
        self.waits_for_room = False
        self.stuck_since: float | None = None


class Control:
    """Listens at `path`, nowhere if that is None. `permit` judges a question, `on_request` gets those permitted.

    `inherited` is the listening socket of the master that this one replaces; see `listener`.
    """

    def __init__(
        self,
        path: str | None,
        loop: Loop,
        log: ErrorLog,
        *,
        permit: Callable[[Verb, tuple[str, ...], bool, int], Permit],
        on_request: Callable[[Request], None],
        inherited: socket.socket | None = None,
    ) -> None:
        self._loop = loop
        self._log = log
        self._permit = permit
        self._on_request = on_request
        self._path = path or ""
        self._clients: dict[int, _Client] = {}  # by descriptor
        self._deaf_until: float | None = None
        self._complaints = 0
        self._complaints_since = 0.0
        self._file: SocketFile | None = None
        self.listener: socket.socket | None = inherited or self._open()
        if self.listener is not None:
            self.listener.setblocking(False)
            packets.refuse_descriptors(self.listener)
            self._file = self._file or socket_file.adopt(self._path)
            loop.watch(self.listener.fileno(), self._accept)

    def _open(self) -> socket.socket | None:
        if not self._path:
            return None
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._file = socket_file.bind(made, self._path, 0o666)
            packets.refuse_descriptors(made)  # before anybody can connect
            made.listen(MOST_CLIENTS)
        except OSError as error:
            made.close()
            reason = error.strerror or str(error)
            text = f"no control socket ({self._path}): {reason}; signals work as ever"
            self._log.warning(catalogue.NO_CONTROL_SOCKET, text)
            return None
        return made

    def reconcile(self, now: float) -> None:
        """Once a turn: drop who does not ask and who does not read, and listen again after descriptors ran out."""
        for client in list(self._clients.values()):
            if client.outbox:
                client.stuck_since = client.stuck_since or now
                if now - client.stuck_since >= TIME_TO_READ:
                    self._forget(client)
            elif client.request is None and now - client.since >= TIME_TO_ASK:
                self._forget(client)
        if self._deaf_until is not None and self._deaf_until <= now and self.listener is not None:
            self._deaf_until = None
            self._loop.watch(self.listener.fileno(), self._accept)

    def adopt(self, channel: socket.socket, verb: Verb, now: float) -> Request:
        """Go on with a client that the master before this one, of the same pid, has left: its question is known."""
        client = self._welcome(channel, now)
        client.request = Request(verb, client.peer, now, lambda message: self._tell(client, message))
        return client.request

    def channel_of(self, request: Request) -> socket.socket | None:
        """The connection that a request came by, to be handed over; None if its client has gone."""
        return next((client.channel for client in self._clients.values() if client.request is request), None)

    def close(self) -> None:
        """Hang up on everybody, who take that for the end of the master; and remove the socket if it is ours."""
        for client in list(self._clients.values()):
            self._forget(client)
        if self.listener is None:
            return
        self._loop.forget(self.listener.fileno())
        if self._file is not None:
            self._file.remove()
        self.listener.close()
        self.listener = None

    # ── clients ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, now: float) -> None:
        """Take in whoever waits, within measure: the others of this turn are to have theirs."""
        try:
            for _ in range(MOST_CLIENTS):
                if self.listener is None:
                    return
                channel, _ = self.listener.accept()
                self._take_in(channel, now)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._complain(catalogue.CONTROL_DEAF, f"control: accept() failed: {error.strerror}", now)
            if self.listener is not None:
                self._loop.forget(self.listener.fileno())
                self._deaf_until = now + SHORTAGE_PAUSE

    def _take_in(self, channel: socket.socket, now: float) -> None:
        try:
            client = self._welcome(channel, now)
        except OSError:  # its end has gone already
            channel.close()
            return
        if self._is_crowded(client.peer.uid):
            self._tell(client, Verdict(EXIT_LATER, text="too many clients at the control socket"))

    def _welcome(self, channel: socket.socket, now: float) -> _Client:
        channel.setblocking(False)
        packets.refuse_descriptors(channel)  # of itself like its listener; not so if an older image has accepted it
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        client = _Client(channel, packets.peer_of(channel), now)
        self._clients[channel.fileno()] = client
        self._listen_to(client)
        return client

    def _listen_to(self, client: _Client) -> None:
        self._loop.watch(client.channel.fileno(), lambda now: self._hear(client, now))

    def _is_crowded(self, uid: int) -> bool:
        """Whether the newest client, of user `uid`, is one too many."""
        if len(self._clients) > MOST_CLIENTS:
            return True
        privileged = (0, os.geteuid())
        others = [client.peer.uid for client in self._clients.values() if client.peer.uid not in privileged]
        return uid not in privileged and (len(others) > MOST_OTHERS or others.count(uid) > MOST_OF_ONE)

    def _hear(self, client: _Client, now: float) -> None:
        try:
            speaker = Speaker.OPERATOR if client.request is None else Speaker.ANSWERED
            received = packets.receive(client.channel, speaker)
        except BlockingIOError:
            return
        except (MessageError, OSError) as error:
            text = f"control: uid {client.peer.uid}, pid {client.peer.pid} said nonsense: {error}"
            self._complain(catalogue.CONTROL_NONSENSE, text, now)
            received = None
        if received is None:
            self._forget(client)
            return
        ask = received[0]
        assert isinstance(ask, Ask)
        self._consider(client, ask, now)

    def _consider(self, client: _Client, ask: Ask, now: float) -> None:
        try:
            verb = Verb(ask.verb)
            if ask.flags & ~FLAGS:
                raise ValueError
        except ValueError:
            self._tell(client, Verdict(EXIT_USAGE, text="this pyfpm, of another version, does not know what that is"))
            return
        request = Request(verb, client.peer, now, lambda message: self._tell(client, message))
        request.full = bool(ask.flags & FULL)
        client.request = request
        pools = tuple(dict.fromkeys(name for name in ask.text.split("\n") if name))
        permit = self._permit(verb, pools, bool(ask.flags & EVERYTHING), client.peer.uid)
        request.pools, request.workers = permit.pools or pools, permit.workers
        request.everything = permit.everything
        if permit.refusal:
            self._complain(catalogue.CONTROL_REFUSED, f"control: refused: {request}: {permit.refusal}", now)
            request.finish(permit.code, permit.refusal)
            return
        if verb in (Verb.STATUS, Verb.PING, Verb.STACK):
            self._log.debug(f"control: {request}")
        else:
            self._log.notice(f"control: {request}")
        self._on_request(request)

    def _tell(self, client: _Client, message: messages.Message) -> None:
        client.outbox.append(message)
        client.unread += len(message.text)
        if len(client.outbox) == 1:
            self._deliver(client)
        elif client.unread > MOST_UNREAD:
            self._forget(client)

    def _deliver(self, client: _Client) -> None:
        """Send what there is room for; the rest when there is room again."""
        client.stuck_since = None
        try:
            while client.outbox:
                packets.send(client.channel, client.outbox[0])
                message = client.outbox.popleft()
                client.unread -= len(message.text)
                if isinstance(message, Verdict):
                    self._forget(client)
                    return
        except BlockingIOError:
            if not client.waits_for_room:
                client.waits_for_room = True
                self._loop.watch_room(client.channel.fileno(), lambda _now: self._deliver(client))
        except OSError:
            self._forget(client)
        else:
            if client.waits_for_room:
                client.waits_for_room = False
                self._loop.forget(client.channel.fileno())
                self._listen_to(client)

    def _forget(self, client: _Client) -> None:
        if client.request is not None:
            client.request.is_open = False
        descriptor = client.channel.fileno()
        if self._clients.pop(descriptor, None) is not None:
            self._loop.forget(descriptor)
            client.channel.close()

    def _complain(self, code: Code, text: str, now: float) -> None:
        if now - self._complaints_since >= MINUTE:
            self._complaints, self._complaints_since = 0, now
        self._complaints += 1
        if self._complaints <= MOST_COMPLAINTS:
            self._log.warning(code, text)
        if self._complaints == MOST_COMPLAINTS:
            self._log.warning(catalogue.CONTROL_FLOODED, "control: more of this is not logged for a minute")
