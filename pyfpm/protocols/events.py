"""What a decoder has understood: one class for each thing that a peer can say.

Runs in: worker, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.

Plain classes with slots: dataclasses, enum and typing would cost each worker memory that no request needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Environ = dict[str, Any]
    Event = Union["Head", "Body", "End", "Abort", "Reply"]


class _Event:
    """Equal when of one class with equal fields: what tests compare."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> list[object]:
        return [getattr(self, name) for name in self.__slots__]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._fields() == self._fields()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._fields()))})"


class Head(_Event):
    """A request has come as far as its body. `keep`: the peer wants the connection back after the answer."""

    __slots__ = ("environ", "keep", "request_id")

    def __init__(self, environ: Environ, keep: bool, request_id: int) -> None:
        self.environ = environ
        self.keep = keep
        self.request_id = request_id


class Body(_Event):
    """A piece of the request's body, never empty."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class End(_Event):
    """The body is complete. What came after it belongs to the next request: `Decoder.rest()`."""

    __slots__ = ()


class Abort(_Event):
    """The peer no longer wants the request whose Head was given; it still has to be ended on the wire."""

    __slots__ = ()


class Reply(_Event):
    """Bytes to send at once, whatever else goes on; with `close`, the connection is to be closed after them."""

    __slots__ = ("close", "data")

    def __init__(self, data: bytes, close: bool = False) -> None:
        self.data = data
        self.close = close
