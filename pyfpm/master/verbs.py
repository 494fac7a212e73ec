"""What the master does when it is asked on the control socket, and whom it lets ask.

Runs in: master.
Fails by: a Verdict to whoever asked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from pyfpm.errors import EXIT_LATER, StartError
from pyfpm.master import permits
from pyfpm.master.accounts import uid_of
from pyfpm.master.inquest import hold_inquest
from pyfpm.master.lifecycle import Phase, Wish
from pyfpm.master.reporting import report_on, report_on_worker, workers_of
from pyfpm.messages import Verb

if TYPE_CHECKING:
    from pyfpm.master.control import Request
    from pyfpm.master.daemon import Daemon
    from pyfpm.master.pools import Pool
    from pyfpm.master.reload import Reloads
    from pyfpm.master.upgrade import Upgrade

# Seconds between two questions of the user of a pool that cost everybody processor time. A look at all workers may come
# as often as `pyfpm top` looks when it is told to hurry.
OWNERS_RELOAD_PAUSE = 2.0
OWNERS_STACK_PAUSE = 1.0
OWNERS_LOOK_PAUSE = 0.1
NOBODY = -1  # no process has this uid


class Verbs:
    """`leave` makes the daemon stop by one of the two ways; `reopen_logs` returns what went wrong."""

    def __init__(
        self,
        daemon: Daemon,
        reloads: Reloads,
        upgrade: Upgrade,
        *,
        phase: Callable[[], Phase],
        leave: Callable[[Wish, float], None],
        reopen_logs: Callable[[], list[str]],
    ) -> None:
        self._daemon = daemon
        self._reloads = reloads
        self._upgrade = upgrade
        self._phase = phase
        self._leave = leave
        self._reopen_logs = reopen_logs
        self._granted: dict[tuple[int, Verb], float] = {}  # when each owner of a pool last got what costs something
        self._uids: dict[str, int] = {}  # of the pools' users
        self._rotations: list[Request] = []  # finished once the workers have been told

    def permit(self, verb: Verb, pools: tuple[str, ...], everything: bool, uid: int) -> permits.Permit:
        owners = {pool.name: self._owner_of(pool) for pool in self._daemon.pools}
        # Who names a worker asks about its pool.
        workers = self._workers_among(pools) if verb is Verb.STACK else {}
        about = tuple(workers.get(word, word) for word in pools)
        now = permits.Circumstances(self._phase(), os.geteuid(), owners)
        permit = permits.judge(verb, about, everything, uid, now)
        return permit._replace(pools=pools or permit.pools, workers=frozenset(map(int, workers)))

    def serve(self, request: Request) -> None:
        """What has been asked by somebody who may. Whoever waits for the end of the daemon sees it as it comes."""
        if pause := self._pause_before(request):
            request.finish(EXIT_LATER, f"not again within {pause:g} seconds")
            return
        match request.verb:
            case Verb.STOP:
                self._leave(Wish.TERMINATE, request.since)
                request.progress(self._phase().value)
            case Verb.QUIT:
                self._leave(Wish.FINISH, request.since)
                request.progress(self._phase().value)
            case Verb.LOGROTATE:
                self._rotate(request)
            case Verb.STATUS:
                self._tell_status(request)
            case Verb.STACK:
                hold_inquest(request, self._daemon.pools, request.since)
            case Verb.PING:
                self._tell_life(request)
            case Verb.RELOAD:
                self._reloads.request(request.since, request.pools, request.everything, request)
            case Verb.RESTART:
                self._reloads.request(request.since, request.pools, not request.pools, request)
            case Verb.UPGRADE:
                self._upgrade.request(request)
            case _:
                assert_never(request.verb)

    def reconcile(self) -> None:
        """The workers have their new descriptors in their mailboxes by now, and look there before their next line."""
        for request in self._rotations:
            request.finish(0, "logs re-opened")
        self._rotations.clear()

    def _tell_status(self, request: Request) -> None:
        lines = []
        for pool in self._chosen(request):
            lines.append(report_on(pool, request.since).line())
            if request.full:
                lines += [report_on_worker(*one, request.since).line() for one in workers_of(pool)]
        request.answer(lines)
        request.finish(0)

    def _tell_life(self, request: Request) -> None:
        """That it answers is the answer; or whether all of these pools serve."""
        down = [pool.name for pool in self._chosen(request) if not pool.can_serve]
        if request.pools and down:
            request.finish(1, f"not serving: {', '.join(down)}")
        elif self._phase() is Phase.RUNNING:
            request.finish(0, "serving" if request.pools else self._daemon.status())
        else:
            request.finish(0, f"the daemon is {self._phase().value}")

    def _chosen(self, request: Request) -> list[Pool]:
        return [pool for pool in self._daemon.pools if not request.pools or pool.name in request.pools]

    def _workers_among(self, words: tuple[str, ...]) -> dict[str, str]:
        """Those of the words that are the pid of a worker, and its pool. A word that names a pool is never a pid."""
        pids = {word for word in words if word.isdecimal() and self._daemon.pool(word) is None}
        if not pids:
            return {}
        pool_of = {str(child.pid): pool.name for pool in self._daemon.pools for _, child in workers_of(pool)}
        return {word: pool_of[word] for word in pids & pool_of.keys()}

    def _pause_before(self, request: Request) -> float:
        """The pause that this question has not kept to after the last of its kind; 0 where it may be answered."""
        uid, pause = request.peer.uid, _owners_pause(request)
        if not pause or uid in (0, os.geteuid()):
            return 0.0
        kind = (uid, Verb.RELOAD if request.verb is Verb.RESTART else request.verb)
        if request.since - self._granted.get(kind, -math.inf) < pause:
            return pause
        self._granted[kind] = request.since
        return 0.0

    def _rotate(self, request: Request) -> None:
        faults = self._reopen_logs()
        for fault in faults:
            request.progress(fault)
        if faults:
            request.finish(1, "some logs go on in their old files")
        else:
            self._rotations.append(request)

    def _owner_of(self, pool: Pool) -> int:
        """The uid of a pool's processes. Looked up once: a question must not make the master wait for a directory."""
        user = pool.settings.user
        if user is None or os.geteuid() != 0:
            return os.geteuid()
        if user not in self._uids:
            try:
                self._uids[user] = uid_of(user)
            except StartError:  # deleted since the start
                return NOBODY
        return self._uids[user]


def _owners_pause(request: Request) -> float:
    """What has to lie between two such questions of the user of a pool."""
    if request.verb in (Verb.RELOAD, Verb.RESTART):
        return OWNERS_RELOAD_PAUSE
    if request.verb is Verb.STACK:
        return OWNERS_STACK_PAUSE
    return OWNERS_LOOK_PAUSE if request.verb is Verb.STATUS and request.full else 0.0
