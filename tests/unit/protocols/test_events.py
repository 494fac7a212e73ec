"""Events compare by what they say, so that tests can."""

from __future__ import annotations

import pytest

from pyfpm.protocols.events import Abort, Body, End, Reply


def test_equal_when_they_say_the_same() -> None:
    assert Body(b"a") == Body(b"a")
    assert Body(b"a") != Body(b"b")
    assert End() == End()
    assert End() != Abort()
    assert Reply(b"") != Reply(b"", close=True)


def test_shown_with_their_fields() -> None:
    assert repr(Reply(b"x", close=True)) == "Reply(True, b'x')"


def test_not_hashable_and_without_a_dict() -> None:
    with pytest.raises(TypeError):
        hash(End())
    with pytest.raises(AttributeError):
        End().anything = 1  # type: ignore[attr-defined]
