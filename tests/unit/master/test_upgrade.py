"""An upgrade for which the system has nothing left: whoever asked is told, and nothing is kept open."""

from __future__ import annotations

import contextlib
import os
import resource
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pyfpm.master.control import Request
from pyfpm.master.loop import Loop
from pyfpm.master.upgrade import REFUSED, Upgrade
from pyfpm.messages import Message, Verb, Verdict
from pyfpm.packets import Sender

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("step", ["test", "exec"])
def test_without_descriptors_it_is_refused(step: str) -> None:
    told: list[Message] = []
    log = SimpleNamespace(error=lambda *_, **__: None, notice=lambda *_: None)
    daemon: Any = SimpleNamespace(
        loop=Loop(lambda: 0.0),
        log=log,
        pools=[],
        listeners=list,
        monitor=SimpleNamespace(close=lambda: None),
        notifier=SimpleNamespace(environment=dict),
    )
    control: Any = SimpleNamespace(listener=None, channel_of=lambda _: None)
    upgrade = Upgrade(daemon, None)
    upgrade.request(Request(Verb.UPGRADE, Sender(os.getpid(), os.geteuid(), 0), 0.0, told.append))
    before = os.listdir("/proc/self/fd")
    with no_descriptor_left():
        if step == "test":
            upgrade.reconcile(0.0, is_quiet=True)
        else:
            upgrade.replace_master(control)
    (verdict,) = told
    assert isinstance(verdict, Verdict)
    assert verdict.code == REFUSED
    assert "Too many open files" in verdict.text
    assert set(os.listdir("/proc/self/fd")) <= set(before), (
        "nothing is left open; what others left may be closed by now"
    )
    daemon.loop.close()
