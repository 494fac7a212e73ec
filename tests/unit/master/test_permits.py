"""Who may ask what, about which pools and when: the tables are total, and say what the documents say."""

from __future__ import annotations

from itertools import product

import pytest

from pyfpm.errors import EXIT_LATER, EXIT_NOT_PERMITTED, EXIT_USAGE
from pyfpm.master.lifecycle import Phase
from pyfpm.master.permits import (
    OBSTACLES,
    SCOPES,
    TAKES_POOLS,
    TAKES_RUNNING_POOLS,
    Circumstances,
    Permit,
    Standing,
    judge,
    standing_of,
)
from pyfpm.messages import Verb

ROOT, MASTER, WWW, SHOP, STRANGER = 0, 500, 33, 44, 99
OWNERS = {"www": WWW, "blog": WWW, "shop": SHOP}
RUNNING = Circumstances(Phase.RUNNING, MASTER, OWNERS)
OF_POOLS = {Verb.RELOAD, Verb.RESTART, Verb.STATUS, Verb.PING, Verb.STACK}


def test_the_tables_are_total() -> None:
    assert set(SCOPES) == set(product(Standing, Verb))
    assert set(OBSTACLES) == set(product(Phase, Verb))
    assert TAKES_RUNNING_POOLS < TAKES_POOLS == OF_POOLS


@pytest.mark.parametrize(
    ("uid", "standing"),
    [
        (ROOT, Standing.MASTER),
        (MASTER, Standing.MASTER),
        (WWW, Standing.OWNER),
        (SHOP, Standing.OWNER),
        (STRANGER, Standing.STRANGER),
        (-1, Standing.STRANGER),
    ],
)
def test_who_is_who(uid: int, standing: Standing) -> None:
    assert standing_of(uid, RUNNING) is standing


def test_a_pool_that_runs_as_the_masters_user_makes_nobody_less() -> None:
    assert standing_of(MASTER, Circumstances(Phase.RUNNING, MASTER, {"www": MASTER})) is Standing.MASTER


@pytest.mark.parametrize("uid", [ROOT, MASTER])
@pytest.mark.parametrize("verb", Verb)
def test_root_and_the_masters_user_may_ask_for_all(uid: int, verb: Verb) -> None:
    assert judge(verb, (), False, uid, RUNNING) == Permit()


@pytest.mark.parametrize("verb", OF_POOLS)
def test_root_may_name_pools_of_anybody(verb: Verb) -> None:
    assert judge(verb, ("www", "shop"), False, ROOT, RUNNING) == Permit(("www", "shop"))
    assert judge(verb, (), True, ROOT, RUNNING) == Permit(everything=True)


@pytest.mark.parametrize("verb", set(Verb) - OF_POOLS)
def test_what_is_about_the_daemon_takes_no_pools(verb: Verb) -> None:
    assert judge(verb, ("www",), False, ROOT, RUNNING).code == EXIT_USAGE
    assert judge(verb, (), True, ROOT, RUNNING).code == EXIT_USAGE


def test_only_a_reload_may_name_a_pool_that_does_not_run() -> None:
    assert judge(Verb.RELOAD, ("new",), False, ROOT, RUNNING) == Permit(("new",))
    for verb in TAKES_RUNNING_POOLS:
        permit = judge(verb, ("www", "new"), False, ROOT, RUNNING)
        assert permit.code == EXIT_USAGE
        assert permit.refusal in ("no such pool: new", "no such pool or worker: new")


@pytest.mark.parametrize("verb", OF_POOLS)
def test_an_owner_may_ask_about_what_is_his(verb: Verb) -> None:
    assert judge(verb, ("blog",), False, WWW, RUNNING) == Permit(("blog",))
    assert judge(verb, (), False, WWW, RUNNING) == Permit(("www", "blog"))
    assert judge(verb, (), False, SHOP, RUNNING) == Permit(("shop",))


@pytest.mark.parametrize("verb", OF_POOLS)
def test_an_owner_may_ask_about_nothing_else(verb: Verb) -> None:
    others = judge(verb, ("www", "shop"), False, WWW, RUNNING)
    nobodys = judge(verb, ("www", "nix"), False, WWW, RUNNING)
    everything = judge(verb, (), True, WWW, RUNNING)
    assert others == nobodys == everything
    assert others.code == EXIT_NOT_PERMITTED
    assert "shop" not in others.refusal


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("verb", Verb)
def test_nobody_else_may_do_anything(verb: Verb, phase: Phase) -> None:
    now = Circumstances(phase, MASTER, OWNERS)
    assert judge(verb, (), False, STRANGER, now).code == EXIT_NOT_PERMITTED
    if verb not in OF_POOLS:
        assert judge(verb, (), False, WWW, now).code == EXIT_NOT_PERMITTED


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RUNNING])
def test_what_changes_the_pools_has_to_wait_and_the_rest_has_not(phase: Phase) -> None:
    now = Circumstances(phase, MASTER, OWNERS)
    refused = {verb for verb in Verb if judge(verb, (), False, ROOT, now).code == EXIT_LATER}
    assert refused == {Verb.RELOAD, Verb.RESTART, Verb.UPGRADE}
