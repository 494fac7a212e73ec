"""What is said: every sentence between master, template, worker, monitor and operator, and who may say it when.

Runs in: every process, Python 3.9 and up.   Pure: bytes in, bytes out; the socket is packets.py's.
Fails by: MessageError for anything that is not one of the sentences below.

A message is a kind byte, a fixed struct, and for some kinds UTF-8 text to the end; descriptors come beside it.
What a template or worker says is gossip: it is decoded into one of these types, bounded, or refused; nothing is
unpickled.

Descriptors go from the master to others, never to the master. PERMITTED is the table of who may say what, and when.
"""

from __future__ import annotations

import enum
import struct

from pyfpm.errors import MessageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

LARGEST_TEXT = 96 * 1024  # a packet must fit the socket's send buffer, 208 KiB by default
MOST_DESCRIPTORS = 5


class Message:
    """One sentence. Subclasses name their numbers in `__slots__`; `text` and `descriptors` are there if declared."""

    kind: ClassVar[bytes]
    layout: ClassVar[struct.Struct] = struct.Struct("<")
    fields: ClassVar[tuple[str, ...]] = ()
    has_text: ClassVar[bool] = False
    descriptors_allowed: ClassVar[tuple[int, int]] = (0, 0)

    def __init__(self, *numbers: int, text: str = "", descriptors: tuple[int, ...] = ()) -> None:
        for name, number in zip(self.fields, numbers):
            setattr(self, name, number)
        self.text = text
        self.descriptors = descriptors

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(getattr(self, name) for name in self.fields)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Message)
            and type(self) is type(other)
            and (self.numbers, self.text, self.descriptors) == (other.numbers, other.text, other.descriptors)
        )

    __hash__ = None  # type: ignore[assignment]  # compared in tests, never a key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.numbers}, text={self.text[:80]!r}, descriptors={self.descriptors})"


# ── master to template ──────────────────────────────────────────────────────────────────────────────────────────────


class Greeting(Message):
    """The pool's settings as JSON (text); listener, scoreboard and bell (descriptors). Always the first."""

    kind = b"G"
    has_text = True
    descriptors_allowed = (3, 3)


class ForkWorker(Message):
    """Fork a worker for `slot`, which must answer reload_probe before it is ready if `must_prove_itself`.

    Descriptors: its mailbox, stdout, stderr; the trace pipe and the access log, each if there is one.
    """

    kind = b"F"
    layout = struct.Struct("<IB")
    fields = ("slot", "must_prove_itself")
    descriptors_allowed = (3, 5)
    slot: int
    must_prove_itself: int


class AskFiles(Message):
    """Have the files changed that the application was loaded from?"""

    kind = b"C"


# ── template to master ──────────────────────────────────────────────────────────────────────────────────────────────


class Loaded(Message):
    """The template can fork workers now; `text` says what is worth a line in the log, or nothing."""

    kind = b"L"
    has_text = True


class Unclean(Message):
    """Importing the application left something behind that does not survive a fork; `text` says what and whose."""

    kind = b"U"
    has_text = True


class FilesChanged(Message):
    """The answer to AskFiles: `text` is a file that has changed, or why that cannot be told; empty for no."""

    kind = b"D"
    has_text = True


class ForkFailed(Message):
    """No worker for `slot`: fork(2) said `error`."""

    kind = b"E"
    layout = struct.Struct("<Ii")
    fields = ("slot", "error")
    slot: int
    error: int


# ── template or worker to master ────────────────────────────────────────────────────────────────────────────────────


class LoadFailed(Message):
    """The application, or the way to it, cannot be loaded; `text` is the reason, then the traceback.

    `code` is its number in the catalogue.
    """

    kind = b"X"
    layout = struct.Struct("<H")
    fields = ("code",)
    has_text = True
    code: int


class Said(Message):
    """Something for the error log: `level` as in logs.events, `text` of one line or several.

    `code` is its number in the catalogue; 0 for what has none.
    """

    kind = b"S"
    layout = struct.Struct("<BH")
    fields = ("level", "code")
    has_text = True
    level: int
    code: int


# ── worker to master ────────────────────────────────────────────────────────────────────────────────────────────────


class Born(Message):
    """A worker is the master's child now. Its pid is in the credentials, so it cannot be made up."""

    kind = b"B"


class Ready(Message):
    """The worker has the application and accepts connections.

    `main_thread` is how stack dumps name its main thread; 0 if it cannot be asked for one.
    """

    kind = b"R"
    layout = struct.Struct("<Q")
    fields = ("main_thread",)
    main_thread: int


class Outlived(Message):
    """The worker has reached a limit (`text` says which, with figures) and leaves when the master says so."""

    kind = b"O"
    has_text = True


# ── master to worker ────────────────────────────────────────────────────────────────────────────────────────────────


class NewAccessLog(Message):
    """Write the access log to this descriptor from now on."""

    kind = b"A"
    descriptors_allowed = (1, 1)


class GiveUp(Message):
    """The peer of request `number` has been silent too long: give it up, if it is still the one in hand."""

    kind = b"T"
    layout = struct.Struct("<Q")
    fields = ("number",)
    number: int


class TimedOut(Message):
    """Request `number` has had its time: end it, if it is still the one in hand."""

    kind = b"M"
    layout = struct.Struct("<Q")
    fields = ("number",)
    number: int


# ── master to monitor ───────────────────────────────────────────────────────────────────────────────────────────────


class ShowBoard(Message):
    """Board `number` is this scoreboard of so many slots; `text` is the application whose workers are on it.

    What is shown is numbered by the master; showing a number again replaces what it was.
    """

    kind = b"b"
    layout = struct.Struct("<QI")
    fields = ("number", "slots")
    has_text = True
    descriptors_allowed = (1, 1)
    number: int
    slots: int


class ShowPool(Message):
    """Pool `number` is as the JSON in `text` says; see monitor/shown.py for its members."""

    kind = b"p"
    layout = struct.Struct("<Q")
    fields = ("number",)
    has_text = True
    number: int


class ShowListener(Message):
    """Answer on this listening socket, for pool number `pool`; for all of them if that is 0."""

    kind = b"l"
    layout = struct.Struct("<QQ")
    fields = ("number", "pool")
    descriptors_allowed = (1, 1)
    number: int
    pool: int


class Forget(Message):
    """What was shown as `number` is no more."""

    kind = b"f"
    layout = struct.Struct("<Q")
    fields = ("number",)
    number: int


# ── operator to master, over the control socket ─────────────────────────────────────────────────────────────────────


class Verb(enum.IntEnum):
    """What may be asked of a master. The numbers are spoken between two versions of pyfpm: none is ever reused."""

    STOP = 1
    QUIT = 2
    RELOAD = 3
    RESTART = 4
    LOGROTATE = 5
    UPGRADE = 6
    STATUS = 7
    PING = 8
    STACK = 9


# Of Ask.flags:
EVERYTHING = 0x01  # every pool, changed or not
FULL = 0x02  # of STATUS: the workers too; of STACK: the idle ones too
FLAGS = EVERYTHING | FULL


class Ask(Message):
    """The one question of a connection: a Verb, flags, and in `text` the pools that it is about, one a line.

    Of STACK, a pid of a worker may stand for a pool.
    """

    kind = b"Q"
    layout = struct.Struct("<BB")
    fields = ("verb", "flags")
    has_text = True
    verb: int
    flags: int


# ── master to operator ──────────────────────────────────────────────────────────────────────────────────────────────


class Progress(Message):
    """Something that happened on the way to the verdict, in words for people; of STATUS and STACK the answer."""

    kind = b"P"
    has_text = True


class Verdict(Message):
    """How it ended: the exit code for whoever asked, and why. Nothing comes after it."""

    kind = b"V"
    layout = struct.Struct("<B")
    fields = ("code",)
    has_text = True
    code: int


class Speaker(enum.Enum):
    """Who speaks to us, and how far it has come."""

    NEW_TEMPLATE = "a template that loads"
    TEMPLATE = "a template that forks"
    ORDERED_WORKER = "a worker before its birth"
    NEW_WORKER = "a worker that loads"
    WORKER = "a worker that serves"
    INHERITED_WORKER = "a worker of the image before this one"
    FAILED = "a process that has failed"
    OPERATOR = "an operator"
    ANSWERED = "an operator that has asked"
    MASTER_GREETS = "a master to a new template"
    MASTER_ORDERS = "a master to its template"
    MASTER_POSTS = "a master to a worker"
    MASTER_SHOWS = "a master to its monitor"
    MASTER_ANSWERS = "a master to an operator"


# What each may say, and who it is then. What is not here ends the conversation.
PERMITTED: dict[Speaker, dict[type[Message], Speaker]] = {
    Speaker.NEW_TEMPLATE: {
        Loaded: Speaker.TEMPLATE,
        Unclean: Speaker.FAILED,
        LoadFailed: Speaker.FAILED,
        Said: Speaker.NEW_TEMPLATE,
    },
    Speaker.TEMPLATE: {
        ForkFailed: Speaker.TEMPLATE,
        FilesChanged: Speaker.TEMPLATE,
        Said: Speaker.TEMPLATE,
    },
    Speaker.ORDERED_WORKER: {Born: Speaker.NEW_WORKER},
    Speaker.NEW_WORKER: {Ready: Speaker.WORKER, LoadFailed: Speaker.FAILED, Said: Speaker.NEW_WORKER},
    Speaker.WORKER: {Outlived: Speaker.WORKER, Said: Speaker.WORKER},
    # How far it had come is not handed over.
    Speaker.INHERITED_WORKER: {
        Ready: Speaker.WORKER,
        LoadFailed: Speaker.FAILED,
        Outlived: Speaker.WORKER,
        Said: Speaker.INHERITED_WORKER,
    },
    Speaker.FAILED: {Said: Speaker.FAILED},
    Speaker.OPERATOR: {Ask: Speaker.ANSWERED},
    Speaker.ANSWERED: {},
    Speaker.MASTER_GREETS: {Greeting: Speaker.MASTER_ORDERS},
    Speaker.MASTER_ORDERS: {ForkWorker: Speaker.MASTER_ORDERS, AskFiles: Speaker.MASTER_ORDERS},
    Speaker.MASTER_POSTS: {
        NewAccessLog: Speaker.MASTER_POSTS,
        GiveUp: Speaker.MASTER_POSTS,
        TimedOut: Speaker.MASTER_POSTS,
    },
    Speaker.MASTER_SHOWS: {
        ShowBoard: Speaker.MASTER_SHOWS,
        ShowPool: Speaker.MASTER_SHOWS,
        ShowListener: Speaker.MASTER_SHOWS,
        Forget: Speaker.MASTER_SHOWS,
    },
    Speaker.MASTER_ANSWERS: {Progress: Speaker.MASTER_ANSWERS, Verdict: Speaker.MASTER_ANSWERS},
}

_KINDS = {kind.kind: kind for permitted in PERMITTED.values() for kind in permitted}


def encode(message: Message) -> bytes:
    """The packet for `message`. A text over LARGEST_TEXT bytes loses its middle: both ends of a traceback matter."""
    text = message.text.encode("utf-8", "replace")
    if len(text) > LARGEST_TEXT:
        half = LARGEST_TEXT // 2 - 16
        text = text[:half] + b"\n[...]\n" + text[-half:]
    return message.kind + message.layout.pack(*message.numbers) + text


def decode(packet: bytes, descriptors: tuple[int, ...] = (), speaker: Speaker | None = None) -> Message:
    """The message in `packet`; MessageError for everything else, whatever the bytes are."""
    shape = _KINDS.get(packet[:1])
    if shape is None:
        raise MessageError(f"unknown kind of message {packet[:1]!r}")
    if speaker is not None and shape not in PERMITTED[speaker]:
        raise MessageError(f"{shape.__name__}, which {speaker.value} may not say")
    fixed = 1 + shape.layout.size
    if len(packet) < fixed:
        raise MessageError(f"{shape.__name__} of {len(packet)} bytes, at least {fixed} expected")
    text = packet[fixed:]
    if len(text) > (LARGEST_TEXT if shape.has_text else 0):
        raise MessageError(f"{shape.__name__} with {len(text)} bytes of text")
    least, most = shape.descriptors_allowed
    if not least <= len(descriptors) <= most:
        raise MessageError(f"{shape.__name__} with {len(descriptors)} descriptors")
    numbers = shape.layout.unpack_from(packet, 1)
    return shape(*numbers, text=text.decode("utf-8", "replace"), descriptors=descriptors)
