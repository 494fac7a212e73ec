"""A fault of pyfpm's own in the midst of a reload, with the daemon played: it is refused, and not forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pyfpm.config.directives import Configuration, GlobalSettings
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master import reload
from pyfpm.master.control import Request
from pyfpm.master.job import ELSEWHERE
from pyfpm.master.reload import Reloads
from pyfpm.messages import Message, Verb, Verdict
from pyfpm.packets import Sender


class Desk:
    """Reloads of a daemon with one pool."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.said: list[Message] = []
        self.pool = SimpleNamespace(name="www", note_reload=self.notes.append)
        daemon = SimpleNamespace(
            pools=[self.pool],
            log=ErrorLog(clock=lambda: 0.0),
            notifier=SimpleNamespace(reloading=lambda _when: None, ready=lambda _status: None),
            launch=SimpleNamespace(config_path="", prefix=None, allow_root=False, pid=None),
            loop=None,
        )
        self.reloads = Reloads(cast("Any", daemon))

    def ask(self) -> None:
        self.reloads.request(100.0, by=Request(Verb.RELOAD, Sender(1, 0, 0), 100.0, self.said.append))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def fail(*_: object, **__: object) -> None:
    raise KeyError("a fault")


def test_a_fault_at_the_beginning_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "load", fail)
    with pytest.raises(KeyError):
        desk.ask()
    desk.reloads.reconcile(101.0)
    assert desk.said == [Verdict(1, text="the reload met a fault in pyfpm itself [PYFPM-300]")]
    assert desk.notes == [ELSEWHERE]
    assert not desk.reloads.is_busy


def test_a_fault_on_the_way_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "load", lambda *_, **__: Configuration(GlobalSettings(), ()))
    closed: list[bool] = []
    check = SimpleNamespace(findings=[SimpleNamespace()], close=lambda: closed.append(True))
    monkeypatch.setattr(reload, "Check", lambda *_, **__: check)
    desk.ask()
    assert desk.said == []
    with pytest.raises(AttributeError):
        desk.reloads.reconcile(101.0)
    assert [verdict.code for verdict in desk.said if isinstance(verdict, Verdict)] == [1]
    assert not desk.reloads.is_busy


def test_the_next_in_line_is_not_refused_for_the_one_before(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is met by the second; the first has been refused for its own reason already."""
    monkeypatch.setattr(reload, "load", lambda *_, **__: Configuration(GlobalSettings(), ()))
    monkeypatch.setattr(reload, "Check", lambda *_, **__: SimpleNamespace(findings=None, close=lambda: None))
    desk.ask()
    desk.ask()
    monkeypatch.setattr(reload, "load", fail)
    with pytest.raises(KeyError):
        desk.reloads.reconcile(101.0 + reload.CHECK_TIMEOUT)
    codes = [verdict.text.rpartition(" ")[2] for verdict in desk.said if isinstance(verdict, Verdict)]
    assert codes == ["[PYFPM-308]", "[PYFPM-300]"]
    assert not desk.reloads.is_busy
