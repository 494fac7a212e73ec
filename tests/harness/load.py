"""Clients that ask one request after the other, all the time, and remember what became of each.

Runs in: tests, in threads.
Fails by: WaitTimeout; what goes wrong with a request is counted, not raised.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.harness.fcgi_client import Connection, get_parameters
from tests.harness.waits import PATIENCE, WaitTimeout

if TYPE_CHECKING:
    from tests.harness.fcgi_client import Address


class Load:
    """A context: inside it the clients run, each request on a connection of its own.

    `answered` has (number, body) of every request that got a whole answer with status 200, `lost` has (number, what
    happened) of those that were sent and got none. `refused` counts the times that nobody listened. `begun` is the
    number of the last one that a client has set about.
    """

    def __init__(self, address: Address, path: str = "/pid", clients: int = 4) -> None:
        self.answered: list[tuple[int, bytes]] = []
        self.lost: list[tuple[int, str]] = []
        self.refused = 0
        self.begun = 0
        self._address = address
        self._path = path
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_answers(2 * len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait_answers(self, more: int, seconds: float = PATIENCE) -> None:
        """Wait for so many more answers than there are now."""
        with self._news:
            goal = len(self.answered) + more
            if not self._news.wait_for(lambda: len(self.answered) >= goal, seconds):
                raise WaitTimeout(f"not in {seconds:g} seconds: {more} answers; lost so far: {self.lost[-3:]}")

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._news:
                self.begun = number = self.begun + 1
            try:
                connection = Connection(self._address)
            except OSError:
                with self._news:
                    self.refused += 1
                self._stopping.wait(0.01)  # nobody listens: what is measured is how that ends, not how fast we ask
                continue
            with connection:
                outcome = self._ask(connection, number)
            with self._news:
                if isinstance(outcome, bytes):
                    self.answered.append((number, outcome))
                else:
                    self.lost.append((number, outcome))
                self._news.notify_all()

    def _ask(self, connection: Connection, number: int) -> bytes | str:
        try:
            answer = connection.request(get_parameters(self._path, f"n={number}"), keep=False)
        except (OSError, AssertionError) as error:
            return repr(error)
        if answer.status != 200 or answer.ended is None:
            return f"status {answer.status}, {'whole' if answer.ended else 'cut'}"
        return answer.body
