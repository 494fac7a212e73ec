"""Feed bytes to a decoder in every way that a network may cut them.

Runs in: tests.   Pure.
Fails by: AssertionError when two ways of cutting do not give the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfpm.errors import PeerError
from pyfpm.protocols import fastcgi
from pyfpm.protocols.events import Abort, Body, End, Head, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.protocols.events import Event

    Outcome = list[Event] | str
    """The events of all requests on the connection with pieces of bodies joined, or the words of the PeerError."""

BASE = {"wsgi.version": (1, 0)}
TAIL = b"\1\1\0\1\0"  # the beginning of one more request


def outcome(pieces: Iterable[bytes]) -> tuple[Outcome, bytes]:
    """What a worker would learn from these pieces, request after request, and the bytes nobody has used."""
    decoder = fastcgi.Decoder(BASE, connections=3)
    found: list[Event] = []
    for piece in pieces:
        data = piece
        while True:
            try:
                events = decoder.feed(data)
            except PeerError as error:
                return str(error), b""
            found += events
            if not events or not isinstance(events[-1], (End, Abort)):
                break
            data = decoder.rest()
            decoder = fastcgi.Decoder(BASE, connections=3)
    return joined(found), decoder.rest()


def joined(events: list[Event]) -> list[Event]:
    """Neighbouring pieces of a body as one; a Reply in between stays where it is."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, Body) and out and isinstance(out[-1], Body):
            out[-1] = Body(out[-1].data + event.data)
        else:
            out.append(event)
    return out


def shortcut(data: bytes) -> Outcome | None:
    """What `decode` makes of it; None when it leaves the bytes to the Decoder."""
    try:
        taken = fastcgi.decode(data, BASE)
    except PeerError as error:
        return str(error)
    if taken is None:
        return None
    environ, keep, request_id, body = taken
    return [Head(environ, keep, request_id), *([Body(body)] if body else []), End()]


def three_ways(data: bytes) -> Outcome:
    """Whole, byte by byte, and with a tail; and by the shortcut where that takes it. All must agree."""
    whole, rest = outcome([data])
    assert outcome(data[at : at + 1] for at in range(len(data))) == (whole, rest), "byte by byte"
    if not isinstance(whole, str) and not rest:  # behind an error or half a record, a tail would be something else
        assert outcome([data + TAIL]) == (whole, TAIL), "with a tail"
    short = shortcut(data)
    assert short is None or short == whole, "decode and Decoder differ"
    return whole


__all__ = ["BASE", "Abort", "Body", "End", "Head", "Reply", "joined", "outcome", "shortcut", "three_ways"]
