from __future__ import annotations

import pytest

from pyfpm import catalogue
from pyfpm.errors import ConfigError
from tests.unit.config.reading import GOOD_POOL, Folder


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("9000", "9000"),
        ("9000", "127.0.0.1:9000"),
        ("localhost:9000", "LOCALHOST:9000"),
        ("/run/x.sock", "/run//y/../x.sock"),
    ],
)
def test_two_pools_cannot_have_one_address(folder: Folder, first: str, second: str) -> None:
    text = f"[a]\n{GOOD_POOL}\nlisten = {first}\n[b]\n{GOOD_POOL}\nlisten = {second}\n"
    assert folder.complaint(text) == (
        "pyfpm.conf:16: listen: [pool b] unable to set listen address as it's already used in another pool 'a'\n"
        f"    pool 'a' listens on {first} by pyfpm.conf:8"
    )


@pytest.mark.parametrize(
    ("first", "second"), [("9000", "9001"), ("127.0.0.1:9000", "[::1]:9000"), ("/run/9000", "9000")]
)
def test_addresses_that_go_together(folder: Folder, first: str, second: str) -> None:
    text = f"[a]\n{GOOD_POOL}\nlisten = {first}\n[b]\n{GOOD_POOL}\nlisten = {second}\n"
    assert len(folder.read(text).pools) == 2


def test_examples_that_stand_in_for_missing_addresses_are_not_compared(folder: Folder) -> None:
    assert "already used" not in folder.complaint("[a]\n[b]\n")


def test_json_is_the_only_format_without_codes(folder: Folder) -> None:
    assert folder.pool("access.format = json").access_format == "json"
    complaint = folder.complaint(f"[a]\n{GOOD_POOL}\naccess.format = JSON")
    assert complaint == (
        "pyfpm.conf:8: access.format: 'JSON' has no % code, so every line would be the same\n    did you mean 'json'?"
    )


def test_an_owner_beside_an_access_list_is_a_warning(folder: Folder) -> None:
    configuration = folder.read(f"[a]\n{GOOD_POOL}\nlisten.acl_users = x\nlisten.owner = y\nlisten.group = z\n")
    assert configuration.warnings == (
        (catalogue.OWNER_IGNORED, "[pool a] ACL set, listen.owner = 'y' is ignored"),
        (catalogue.OWNER_IGNORED, "[pool a] ACL set, listen.group = 'z' is ignored"),
    )


# ── the process managers ────────────────────────────────────────────────────────────────────────────────────────────

DYNAMIC = "pm = dynamic\npm.max_children = 5\n"
POSITIVE = "must be a positive value\n    write a whole number from 1 to that of pm.max_children"


def counts(least: int, most: int, start: int | None = None) -> str:
    """The lines 8 to 11 or 12 of a dynamic pool with up to 5 workers."""
    lines = f"{DYNAMIC}pm.min_spare_servers = {least}\npm.max_spare_servers = {most}\n"
    return lines if start is None else f"{lines}pm.start_servers = {start}\n"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            DYNAMIC,
            f"1: pm.min_spare_servers: [pool a] pm.min_spare_servers(0) {POSITIVE}\n"
            f"pyfpm.conf:1: pm.max_spare_servers: [pool a] pm.max_spare_servers(0) {POSITIVE}",
        ),
        (counts(2, 0), f"11: pm.max_spare_servers: [pool a] pm.max_spare_servers(0) {POSITIVE}"),
        (
            counts(2, 6),
            "11: pm.max_spare_servers: [pool a] pm.min_spare_servers(2) and pm.max_spare_servers(6) cannot be greater "
            "than pm.max_children(5)",
        ),
        (
            counts(6, 3),
            "10: pm.min_spare_servers: [pool a] pm.min_spare_servers(6) and pm.max_spare_servers(3) cannot be greater "
            "than pm.max_children(5)\n"
            "pyfpm.conf:11: pm.max_spare_servers: [pool a] pm.max_spare_servers(3) must not be less than "
            "pm.min_spare_servers(6)",
        ),
        (
            counts(1, 3, 4),
            "12: pm.start_servers: [pool a] pm.start_servers(4) must not be less than pm.min_spare_servers(1) and not "
            "greater than pm.max_spare_servers(3)\n    leave it out to start half way between them",
        ),
    ],
)
def test_the_counts_of_a_dynamic_pool(folder: Folder, lines: str, complaint: str) -> None:
    assert folder.complaint(f"[a]\n{GOOD_POOL}\n{lines}") == f"pyfpm.conf:{complaint}"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("pm.max_children = x", "14: pm.max_children: 'x' is not a whole number"),
        ("pm.min_spare_servers = x", "14: pm.min_spare_servers: 'x' is not a whole number"),
        ("pm.start_servers = -1", "14: pm.start_servers: -1 is out of bounds"),
        ("pm = dynamo", "14: pm: invalid process manager 'dynamo'"),
    ],
)
def test_a_count_that_cannot_be_read_is_not_compared(folder: Folder, lines: str, complaint: str) -> None:
    text = folder.complaint(f"[a]\n{GOOD_POOL}\n{counts(3, 4, 3)}\n{lines}")
    assert text.startswith(f"pyfpm.conf:{complaint}\n    ")
    assert text.count("\n") == 1


def test_a_missing_maximum_is_all_that_is_said(folder: Folder) -> None:
    text = "[a]\napp = m:a\nlisten = 1\npm = dynamic\npm.min_spare_servers = 7\npm.max_spare_servers = 9\n"
    assert folder.complaint(text) == (
        "pyfpm.conf:1: pm.max_children: [pool a] pm.max_children must be a positive value\n    "
        "write pm.max_children = 5"
    )


@pytest.mark.parametrize(("least", "most", "start"), [(1, 3, 2), (1, 4, 2), (2, 5, 3), (3, 3, 3)])
def test_a_dynamic_pool_starts_half_way(folder: Folder, least: int, most: int, start: int) -> None:
    for lines in (counts(least, most), counts(least, most, 0)):
        configuration = folder.read(f"[a]\n{GOOD_POOL}\n{lines}")
        assert configuration.pools[0].pm_start_servers == start
        assert configuration.notices == (f"[pool a] pm.start_servers is not set. It's been set to {start}.",)
        assert configuration.warnings == ()


def test_a_start_that_is_set_stays(folder: Folder) -> None:
    configuration = folder.read(f"[a]\n{GOOD_POOL}\n{counts(1, 5, 5)}")
    assert (configuration.pools[0].pm_start_servers, configuration.notices) == (5, ())


@pytest.mark.parametrize("mode", ["static", "OnDemand"])
def test_what_is_for_another_process_manager_is_kept_and_not_judged(folder: Folder, mode: str) -> None:
    configuration = folder.read(f"[a]\n{GOOD_POOL}\n{counts(7, 6, 9)}\npm = {mode}\npm.process_idle_timeout = 3s")
    pool = configuration.pools[0]
    assert (pool.pm, pool.pm_min_spare_servers, pool.pm_max_spare_servers) == (mode.lower(), 7, 6)
    assert (pool.pm_start_servers, pool.pm_process_idle_timeout) == (9, 3.0)
    assert (configuration.warnings, configuration.notices) == ((), ())
    assert folder.pool(f"pm = {mode}").pm_start_servers == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pm.max_spawn_rate = 0", "pm.max_spawn_rate must be a positive value"),
        ("pm.process_idle_timeout = 0", "'0' must be greater than 0s"),
        ("reload_timeout = 0s", "'0s' must be greater than 0s"),
        ("reload_surge = 0", "0 is out of bounds"),
        ("pm.max_requests = -1", "-1 is out of bounds"),
        ("[global]\nprocess.max = -1", "process_max can't be negative"),
        ("[global]\nemergency_restart_threshold = -1", "-1 is out of bounds"),
    ],
)
def test_bounds(folder: Folder, line: str, complaint: str) -> None:
    assert f": {complaint}" in folder.complaint(f"[a]\n{GOOD_POOL}\n{line}")


def test_what_has_no_effect_is_a_warning(folder: Folder) -> None:
    lines = "pm.template_idle_timeout = 1h\npm.max_requests_jitter = 5\n"
    emergency = "[global]\nemergency_restart_threshold = 10\n"
    warnings = folder.read(f"[a]\n{GOOD_POOL}\n{lines}{emergency}").warnings
    assert {code for code, _ in warnings} == {catalogue.WITHOUT_EFFECT}
    assert tuple(text for _, text in warnings) == (
        "emergency_restart_threshold has no effect without emergency_restart_interval",
        "[pool a] pm.template_idle_timeout has no effect with pm = static",
        "[pool a] pm.max_requests_jitter has no effect without pm.max_requests",
    )
    lines += "pm = ondemand\npm.max_requests = 100\n"
    emergency += "emergency_restart_interval = 1m\n"
    assert folder.read(f"[a]\n{GOOD_POOL}\n{lines}{emergency}").warnings == ()


def test_a_slow_log_needs_a_file(folder: Folder) -> None:
    with pytest.raises(ConfigError, match="'slowlog' must be specified for use with 'request_slowlog_timeout'"):
        folder.pool("request_slowlog_timeout = 1s")


def test_slow_comes_before_stuck(folder: Folder) -> None:
    log = "slowlog = slow.log\nrequest_slowlog_timeout = 5s\nrequest_terminate_timeout = "
    folder.pool(log + "5s")
    folder.pool(log + "0")
    with pytest.raises(ConfigError, match=r"\(5\) can't be greater than 'request_terminate_timeout' \(4\)"):
        folder.pool(log + "4s")


@pytest.mark.parametrize(
    ("mine", "global_", "said"),
    [
        (
            "pm.status_listen = 9000",
            "",
            "pm.status_listen: [pool a] unable to set listen address as it's already used\n",
        ),
        ("pm.status_listen = /run/s", "status_listen = /run/s", "status_listen: unable to set listen address"),
        ("", "status_listen = 127.0.0.1:9000", "status_listen: unable to set listen address as it's already used\n"),
        (
            "pm.status_listen = /run/s",
            "control = /run/s",
            "control: /run/s is the place of pm.status_listen of pool 'a' (pyfpm.conf:10) as well\n",
        ),
    ],
)
def test_an_address_of_the_monitor_is_nobody_elses(folder: Folder, mine: str, global_: str, said: str) -> None:
    assert said in folder.complaint(f"[global]\n{global_}\n[a]\n{GOOD_POOL}\n{mine}\n")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1", "/run/s"])
def test_an_address_that_stays_on_the_machine_is_no_matter(folder: Folder, address: str) -> None:
    assert folder.read(f"[global]\nstatus_listen = {address}\n[a]\n{GOOD_POOL}").warnings == ()


@pytest.mark.parametrize("address", ["1", "0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1"])
def test_an_address_that_others_can_reach_is_warned_of(folder: Folder, address: str) -> None:
    ((code, text),) = folder.read(f"[global]\nstatus_listen = {address}\n[a]\n{GOOD_POOL}").warnings
    assert code == catalogue.SEEN_BY_STRANGERS
    assert address in text


@pytest.mark.parametrize(
    ("lines", "pool", "said"),
    [
        ("pid = /run/x", "listen = /run/x", "pid: /run/x is the place of listen of pool 'a' ("),
        ("error_log = /run/x", "listen = /run/./x", "error_log: /run/x is the place of listen of pool 'a' ("),
        ("pid = /run/x\nerror_log = /run/x", "", "error_log: /run/x is the place of pid ("),
        ("control = /run/x\nstatus_listen = /run/x", "", "control: /run/x is the place of status_listen ("),
        (
            "pid = /run/x",
            "slowlog = /run/x\nrequest_slowlog_timeout = 1",
            "pid: /run/x is the place of slowlog of pool",
        ),
    ],
)
def test_two_things_in_one_place(folder: Folder, lines: str, pool: str, said: str) -> None:
    assert said in folder.complaint(f"[global]\n{lines}\n[a]\n{GOOD_POOL}\n{pool}\n")


def test_logs_may_share_a_file(folder: Folder) -> None:
    pool = f"{GOOD_POOL}\naccess.log = /run/x\nerror_log = /run/x\n"
    folder.read(f"[global]\nerror_log = /run/x\n[a]\n{pool}\n[b]\n{pool}\nlisten = 9001\n")
