"""What the master does when it is asked on the control socket, and whom it lets ask.

Runs in: master.
Fails by: a Verdict to whoever asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from pyfpm.errors import EXIT_LATER, StartError
from pyfpm.master import permits
from pyfpm.master.accounts import uid_of
from pyfpm.master.lifecycle import Phase, Wish
from pyfpm.messages import Verb
from pyfpm.status.reports import PoolReport

if TYPE_CHECKING:
    from pyfpm.master.control import Request
    from pyfpm.master.daemon import Daemon
    from pyfpm.master.pools import Pool
    from pyfpm.master.reload import Reloads
    from pyfpm.master.upgrade import Upgrade

OWNERS_PAUSE = 2.0  # seconds between the reloads that the user of a pool may ask for
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
        self._asked: dict[int, float] = {}  # when each owner of a pool last wanted a reload
        self._uids: dict[str, int] = {}  # of the pools' users
        self._rotations: list[Request] = []  # finished once the workers have been told

    def permit(self, verb: Verb, pools: tuple[str, ...], everything: bool, uid: int) -> permits.Permit:
        owners = {pool.name: self._owner_of(pool) for pool in self._daemon.pools}
        return permits.judge(verb, pools, everything, uid, permits.Circumstances(self._phase(), os.geteuid(), owners))

    def serve(self, request: Request) -> None:
        """What has been asked by somebody who may. Whoever waits for the end of the daemon sees it as it comes."""
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
                chosen = [pool for pool in self._daemon.pools if not request.pools or pool.name in request.pools]
                request.answer([report_on(pool).line() for pool in chosen])
                request.finish(0)
            case Verb.PING:
                request.finish(0, self._daemon.status())
            case Verb.RELOAD | Verb.RESTART if self._is_too_soon(request):
                request.finish(EXIT_LATER, f"not again within {OWNERS_PAUSE:g} seconds")
            case Verb.RELOAD:
                self._reloads.request(request.since, request.pools, request.everything, request)
            case Verb.RESTART:
                self._reloads.request(request.since, request.pools, not request.pools, request)
            case Verb.UPGRADE:
                self._upgrade.request(request, request.since)
            case _:
                assert_never(request.verb)

    def reconcile(self) -> None:
        """The workers have their new descriptors in their mailboxes by now, and look there before their next line."""
        for request in self._rotations:
            request.finish(0, "logs re-opened")
        self._rotations.clear()

    def _is_too_soon(self, request: Request) -> bool:
        """A reload costs everybody processor time, so the user of a pool may not ask for one after the other."""
        uid = request.peer.uid
        if uid in (0, os.geteuid()):
            return False
        before, self._asked[uid] = self._asked.get(uid, -OWNERS_PAUSE), request.since
        return request.since - before < OWNERS_PAUSE

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


def report_on(pool: Pool) -> PoolReport:
    census = pool.current.census()
    tally = pool.figures.tally(pool)
    queue = pool.queue()
    return PoolReport(
        pool=pool.name,
        pm=pool.settings.pm,
        state=pool.state,
        generation=pool.current.number,
        idle=census.idle,
        busy=census.busy,
        total=pool.processes(),
        max=pool.settings.pm_max_children,
        requests=pool.requests(),
        queue=None if queue is None else queue.waiting,
        peak=max(pool.figures.max_active, census.busy),
        slow=tally.slow,
        recycled=tally.recycled,
        crashed=tally.crashed,
        killed=tally.killed,
        reload=pool.last_reload,
        trouble=pool.trouble,
    )
