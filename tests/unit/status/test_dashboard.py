"""The page for people, as it is sent: complete without its script, by itself, and for one pool or many."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from pyfpm.facts import STEP, STEPS, History
from pyfpm.scoreboard import IDLE, RUNNING, SINCE, Slot
from pyfpm.status import amounts, dashboard
from pyfpm.status.concerns import concerns_of, state_of
from pyfpm.status.sparkline import sparkline, traffic
from tests.unit.status.boards import FACTS, NOW, board, seat, snapshot_of
from tests.unit.status.documents import check_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyfpm.status.snapshot import Snapshot

STUCK = '/report?of=<all>&"quoted"'


def pool(name: str = "www", facts: dict[str, int] | None = None, note: str = "ok", stuck: int = 0) -> Snapshot:
    """Two workers, one of them at work; for `stuck` seconds if that is not 0."""
    with board(facts={**FACTS, "active_elsewhere": 0, "queue": 0, **(facts or {})}, note=note) as scoreboard:
        seat(scoreboard, 0, IDLE)
        seat(scoreboard, 1, RUNNING, STUCK, "anna", "POST")
        if stuck:
            Slot(scoreboard, 1).numbers[SINCE] = NOW - stuck * 10**9
        history = History()
        history.put(NOW // 10**9 // STEP, 60, 3, 500_000)
        scoreboard.facts.write_history(bytes(history))
        return snapshot_of(scoreboard)._replace(pool=name)


def words(found: Snapshot) -> list[str]:
    return [concern.words for concern in concerns_of(found)]


def test_a_pool_that_is_well() -> None:
    text = check_document(dashboard.page([pool()])).text
    assert "www serves" in text
    assert "What is wrong" not in text
    for said in ("1 of 8", "1,020 in all", "5 min 50 %", "90 MiB", "2 workers of www"):
        assert said in text
    assert f"POST {STUCK} anna" in text


def test_nothing_on_the_page_is_elsewhere() -> None:
    made = dashboard.page([pool(), pool("shop")])
    for tag, attributes in check_document(made).elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith(("#", "?", "data:image/"))
    assert "url(" not in dashboard.STYLE
    assert "@import" not in dashboard.STYLE
    assert "innerHTML" not in dashboard.SCRIPT


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    made = dashboard.page([pool()])
    for name, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(f"<{name}>(.*?)</{name}>", made, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in dashboard.CSP
    assert "default-src 'none'" in dashboard.CSP
    assert "unsafe" not in dashboard.CSP


def test_the_longest_request_comes_first() -> None:
    made = dashboard.page([pool(stuck=90)])
    assert made.index('data-key="101"') < made.index('data-key="100"')
    assert re.search(r'<tr class="odd" data-key="101">.*?1.min 30.s', made)


@pytest.mark.parametrize(
    ("facts", "state", "said"),
    [
        ({}, "serving", []),
        ({"max_children": 1}, "serving", []),
        (
            {"max_children": 1, "busy_1": 900_000},
            "all workers busy",
            ["All 1 worker is busy: the next request has to wait."],
        ),
        ({"max_children": 1, "queue": 4}, "all workers busy", ["All 1 worker is busy, and 4 connections wait."]),
        (
            {"queue": 90, "queue_limit": 100},
            "serving",
            ["The listen queue is nearly full, 90 of 100: connections beyond it are refused."],
        ),
        (
            {"template": 3},
            "serving",
            ["The application does not load any more; the workers that are left serve on."],
        ),
    ],
)
def test_what_is_wrong_is_said(facts: dict[str, int], state: str, said: list[str]) -> None:
    found = pool(facts=facts)
    assert (state_of(found), words(found)) == (state, said)
    page = check_document(dashboard.page([found]))
    for words_of_it in said:
        assert words_of_it in page.text


@pytest.mark.parametrize(
    ("facts", "state", "wrong"),
    [
        ({"manager": 2}, "asleep", 0),
        ({"template": 3}, "failing", 1),
        ({}, "starting", 1),
        ({"manager": 2, "queue": 1}, "starting", 1),
    ],
)
def test_a_pool_without_workers(facts: dict[str, int], state: str, wrong: int) -> None:
    with board(facts={**FACTS, "active_elsewhere": 0, "queue": 0, **facts}) as scoreboard:
        found = snapshot_of(scoreboard)
    assert (state_of(found), len(concerns_of(found))) == (state, wrong)
    assert "No worker at this moment." in check_document(dashboard.page([found])).text


def test_a_refused_reload_is_told_with_its_reason() -> None:
    (said,) = words(pool(note="ModuleNotFoundError: No module named 'markdown'"))
    assert said.endswith("serves on: ModuleNotFoundError: No module named 'markdown'")
    assert "10 s ago" in said


def test_a_stuck_request_is_told_with_its_uri() -> None:
    (said,) = words(pool(stuck=90))
    assert said.startswith("1 request runs for more than 30 s")
    assert said.endswith(f"process 101 in POST {STUCK}")


def test_many_pools_have_a_table_and_the_worst_is_said_first() -> None:
    pools = [pool("well"), pool("slow", stuck=90), pool("down", {"max_children": 1, "queue": 4})]
    page = dashboard.page(pools)
    text = check_document(page).text
    assert "1 of 3 pools has a problem, 1 needs a look" in text
    assert page.index("Problem</strong>") < page.index("Notice</strong>")
    assert [page.count(f'data-key="{name}"') for name in ("well", "slow", "down")] == [2, 2, 2], "a row and a section"
    assert "All 3 pools serve" in check_document(dashboard.page([pool(name) for name in "abc"])).text


def test_no_pool_and_a_pool_of_which_nothing_is_known() -> None:
    assert "There is no pool" in check_document(dashboard.page([])).text
    with board() as scoreboard:
        page = dashboard.page([snapshot_of(scoreboard)])
    assert "Connections waiting \N{EN DASH}" in check_document(page.replace("</dt>", "</dt> ")).text


def test_a_hundred_troubled_pools_do_not_fill_the_screen_with_troubles() -> None:
    page = dashboard.page([pool(f"p{number}", stuck=90) for number in range(100)])
    assert page.count("Notice</strong>") == dashboard.MOST_CONCERNS
    assert "and 80 more" in page


# ── amounts and lines ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, amounts.UNKNOWN), (0, "0 ms"), (0.0124, "12 ms"), (0.9999, "1.0 s"), (59.9, "59.9 s"), (59.96, "59 s"),
     (60, "1 min"), (192.4, "3 min 12 s"), (3600, "1 h"), (273_600, "3 d 4 h"), (1e9, "11574 d 1 h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert amounts.duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, amounts.UNKNOWN),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (38 << 20, "38 MiB"),
        (1 << 40, "1.0 TiB"),
    ],
)
def test_sizes(amount: int | None, text: str) -> None:
    assert amounts.size(amount) == text


def test_rates_and_shares() -> None:
    assert [amounts.rate(one) for one in (None, 0, 0.04, 9.94, 9.96, 1234.5)] == [
        amounts.UNKNOWN,
        "0",
        "0.0",
        "9.9",
        "10",
        "1,234",
    ]
    assert [amounts.share(one) for one in (None, 0.0, 1.0)] == [amounts.UNKNOWN, "0 %", "100 %"]


def test_a_line_has_gaps_where_nothing_is_known() -> None:
    drawn = sparkline("Busy", [None, 0.0, 1.0, None, 0.5, None], amounts.share, 1.0)
    (line,) = re.findall(r'class="line" d="([^"]*)"', drawn)
    assert line == "M0 38.0L1 38.0L2 2.0M3 20.0L4 20.0"
    assert "least 0 %, most 100 %, last 50 %" in drawn
    assert "no history yet" in sparkline("Busy", [None] * STEPS, amounts.share, 1.0)


def test_the_traffic_is_that_of_the_last_step_that_is_known() -> None:
    assert traffic(pool()) == 60 / STEP
    assert traffic(pool()._replace(history=(None,) * STEPS)) is None
