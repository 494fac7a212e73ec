"""What the user of a pool may ask how often, and what a word means that could be a pool or a worker."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pyfpm import packets
from pyfpm.errors import EXIT_LATER
from pyfpm.master.control import Request
from pyfpm.master.lifecycle import Phase
from pyfpm.master.permits import Permit
from pyfpm.master.verbs import OWNERS_LOOK_PAUSE, OWNERS_RELOAD_PAUSE, OWNERS_STACK_PAUSE, Verbs
from pyfpm.messages import Message, Verb, Verdict

OWNER, OTHER = 64001, 64002


class Desk:
    """Verbs over pools without workers; reloads are answered at once."""

    def __init__(self, **workers: list[int]) -> None:
        pools = [
            SimpleNamespace(
                name=name.strip("_"),
                settings=SimpleNamespace(user=None),
                generations=lambda pids=pids: [SimpleNamespace(children=[SimpleNamespace(pid=pid) for pid in pids])],
            )
            for name, pids in workers.items()
        ]
        daemon = SimpleNamespace(pools=pools, pool={pool.name: pool for pool in pools}.get)
        reloads = SimpleNamespace(request=lambda *asked: asked[-1].finish(0))
        self.verbs = Verbs(
            cast("Any", daemon),
            cast("Any", reloads),
            cast("Any", None),
            phase=lambda: Phase.RUNNING,
            leave=lambda *_: None,
            reopen_logs=list,
        )

    def ask(self, verb: Verb, at: float, *, uid: int = OWNER, full: bool = False) -> int:
        """The exit code of a question that may be asked."""
        said: list[Message] = []
        request = Request(verb, packets.Sender(1, uid, uid), at, said.append)
        request.full, request.everything = full, True
        self.verbs.serve(request)
        (verdict,) = said
        assert isinstance(verdict, Verdict)
        return verdict.code


@pytest.mark.parametrize(
    ("verb", "full", "pause"),
    [
        (Verb.RELOAD, False, OWNERS_RELOAD_PAUSE),
        (Verb.RESTART, False, OWNERS_RELOAD_PAUSE),
        (Verb.STACK, False, OWNERS_STACK_PAUSE),
        (Verb.STATUS, True, OWNERS_LOOK_PAUSE),
    ],
)
def test_the_user_of_a_pool_pauses_between_two_questions_that_cost(verb: Verb, full: bool, pause: float) -> None:
    desk = Desk()
    assert desk.ask(verb, 100.0, full=full) == 0
    assert desk.ask(verb, 100.0 + pause * 0.9, full=full) == EXIT_LATER
    assert desk.ask(verb, 100.0 + pause * 0.9, full=full, uid=OTHER) == 0
    assert desk.ask(verb, 100.0 + pause * 1.1, full=full) == 0, "what was refused does not count"


@pytest.mark.parametrize(
    ("verb", "full", "uid"), [(Verb.STACK, True, 0), (Verb.STATUS, True, 0), (Verb.STATUS, False, OWNER)]
)
def test_root_and_what_is_cheap_have_no_pause(verb: Verb, full: bool, uid: int) -> None:
    desk = Desk()
    assert [desk.ask(verb, 100.0, full=full, uid=uid) for _ in range(5)] == [0] * 5


def test_a_restart_is_no_way_round_the_pause_of_a_reload() -> None:
    desk = Desk()
    assert desk.ask(Verb.RELOAD, 100.0) == 0
    assert desk.ask(Verb.RESTART, 100.5) == EXIT_LATER


def test_a_word_that_names_a_pool_is_never_a_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(www=[4711, 4712], _4711=[4800])
    monkeypatch.setattr(os, "geteuid", lambda: OWNER)
    words = ("4711", "4712")
    permit = desk.verbs.permit(Verb.STACK, words, False, OWNER)
    assert permit == Permit(words, frozenset({4712}))
    assert desk.verbs.permit(Verb.STACK, ("04712",), False, OWNER).refusal == "no such pool or worker: 04712"
