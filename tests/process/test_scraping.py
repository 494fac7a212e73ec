"""Those who read PHP-FPM's status, and Prometheus itself, find in pyfpm's what they look for."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.harness import http_client
from tests.harness.daemon import end_with_the_tests, fresh_daemon
from tests.harness.sockets import free_port, listening, port_of
from tests.harness.stage import CHECKOUT
from tests.harness.waits import PATIENCE, Deadline
from tests.process.test_monitor import own, watched_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon
    from tests.harness.fcgi_client import Address
    from tests.harness.stage import Stage

# The structs of hipages/php-fpm_exporter that its JSON is read into: names, and Go's types.
INT, FLOAT, STRING = "int64", "float64", "string"
HIPAGES_POOL = {
    "pool": STRING, "process manager": STRING, "start time": INT, "start since": INT, "accepted conn": INT,
    "listen queue": INT, "max listen queue": INT, "listen queue len": INT, "idle processes": INT,
    "active processes": INT, "total processes": INT, "max active processes": INT, "max children reached": INT,
    "slow requests": INT,
}  # fmt: skip
HIPAGES_PROCESS = {
    "pid": INT, "state": STRING, "start time": INT, "start since": INT, "requests": INT, "request duration": INT,
    "request method": STRING, "request uri": STRING, "content length": INT, "user": STRING, "script": STRING,
    "last request cpu": FLOAT, "last request memory": INT,
}  # fmt: skip


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    assert found, f"{name} is not installed"
    return found


def read_as_go(member: object, kind: str) -> None:
    """What Go's encoding/json does with a member of a struct; null leaves the zero value."""
    if member is None:
        return
    if kind == STRING:
        assert type(member) is str
    elif kind == INT:
        assert type(member) is int, member
        assert -(1 << 63) <= member < 1 << 63
    else:
        assert type(member) in (int, float)


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[tuple[Daemon, Address]]:
    with fresh_daemon(stage) as daemon, listening() as sock:
        watched_pool(daemon, "www", pm__max_children=2)
        daemon.add_pool("shop")
        daemon.set_global({"status_listen": f"127.0.0.1:{port_of(sock)}"})
        daemon.start(sockets=[sock])
        daemon.engage(2)
        for number in range(20):
            daemon.get("/pid", f"n={number}")
        yield daemon, ("127.0.0.1", port_of(sock))


def cgi_fcgi(address: str, path: str, query: str = "") -> bytes:
    """As health checks in images of PHP-FPM ask: a clean environment and these four."""
    done = subprocess.run(
        [program("cgi-fcgi"), "-bind", "-connect", address],
        env={"REQUEST_METHOD": "GET", "SCRIPT_NAME": path, "SCRIPT_FILENAME": path, "QUERY_STRING": query},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stderr == b""
    return done.stdout.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("asked", ["a worker", "the monitor"])
def test_json_as_the_hipages_exporter_reads_it(site: tuple[Daemon, Address], asked: str) -> None:
    daemon, _ = site
    address = str(daemon.address()) if asked == "a worker" else own(daemon)
    pool: dict[str, Any] = json.loads(cgi_fcgi(address, "/fpm/status", "json&full"))
    for key, kind in HIPAGES_POOL.items():
        read_as_go(pool[key], kind)
    assert pool["accepted conn"] >= 20
    assert len(pool["processes"]) == 2
    for process in pool["processes"]:
        for key, kind in HIPAGES_PROCESS.items():
            read_as_go(process[key], kind)


@pytest.mark.parametrize("asked", ["a worker", "the monitor"])
def test_health_checks_written_for_php_fpm(site: tuple[Daemon, Address], asked: str) -> None:
    """`php-fpm-healthcheck` reads `key: number` lines of the plain page; others compare the pong."""
    daemon, _ = site
    address = str(daemon.address()) if asked == "a worker" else own(daemon)
    assert cgi_fcgi(address, "/fpm/ping") == b"pong"
    for query in ("", "full"):
        page = cgi_fcgi(address, "/fpm/status", query).decode()
        first = page.split("*" * 24, maxsplit=1)[0]
        found = dict(line.split(":", 1) for line in first.splitlines() if line)
        for key in ("accepted conn", "listen queue", "max listen queue", "active processes", "max children reached"):
            assert int(found[key]) >= 0, key
        assert page.count("request URI:") == (2 if query else 0)
    assert json.loads(cgi_fcgi(address, "/fpm/status", "json"))["process manager"] == "static"


def test_metrics_in_the_notation_that_is_asked_for(site: tuple[Daemon, Address]) -> None:
    _, address = site
    plain = http_client.get(address, "/metrics?full")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=plain.body, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    strict = http_client.get(address, "/metrics?full", Accept=accept)
    assert strict.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {one.name: one for one in text_string_to_metric_families(strict.body.decode())}  # type: ignore[no-untyped-call]
    assert {sample.labels["pool"] for sample in families["pyfpm_up"].samples} == {"www", "shop"}
    histogram = families["pyfpm_request_duration_seconds"]
    assert histogram.type == "histogram"
    count = {s.labels["pool"]: s.value for s in histogram.samples if s.name.endswith("_count")}
    assert count["www"] >= 20


def test_the_alerts_that_come_along() -> None:
    folder = CHECKOUT / "conf" / "prometheus"
    for arguments in (["test", "rules", "alerts.test.yml"], ["check", "config", "pyfpm.yml"]):
        done = subprocess.run(
            [program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_about_metrics_that_there_are(site: tuple[Daemon, Address]) -> None:
    _, address = site
    there = http_client.get(address, "/metrics").body.decode()
    rules = (CHECKOUT / "conf" / "prometheus" / "alerts.yml").read_text()
    named = set(re.findall(r"\bpyfpm_\w+", rules))
    assert named
    assert [name for name in named if f"TYPE {name.removesuffix('_bucket')} " not in there] == []


# ── the real Prometheus ─────────────────────────────────────────────────────────────────────────────────────────────


class Prometheus:
    """One that scrapes `targets`, of Debian's package."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        folder.mkdir()
        config = folder / "prometheus.yml"
        scrape = {"job_name": "pyfpm", "static_configs": [{"targets": targets}]}
        jobs = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
        config.write_text(json.dumps(jobs))  # which is YAML
        self.port = free_port()
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_the_tests,  # noqa: PLW1509  prctl(2) takes no lock
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression has now; none while it is not there yet."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            try:
                connection.request("GET", f"/api/v1/query?query={quote(expression)}")
                answer = json.loads(connection.getresponse().read())
            except (ConnectionError, ValueError):
                return []
        found: list[dict[str, Any]] = answer.get("data", {}).get("result", [])
        return found

    def wait_query(self, expression: str) -> list[dict[str, Any]]:
        deadline = Deadline(3 * PATIENCE, f"{expression} in Prometheus")
        while not (found := self.query(expression)):
            assert self._process.poll() is None, self._log.read_text()
            deadline.pause()
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)


def test_prometheus_scrapes_it(site: tuple[Daemon, Address]) -> None:
    daemon, address = site
    with contextlib.closing(Prometheus(daemon.folder / "prometheus", [f"{address[0]}:{address[1]}"])) as prometheus:
        (sample,) = prometheus.wait_query('pyfpm_requests_total{pool="www"} >= 20')
        assert (sample["metric"]["pool"], sample["metric"]["job"]) == ("www", "pyfpm")
        assert {one["metric"]["pool"] for one in prometheus.wait_query("pyfpm_workers_limit")} == {"www", "shop"}
        (up,) = prometheus.wait_query("up")
        assert up["value"][1] == "1"
        quantile = "histogram_quantile(0.9, sum by (le) (pyfpm_request_duration_seconds_bucket))"
        (value,) = prometheus.wait_query(quantile)
        assert 0 < float(value["value"][1]) < 60
