"""What the master has shown: pools and their scoreboards, each by its number.

Runs in: monitor.
Fails by: OSError when a scoreboard cannot be mapped. What a scoreboard says is gossip, and fails nobody.
"""

from __future__ import annotations

import json
import mmap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfpm.clients import Clients
from pyfpm.scoreboard import Scoreboard
from pyfpm.status.snapshot import take

if TYPE_CHECKING:
    from pyfpm import messages
    from pyfpm.status.snapshot import Snapshot


class ShownPool(NamedTuple):
    """A pool as ShowPool tells it. `boards` are numbers: that of the generation that serves, then all others."""

    name: str
    boards: list[int]
    status_path: str | None
    ping_path: str | None
    ping_response: str
    clients: Clients


class ShownBoard(NamedTuple):
    """The scoreboard of a generation, and the application that its workers run."""

    scoreboard: Scoreboard
    app: str


@dataclass(eq=False)
class Shown:
    """All pools, in the order in which they came."""

    pools: dict[int, ShownPool] = field(default_factory=dict)
    boards: dict[int, ShownBoard] = field(default_factory=dict)

    def add_board(self, shown: messages.ShowBoard) -> None:
        self.forget(shown.number)
        scoreboard = Scoreboard(shown.descriptors[0], shown.slots, mmap.PROT_READ)
        self.boards[shown.number] = ShownBoard(scoreboard, shown.text)

    def add_pool(self, shown: messages.ShowPool) -> None:
        members = json.loads(shown.text)
        self.pools[shown.number] = ShownPool(clients=Clients(members.pop("allowed_clients")), **members)

    def forget(self, number: int) -> None:
        self.pools.pop(number, None)
        if (board := self.boards.pop(number, None)) is not None:
            board.scoreboard.close()

    def admits(self, scope: int, peer: Any) -> bool:
        """Whether who connects from `peer` may ask for pool number `scope`."""
        return scope not in self.pools or self.pools[scope].clients.admits(peer)

    def visible(self, scope: int) -> list[ShownPool]:
        """The pools that may be seen by who asks for pool number `scope`, or for all if that is 0."""
        if scope:
            return [self.pools[scope]] if scope in self.pools else []
        return list(self.pools.values())

    def snapshot(self, pool: ShownPool, full: bool) -> Snapshot | None:
        """The pool now, with the workers of all its generations; None if it is not known well enough yet."""
        boards = [self.boards[number] for number in pool.boards if number in self.boards]
        if not boards:
            return None
        wall, now = time.time(), time.monotonic_ns()
        found = [take(board.scoreboard, pool.name, board.app, wall, now, full) for board in boards]
        # The facts of the board that serves have the counts of the others in them. A worker that the master has taken
        # over from an image before it has a slot and no pid.
        processes = [process for one in found for process in one.processes if process.pid]
        memory = sum([one.memory or 0 for one in found]) or None
        return found[0]._replace(processes=tuple(processes), memory=memory)
