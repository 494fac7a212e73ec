"""What only two looks together can tell."""

from __future__ import annotations

from pyfpm.cli.picture import Picture, compose
from pyfpm.cli.processes import Stat
from tests.unit.cli.examples import a_pool, a_worker


def look(before: Picture, taken: float, requests: int, cpu: float, master: int = 800, state: str = "R") -> Picture:
    stats = {912: Stat(state, master, cpu, 4096)}
    return compose(before, taken, master, [a_pool(requests=requests, slow_after=10.0)], [a_worker()], stats)


def test_rates_take_two_looks() -> None:
    first = look(Picture(), 100.0, 50, 1.0)
    assert (first.pools[0].rate, first.workers[0].cpu) == (None, None)
    second = look(first, 102.0, 60, 2.0)
    assert (second.pools[0].rate, second.workers[0].cpu) == (5.0, 0.5)


def test_another_master_counts_anew() -> None:
    second = look(look(Picture(), 100.0, 50, 1.0), 102.0, 60, 2.0, master=801)
    assert (second.pools[0].rate, second.workers[0].cpu) == (None, None)


def test_a_count_that_begins_again_has_no_rate() -> None:
    second = look(look(Picture(), 100.0, 50, 1.0), 102.0, 3, 0.1)
    assert (second.pools[0].rate, second.workers[0].cpu) == (None, None)


def test_what_the_kernel_does_not_tell_is_unknown() -> None:
    (worker,) = compose(Picture(), 1.0, 800, [a_pool()], [a_worker()], {}).workers
    assert (worker.cpu, worker.resident, worker.held) == (None, None, "")


def test_who_is_held_and_who_is_slow() -> None:
    (worker,) = look(Picture(), 1.0, 1, 1.0, state="T").workers
    assert worker.state == "Running, stopped"
    assert worker.is_slow
    (quick,) = compose(Picture(), 1.0, 800, [a_pool(slow_after=20.0)], [a_worker()], {}).workers
    assert not quick.is_slow
    (unlimited,) = compose(Picture(), 1.0, 800, [a_pool(slow_after=0.0)], [a_worker()], {}).workers
    assert not unlimited.is_slow
