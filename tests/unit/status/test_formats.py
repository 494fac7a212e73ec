"""The status page in all its formats, against what PHP-FPM 8.4 has; a hostile request can do nothing to it."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_fd_to_metric_families

from pyfpm import facts
from pyfpm.histogram import CELLS
from pyfpm.scoreboard import CREATING, FINISHING, FREE, IDLE, RUNNING, Scoreboard
from pyfpm.status.formats import render, render_metrics
from pyfpm.status.snapshot import Snapshot
from tests.unit.status.boards import FACTS, NOW, board, seat, snapshot_of
from tests.unit.status.documents import check_document

# PHP-FPM's own, in its order: php-fpm 8.2 and, since 8.4, `memory peak`.
POOL = (
    "pool", "process manager", "start time", "start since", "accepted conn", "listen queue", "max listen queue",
    "listen queue len", "idle processes", "active processes", "total processes", "max active processes",
    "max children reached", "slow requests", "memory peak",
)  # fmt: skip
PROCESS = (
    "pid", "state", "start time", "start since", "requests", "request duration", "request method", "request uri",
    "content length", "user", "script", "last request cpu", "last request memory",
)  # fmt: skip
QUERIES = ["", "full", "html", "html&full", "xml", "full&xml", "json", "json&full"]
METRICS = ["openmetrics", "openmetrics&full", "openmetrics&compat=phpfpm", "full&openmetrics&compat=phpfpm"]
HOSTILE = [
    "/<script>alert(1)</script>",
    "/\"'&</td></process>]]>",
    "/\r\npool: forged\n\n# EOF\n",
    "/\x1b[2J\x1b]0;title\x07\x9b31m",
    '/\\"\\n{pool="x"} 1\n',
    "/\u00e2\u0080\u00ae\u00ef\u00bf\u00be",  # UTF-8 of U+202E and U+FFFE
    "/" + "\xff\x00" * 40_000,
    "/" + "x" * 65536,
]


def busy_pool() -> Snapshot:
    with board(facts=FACTS) as scoreboard:
        seat(scoreboard, 0, IDLE)
        seat(scoreboard, 1, RUNNING, "/slow?x=<1>&y", "anna", "POST")
        return snapshot_of(scoreboard)


def fresh_pool() -> Snapshot:
    """Nothing is known yet, and nobody there."""
    with board() as scoreboard:
        return snapshot_of(scoreboard)


def text_of(snapshot: Snapshot, query: str) -> str:
    return render([snapshot], query)[1].decode()


def families(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and label values; the strict parser of OpenMetrics."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_the_text_as_php_fpm_has_it() -> None:
    lines = text_of(busy_pool(), "full").splitlines()
    assert lines[0] == "pool:                 www"
    assert tuple(line.partition(":")[0] for line in lines[: len(POOL)]) == POOL
    assert all(line[21] == " " and line[22] != " " for line in lines[: len(POOL)])
    at = lines.index("*" * 24)
    assert lines[at - 1] == ""
    keys = tuple(line.partition(":")[0] for line in lines[at + 1 : at + 1 + len(PROCESS)])
    assert keys == tuple("request URI" if key == "request uri" else key for key in PROCESS)
    assert "request URI:          /slow?x=<1>&y" in lines
    assert "last request cpu:     25.00" in lines


def test_json_as_php_fpm_has_it() -> None:
    pool = json.loads(text_of(busy_pool(), "json&full"))
    assert tuple(pool)[: len(POOL)] == POOL
    assert tuple(pool)[-1] == "processes"
    expected = {
        "pool": "www",
        "process manager": "dynamic",
        "start time": 1_795_308_013,
        "start since": 87,
        "accepted conn": 1020,
        "listen queue": 3,
        "max listen queue": 9,
        "listen queue len": 4096,
        "idle processes": 1,
        "active processes": 2,
        "total processes": 3,
        "max active processes": 2,
        "max children reached": 1,
        "slow requests": 4,
        "memory peak": 20 << 20,
        "max children": 8,
        "max requests": 500,
        "max memory": 0,
        "max lifetime": 86400.0,
        "generation": 2,
        "last reload": "ok",
        "last reload time": 1_795_308_090,
        "recycled processes": 5,
        "crashed processes": 6,
        "killed processes": 7,
        "timed out requests": 8,
        "shed requests": 9,
        "template": "ready",
        "memory": 90 << 20,
        "busy share 1m": 0.25,
        "busy share 5m": 0.5,
        "busy share 15m": 1.0,
    }
    idle, busy = pool.pop("processes")
    assert pool == expected
    assert tuple(idle)[: len(PROCESS)] == PROCESS
    assert idle == {
        "pid": 100,
        "state": "Idle",
        "start time": 1_795_308_040,
        "start since": 60,
        "requests": 10,
        "request duration": 10_000,
        "request method": "GET",
        "request uri": "/a?b=1",
        "content length": 12,
        "user": "-",
        "script": "site.wsgi:application",
        "last request cpu": 25.0,
        "last request memory": 20 << 20,
        "generation": 2,
        "pss": 40 << 20,
    }
    assert (busy["state"], busy["request duration"], busy["user"]) == ("Running", 2_000_000, "anna")
    assert (busy["last request cpu"], busy["last request memory"]) == (0.0, 0)


def test_xml_as_php_fpm_has_it() -> None:
    root = ET.fromstring(text_of(busy_pool(), "full&xml"))
    assert root.tag == "status"
    assert tuple(child.tag for child in root)[: len(POOL)] == tuple(key.replace(" ", "-") for key in POOL)
    process = root.findall("processes/process")[1]
    assert tuple(child.tag for child in process)[: len(PROCESS)] == tuple(key.replace(" ", "-") for key in PROCESS)
    assert process.findtext("request-uri") == "/slow?x=<1>&y"
    assert root.findtext("start-time") == "1795308013"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", "text/plain;charset=UTF-8"),
        ("full", "text/plain;charset=UTF-8"),
        ("html", "text/html;charset=UTF-8"),
        ("xml&json", "text/xml;charset=UTF-8"),
        ("openmetrics&json", "application/json"),
        ("json=1", "application/json"),
        ("js", "text/plain;charset=UTF-8"),
        ("jsonp", "text/plain;charset=UTF-8"),
        ("openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("&&=%00&\xff", "text/plain;charset=UTF-8"),
    ],
)
def test_a_query_chooses_the_format(query: str, kind: str) -> None:
    assert render([busy_pool()], query)[0] == kind


def test_what_is_unknown_is_never_zero() -> None:
    pool = fresh_pool()
    assert json.loads(text_of(pool, "json"))["listen queue"] is None
    assert "listen queue:         unknown" in text_of(pool, "").splitlines()
    assert ET.fromstring(text_of(pool, "xml")).findtext("listen-queue") == "unknown"
    assert 'Connections waiting</dt><dd class="figure">\N{EN DASH}</dd>' in text_of(pool, "html")
    assert "pyfpm_listen_queue" not in families(text_of(pool, "openmetrics"))
    assert "phpfpm_listen_queue" not in families(text_of(pool, "openmetrics&compat=phpfpm"))


def test_metrics_in_our_names() -> None:
    found = families(text_of(busy_pool(), "openmetrics&full"))
    assert found["pyfpm_requests_total"] == {("www",): 1020}
    assert found["pyfpm_listen_queue"] == {("www",): 3}
    assert found["pyfpm_memory_bytes"] == {("www",): 90 << 20}
    assert found["pyfpm_workers"] == {("www", "idle"): 1, ("www", "active"): 2}
    assert found["pyfpm_workers_gone_total"][("www", "crashed")] == 6
    assert found["pyfpm_busy_ratio"] == {("www", "1m"): 0.25, ("www", "5m"): 0.5, ("www", "15m"): 1.0}
    assert found["pyfpm_worker_state"][("www", "101", "Running")] == 1
    assert found["pyfpm_worker_request_duration_seconds"][("www", "101")] == 2.0
    assert all(name.startswith("pyfpm_") for name in found)


def test_metrics_in_php_fpms_names() -> None:
    found = families(text_of(busy_pool(), "openmetrics&full&compat=phpfpm"))
    of_php_fpm = (
        "up", "start_since", "accepted_connections", "listen_queue", "max_listen_queue", "listen_queue_length",
        "idle_processes", "active_processes", "total_processes", "max_active_processes", "max_children_reached",
        "slow_requests", "memory_peak",
    )  # fmt: skip
    assert {"phpfpm_" + name for name in of_php_fpm} <= set(found)
    assert found["phpfpm_accepted_connections"] == {("www",): 1020}
    assert found["phpfpm_process_requests"] == {("www", "0"): 10, ("www", "1"): 10}
    assert found["phpfpm_process_state"][("www", "0", "Idle")] == 1


@pytest.mark.parametrize("query", METRICS)
@pytest.mark.parametrize("make", [busy_pool, fresh_pool])
def test_metrics_pass_the_strict_parser(make: object, query: str) -> None:
    assert callable(make)
    text = text_of(make(), query)
    assert families(text)
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("uri", HOSTILE)
@pytest.mark.parametrize("query", [*QUERIES, *METRICS])
def test_a_hostile_request_harms_no_format(uri: str, query: str) -> None:
    with board(facts=FACTS, note=uri[:200]) as scoreboard:
        seat(scoreboard, 0, RUNNING, uri, uri, uri)
        check_harmless(snapshot_of(scoreboard)._replace(pool='w"w\\w'), query)


@given(st.binary(min_size=700, max_size=1024), st.sampled_from([*QUERIES, *METRICS]))
def test_a_slot_full_of_nonsense_harms_no_format(noise: bytes, query: str) -> None:
    with board(1) as scoreboard:
        start = scoreboard._start(0)
        scoreboard.memory[start : start + len(noise)] = noise
        end = len(scoreboard.memory)
        scoreboard.memory[end - facts.SIZE : end] = (noise * 10)[: facts.SIZE]
        scoreboard.show(0, noise[0] or FINISHING)
        check_harmless(snapshot_of(scoreboard), query)


def check_harmless(snapshot: Snapshot, query: str) -> None:
    text = text_of(snapshot, query)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert len(text) < 65536
    keys = query.split("&")
    if "openmetrics" in keys:
        families(text)
    elif "json" in keys:
        json.loads(text)
    elif "xml" in keys:
        ET.fromstring(text)
    elif "html" in keys:
        check_document(text)
    else:
        assert sum(line.startswith("pool:") for line in text.splitlines()) == 1


def test_those_who_are_not_yet_there_do_not_count() -> None:
    with board(facts=FACTS | {"active_elsewhere": 0}) as scoreboard:
        seat(scoreboard, 0, FREE)
        seat(scoreboard, 1, CREATING)
        seat(scoreboard, 2, IDLE)
        pool = snapshot_of(scoreboard)
    assert [process.state for process in pool.processes] == ["Creating", "Idle"]
    assert (pool.idle_processes, pool.active_processes, pool.total_processes) == (1, 0, 1)


def test_facts_come_back() -> None:
    with board(facts=FACTS, note="x" * 1000) as scoreboard:
        assert scoreboard.facts.read()[:2] == (FACTS, "x" * 256)
        counts = tuple(range(CELLS))
        scoreboard.facts.write({"queue": -5, "queue_max": 1 << 80}, "", counts, counts[::-1])
        known, note, durations, waits = scoreboard.facts.read()
        assert (known["queue"], known["queue_max"], known["generation"], note) == (-1, (1 << 63) - 1, -1, "")
        assert (durations, waits) == (counts, counts[::-1])


def test_facts_that_are_never_finished_hold_nobody_up() -> None:
    scoreboard = Scoreboard.create("test", 1)
    scoreboard.memory[len(scoreboard.memory) - facts.SIZE] = 1
    assert scoreboard.facts.read().numbers["queue"] == 0
    scoreboard.close()


def test_the_past_has_gaps_only_where_nobody_knows() -> None:
    last = NOW // (facts.STEP * 10**9)
    history = facts.History()
    history.put(last - 5, 7, 1, 500_000)
    history.put(last - facts.STEPS - 1, 1, 1, 1)  # too old, and its place is taken by another
    with board(facts=FACTS) as scoreboard:
        scoreboard.facts.write_history(bytes(history))
        busy = snapshot_of(scoreboard).history
        scoreboard.facts.write(FACTS | {"quiet": last - 3}, "")
        quiet = snapshot_of(scoreboard).history
    assert len(busy) == len(quiet) == facts.STEPS
    assert busy[-6] == (last - 5, 7, 1, 500_000)
    assert [step for step in busy if step is not None] == [busy[-6]]
    assert quiet[-6:] == (busy[-6], None, None, *[(last - 2 + at, 0, 0, 0) for at in range(3)])


# ── several pools ───────────────────────────────────────────────────────────────────────────────────────────────────


def two_pools() -> list[Snapshot]:
    return [busy_pool(), busy_pool()._replace(pool="shop")]


def test_several_pools_in_every_format() -> None:
    def text(query: str) -> str:
        return render(two_pools(), query)[1].decode()

    assert [pool["pool"] for pool in json.loads(text("json&full"))["pools"]] == ["www", "shop"]
    root = ET.fromstring(text("xml&full"))
    assert root.tag == "pools"
    assert [pool.findtext("pool") for pool in root.findall("status")] == ["www", "shop"]
    assert "\n\npool:                 shop\n" in text("")
    found = families(text("openmetrics&full"))
    assert found["pyfpm_requests_total"] == {("www",): 1020, ("shop",): 1020}
    assert found["pyfpm_worker_requests_total"][("shop", "101")] == 10


@pytest.mark.parametrize("pools", [[], [busy_pool()]])
def test_a_list_is_a_list_however_long(pools: list[Snapshot]) -> None:
    assert len(json.loads(render(pools, "json", is_list=True)[1])["pools"]) == len(pools)
    assert ET.fromstring(render(pools, "xml", is_list=True)[1]).tag == "pools"
    for query in ("", "html", "openmetrics"):
        render(pools, query, is_list=True)


@pytest.mark.parametrize("query", METRICS)
def test_metrics_of_several_pools_pass_the_strict_parser(query: str) -> None:
    assert families(render(two_pools(), query)[1].decode())


# ── the rest of the metrics ─────────────────────────────────────────────────────────────────────────────────────────


def test_histograms() -> None:
    cells = (3, 2, *[0] * 13, 1, 70_500_000_000)
    pool = busy_pool()._replace(durations=cells)
    found = families(text_of(pool, "openmetrics"))
    buckets = found["pyfpm_request_duration_seconds_bucket"]
    assert [buckets[("www", le)] for le in ("0.001", "0.0025", "0.005", "60.0", "+Inf")] == [3, 5, 5, 5, 6]
    assert found["pyfpm_request_duration_seconds_count"] == {("www",): 6}
    assert found["pyfpm_request_duration_seconds_sum"] == {("www",): 70.5}
    assert "pyfpm_request_queue_seconds_count" in found


def test_more_metrics() -> None:
    found = families(text_of(busy_pool(), "openmetrics"))
    assert found["pyfpm_requests_timed_out_total"] == {("www",): 8}
    assert found["pyfpm_requests_shed_total"] == {("www",): 9}
    assert found["pyfpm_template_state"][("www", "ready")] == 1
    assert sum(found["pyfpm_template_state"].values()) == 1


def test_two_slots_that_claim_one_pid_do_not_spoil_the_metrics() -> None:
    pool = busy_pool()
    twins = pool._replace(processes=(pool.processes[0], pool.processes[0]))
    text = text_of(twins, "openmetrics&full")
    assert text.count('pyfpm_worker_requests_total{pool="www",pid="100"}') == 1
    families(text)


def test_the_older_notation() -> None:
    kind, body = render_metrics(two_pools(), "full", is_openmetrics=False)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    text = body.decode()
    assert "# TYPE pyfpm_requests_total counter\n" in text
    assert "# EOF" not in text
    assert "# UNIT" not in text
    found = {family.name: family.type for family in text_fd_to_metric_families(io.StringIO(text))}
    assert found["pyfpm_request_duration_seconds"] == "histogram"
    assert "untyped" in render_metrics(two_pools(), "compat=phpfpm", is_openmetrics=False)[1].decode()


def test_the_past_for_those_who_draw_it() -> None:
    steps = (None, facts.Step(7, 12, -1, 250_000), facts.Step(8, 0, 3, 0))
    pool = json.loads(text_of(busy_pool()._replace(history=steps), "json&history"))
    assert pool["history"] == [None, [12, None, 0.25], [0, 3, 0.0]]
    assert "history" not in json.loads(text_of(busy_pool(), "json"))
