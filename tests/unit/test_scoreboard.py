"""The scoreboard: what a worker writes the master reads; and what a hostile worker writes hurts nobody."""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfpm import facts
from pyfpm.histogram import observe
from pyfpm.master.tally import Tally
from pyfpm.scoreboard import (
    FINISHING,
    FREE,
    IDLE,
    NUMBER,
    READING,
    RUNNING,
    SERVED,
    SINCE,
    SLOT_SIZE,
    STAGE_NAMES,
    Scoreboard,
    Slot,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create("www", 70)  # more than a cache line of stages
    yield made
    made.close()


def idle(board: Scoreboard, *slots: int) -> None:
    for slot in slots:
        board.show(slot, IDLE)


def test_what_a_worker_writes_the_master_reads(board: Scoreboard) -> None:
    theirs = Scoreboard(os.dup(board.descriptor), 70)
    slot = Slot(theirs, 69)
    slot.stages[slot.own] = RUNNING
    slot.numbers[SINCE], slot.numbers[NUMBER], slot.numbers[SERVED] = 5, 6, 7
    slot.show_request("GET", "/a/b?c=d", None)
    seen = board.read_whole(69)
    assert (seen.stage, seen.since, seen.number, seen.served) == (RUNNING, 5, 6, 7)
    assert (seen.method, seen.uri) == ("GET", "/a/b?c=d")
    assert slot.request_line() == "GET /a/b?c=d"
    assert board.read(68).stage == FREE
    assert board.has(RUNNING)
    assert not board.has(READING)
    board.clear(69)
    assert (board.read_whole(69).stage, board.read_whole(69).uri) == (FREE, "")


def test_it_can_neither_shrink_nor_grow_nor_be_unsealed(board: Scoreboard) -> None:
    """A tenant who cuts it off would have the master killed by SIGBUS."""
    for size in (0, 1, os.fstat(board.descriptor).st_size + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(board.descriptor, size)


@pytest.mark.parametrize(("others", "rings"), [(0, True), (1, True), (2, False), (3, False)])
def test_the_bell_is_rung_when_too_few_are_idle(board: Scoreboard, others: int, rings: bool) -> None:
    idle(board, *range(1, others + 1))
    slot = Slot(board, 0)
    assert not slot.should_ring(2), "nobody has asked for it"
    board.set_alarm()
    assert slot.should_ring(2) is rings
    assert not slot.should_ring(2) or not rings
    if rings:
        assert not slot.should_ring(2), "once is enough"
    else:
        board.show(1, RUNNING)
        board.show(2, RUNNING)
        assert slot.should_ring(2), "the wish stays until it is fulfilled"


def test_slots_that_do_not_exist_are_not_counted_as_idle(board: Scoreboard) -> None:
    """The bytes behind the stages are other things."""
    slot = Slot(board, 0)
    board.memory[64 + 70] = IDLE
    board.set_alarm()
    assert slot.should_ring(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=SLOT_SIZE, max_size=SLOT_SIZE), st.integers(0, 255))
def test_no_content_of_a_slot_fails_its_reader(board: Scoreboard, content: bytes, stage: int) -> None:
    memory = mmap.mmap(board.descriptor, 0)
    memory[64 + 3] = stage
    start = len(memory) - facts.SIZE - 70 * 8 - (71 - 3) * SLOT_SIZE  # who is gone, weights and facts come last
    memory[start : start + SLOT_SIZE] = content
    seen = board.read_whole(3)
    assert 0 <= seen.stage <= FINISHING
    assert STAGE_NAMES[seen.stage]
    assert seen.since == struct.unpack_from("<Q", content)[0]
    assert len(seen.method) <= 16 * len(r"\x00")
    assert len(seen.uri) <= 768 * len(r"\x00")
    board.clear(3)
    memory.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=2000), st.text(max_size=2000))
def test_any_request_line_fits(board: Scoreboard, method: str, uri: str) -> None:
    slot = Slot(board, 5)
    slot.show_request(method, uri, uri)
    assert len(board.read_whole(5).uri) <= 768 * len(r"\x00")
    assert board.read_whole(6).uri == "", "and stays in its slot"


def test_a_stage_that_is_none_counts_as_busy(board: Scoreboard) -> None:
    board.show(0, 200)
    assert board.stage(0) == RUNNING


def test_what_a_client_sends_is_legible_and_one_line(board: Scoreboard) -> None:
    slot = Slot(board, 1)
    slot.show_request("GET", "/caf\u00c3\u00a9\n\x1b[31m\u00ff\u00e2\u0080\u00ae", None)  # latin-1, as in an environ
    assert slot.request_line() == r"GET /caf" + "\u00e9" + r"\x0a\x1b[31m\xff\x202e"
    assert board.read_whole(1).uri == slot.request_line().removeprefix("GET ")


def test_counts_never_fall_when_a_worker_goes(board: Scoreboard) -> None:
    for own, requests in ((3, 5), (4, 7)):
        slot = Slot(board, own)
        slot.stages[own] = IDLE
        slot.numbers[NUMBER] = slot.numbers[SERVED] = requests
        observe(slot.durations, 2_000_000)
    before = (board.begun(), board.total(SERVED), board.histograms())
    assert before[:2] == (12, 12)
    turn = board.turn
    board.clear(3)
    assert (board.begun(), board.total(SERVED), board.histograms()) == before
    assert (board.turn, board.read_gone().number, board.taken()) == (turn + 2, 5, [4])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=SLOT_SIZE, max_size=SLOT_SIZE))
def test_forged_counts_are_added_up_to_something_that_fits(board: Scoreboard, content: bytes) -> None:
    start = len(board.memory) - facts.SIZE - 70 * 8 - (71 - 3) * SLOT_SIZE
    for _ in range(3):
        board.memory[start : start + SLOT_SIZE] = content
        board.show(3, IDLE)
        board.clear(3)
    tally = Tally()
    tally.count(board)
    assert tally.begun < 1 << 63
    board.facts.write({"accepted_elsewhere": 2 * tally.begun}, "", tally.durations, tally.waits)
