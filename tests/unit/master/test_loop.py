"""The loop reminds: once, in time, and never of what is forgotten."""

from __future__ import annotations

from pyfpm.master.loop import Loop


def test_reminders() -> None:
    now = 100.0
    loop = Loop(lambda: now)
    heard: list[float] = []
    other: list[float] = []
    loop.remind(heard.append, 100.5)
    loop.remind(other.append, 100.2)
    loop.wait(0)
    assert heard == []
    now = 101.0
    loop.forget_reminder(other.append)
    loop.wait(60.0)
    assert heard == [101.0], "and it did not wait for a minute"
    loop.remind(heard.append, 101.5)
    loop.remind(heard.append, 103.0)
    now = 102.0
    loop.wait(0)
    now = 103.0
    loop.wait(0)
    loop.wait(0)
    assert heard == [101.0, 103.0]
    assert other == []
    loop.close()
