"""What a service manager is told, in the words of sd_notify(3)."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.harness.reloads import reload, wait_report, write_site
from tests.harness.waits import PATIENCE

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def of_last_reload(daemon: Daemon) -> list[str]:
    """The lines since the last reload began."""
    lines = daemon.drain_notices()
    return lines[len(lines) - 1 - lines[::-1].index("RELOADING=1") :]


def test_the_start(served: Daemon) -> None:
    lines = served.drain_notices()
    assert lines == ["READY=1", "STATUS=Ready to handle connections", f"MAINPID={served.pid}"]


def test_a_reload_is_announced_and_ends_with_ready(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    write_site(daemon, "two")
    before = time.monotonic_ns() // 1000
    assert reload(daemon).code == 0
    lines = of_last_reload(daemon)
    word, _, moment = lines[1].partition("=")
    assert word == "MONOTONIC_USEC", "Type=notify-reload waits for a time after its signal"
    assert before <= int(moment) <= time.monotonic_ns() // 1000
    assert lines[2:] == ["READY=1", "STATUS=Ready to handle connections", f"MAINPID={daemon.pid}"]


def test_a_refused_reload_ends_with_ready_too_and_says_so(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    write_site(daemon, "two", "raise RuntimeError('broken')")
    daemon.expect("cannot load|reload refused|no such directive|did you mean")
    assert reload(daemon).code == 1
    lines = of_last_reload(daemon)
    assert lines[2] == "READY=1"
    assert lines[3].startswith("STATUS=reload refused: [pool www] cannot load deployed:application: RuntimeError: brok")
    # Before anything is tried: the file itself.
    daemon.pools["www"]["pm.max_childern"] = 1
    assert reload(daemon).code == 1
    lines = of_last_reload(daemon)
    assert [line.partition("=")[0] for line in lines] == ["RELOADING", "MONOTONIC_USEC", "READY", "STATUS", "MAINPID"]
    assert "pm.max_childern" in lines[3]
    # The words of a refusal do not outlive the next good one.
    del daemon.pools["www"]["pm.max_childern"]
    write_site(daemon, "three")
    assert reload(daemon).code == 0
    assert "STATUS=Ready to handle connections" in of_last_reload(daemon)


def test_by_signal_too(served: Daemon) -> None:
    served.send_signal(signal.SIGHUP)
    served.notices.wait("RELOADING=1", PATIENCE)
    served.notices.wait("READY=1", PATIENCE)


def test_a_pool_that_fails_is_in_the_status(daemon: Daemon) -> None:
    write_site(daemon, "one", "raise RuntimeError('broken')")
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "deployed:application"})
    daemon.expect("cannot load|does not serve|failed twice")
    daemon.start()
    assert "STATUS=Ready to handle connections; not serving: shop" in daemon.drain_notices()
    write_site(daemon, "two")
    assert reload(daemon, "shop").code == 0
    wait_report(daemon, lambda now: now.state == "serving", "shop")
    statuses = [line for line in daemon.drain_notices() if line.startswith("STATUS=")]
    assert statuses[-1] == "STATUS=Ready to handle connections"


def test_the_stop(served: Daemon) -> None:
    assert served.stop(signal.SIGQUIT) == 0
    assert served.drain_notices()[-2:] == ["STOPPING=1", "STATUS=Finishing ..."]


def test_pools_cannot_speak_for_the_master(daemon: Daemon) -> None:
    daemon.add_pool("www", {"clear_env": "no"})
    daemon.start()
    assert b"NOTIFY_SOCKET" not in daemon.get("/environment").body
