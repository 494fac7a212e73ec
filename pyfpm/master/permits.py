"""Who may ask what of the master, about which pools, and when: tables.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing; every (standing, verb) and (phase, verb) pair has a row, which a test proves. A refusal is a Permit.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from pyfpm.errors import EXIT_LATER, EXIT_NOT_PERMITTED, EXIT_USAGE
from pyfpm.master.lifecycle import Phase
from pyfpm.messages import Verb

if TYPE_CHECKING:
    from collections.abc import Mapping


class Standing(enum.Enum):
    """Who asks, in the eyes of the master."""

    MASTER = "root or the master's user"
    OWNER = "the user of a pool"
    STRANGER = "anybody else"


class Scope(enum.Enum):
    """What a question may be about."""

    NOTHING = "it may not be asked"
    OWN_POOLS = "the pools that run as the asker"
    ALL = "everything"


SCOPES: dict[tuple[Standing, Verb], Scope] = {
    **{(Standing.MASTER, verb): Scope.ALL for verb in Verb},
    (Standing.OWNER, Verb.STOP): Scope.NOTHING,
    (Standing.OWNER, Verb.QUIT): Scope.NOTHING,
    (Standing.OWNER, Verb.RELOAD): Scope.OWN_POOLS,
    (Standing.OWNER, Verb.RESTART): Scope.OWN_POOLS,
    (Standing.OWNER, Verb.LOGROTATE): Scope.NOTHING,
    (Standing.OWNER, Verb.UPGRADE): Scope.NOTHING,
    (Standing.OWNER, Verb.STATUS): Scope.OWN_POOLS,
    (Standing.OWNER, Verb.PING): Scope.OWN_POOLS,
    (Standing.OWNER, Verb.STACK): Scope.OWN_POOLS,
    **{(Standing.STRANGER, verb): Scope.NOTHING for verb in Verb},
}

# Why a verb has to wait, or comes too late; empty where it may be asked.
_STARTING = "the daemon is still starting, ask again when it has"
_STOPPING = "the daemon is stopping"
OBSTACLES: dict[tuple[Phase, Verb], str] = {
    (Phase.STARTING, Verb.STOP): "",
    (Phase.STARTING, Verb.QUIT): "",
    (Phase.STARTING, Verb.RELOAD): _STARTING,
    (Phase.STARTING, Verb.RESTART): _STARTING,
    (Phase.STARTING, Verb.LOGROTATE): "",
    (Phase.STARTING, Verb.UPGRADE): _STARTING,
    (Phase.STARTING, Verb.STATUS): "",
    (Phase.STARTING, Verb.PING): "",
    (Phase.STARTING, Verb.STACK): "",
    **{(Phase.RUNNING, verb): "" for verb in Verb},
    # STOP after QUIT is stronger, QUIT after STOP joins those who wait for the end.
    (Phase.FINISHING, Verb.STOP): "",
    (Phase.FINISHING, Verb.QUIT): "",
    (Phase.FINISHING, Verb.RELOAD): _STOPPING,
    (Phase.FINISHING, Verb.RESTART): _STOPPING,
    (Phase.FINISHING, Verb.LOGROTATE): "",
    (Phase.FINISHING, Verb.UPGRADE): _STOPPING,
    (Phase.FINISHING, Verb.STATUS): "",
    (Phase.FINISHING, Verb.PING): "",
    (Phase.FINISHING, Verb.STACK): "",
    (Phase.TERMINATING, Verb.STOP): "",
    (Phase.TERMINATING, Verb.QUIT): "",
    (Phase.TERMINATING, Verb.RELOAD): _STOPPING,
    (Phase.TERMINATING, Verb.RESTART): _STOPPING,
    (Phase.TERMINATING, Verb.LOGROTATE): "",
    (Phase.TERMINATING, Verb.UPGRADE): _STOPPING,
    (Phase.TERMINATING, Verb.STATUS): "",
    (Phase.TERMINATING, Verb.PING): "",
    (Phase.TERMINATING, Verb.STACK): "",
}

TAKES_POOLS = frozenset({Verb.RELOAD, Verb.RESTART, Verb.STATUS, Verb.PING, Verb.STACK})
# RELOAD may name a pool that only the new configuration has.
TAKES_RUNNING_POOLS = TAKES_POOLS - {Verb.RELOAD}


class Permit(NamedTuple):
    """What was granted: `pools` by name, none for all. Or why it was not, and the exit code that goes with it.

    `workers` are the pids of those workers that were named in place of their pools.
    """

    pools: tuple[str, ...] = ()
    workers: frozenset[int] = frozenset()
    everything: bool = False
    refusal: str = ""
    code: int = 0


class Circumstances(NamedTuple):
    """What the master knows when it is asked. `owners` has the uid that each pool runs as."""

    phase: Phase
    master_uid: int
    owners: Mapping[str, int]


def standing_of(uid: int, now: Circumstances) -> Standing:
    if uid in (0, now.master_uid):
        return Standing.MASTER
    return Standing.OWNER if uid in now.owners.values() else Standing.STRANGER


def judge(verb: Verb, pools: tuple[str, ...], everything: bool, uid: int, now: Circumstances) -> Permit:
    """Whether user `uid` may ask this now, and what it then is about."""
    scope = SCOPES[standing_of(uid, now), verb]
    if scope is Scope.NOTHING:
        return _deny(f"user {uid} may not ask for {verb.name.lower()}")
    if (pools or everything) and verb not in TAKES_POOLS:
        return Permit(refusal=f"{verb.name.lower()} is about the whole daemon and takes no pools", code=EXIT_USAGE)
    if scope is Scope.OWN_POOLS:
        own = tuple(name for name, owner in now.owners.items() if owner == uid)
        # One answer for another's pool and for none at all: names of other tenants are nobody's business.
        if everything or not set(pools) <= set(own):
            return _deny(f"user {uid} may ask for {verb.name.lower()} of its own pools only: {', '.join(own)}")
        pools = pools or own
    if obstacle := OBSTACLES[now.phase, verb]:
        return Permit(refusal=obstacle, code=EXIT_LATER)
    unknown = [name for name in pools if name not in now.owners]
    if unknown and verb in TAKES_RUNNING_POOLS:
        what = "pool or worker" if verb is Verb.STACK else "pool"
        return Permit(refusal=f"no such {what}: {', '.join(unknown)}", code=EXIT_USAGE)
    return Permit(pools, everything=everything)


def _deny(reason: str) -> Permit:
    return Permit(refusal=reason, code=EXIT_NOT_PERMITTED)
