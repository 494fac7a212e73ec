"""Logs are rotated: USR1 opens them anew, no worker is restarted, and no line is lost."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from typing import TYPE_CHECKING

from tests.harness.load import Load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon

ROTATIONS = 6


def test_no_line_is_lost_over_rotations_under_load(daemon: Daemon) -> None:
    access_log = daemon.folder / "access.log"
    daemon.write_app(
        "numbered.py",
        "import apps, sys\n"
        "def application(environ, start_response):\n"
        "    if environ['PATH_INFO'] != '/numbered':\n"
        "        return apps.application(environ, start_response)\n"
        "    sys.stderr.write('saw ' + environ['QUERY_STRING'] + '.\\n')\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n",
    )
    daemon.add_pool(
        "www",
        {"app": "numbered:application", "pm.max_children": 3, "access.log": access_log, "access.format": '"%q."'},
    )
    daemon.start()
    daemon.expect(r'said into stderr: "saw n=\d+\."')
    old: list[Path] = []
    workers = sorted(daemon.engage(3))
    with Load(daemon.address(), "/numbered") as load:
        for rotation in range(ROTATIONS):
            for log in (daemon.log_path, access_log):
                old.append(log.with_name(f"{log.name}.{rotation}"))
                log.rename(old[-1])
            start = daemon.log_end()
            daemon.send_signal(signal.SIGUSR1)
            daemon.wait_log("NOTICE: error log file re-opened", start=start)
            daemon.wait_log(r"NOTICE: \[pool www\] access log file re-opened", start=start)
            load.wait_answers(20)
        while not access_log.stat().st_size:  # each worker changes over between two of its requests
            load.wait_answers(1)
    assert sorted(daemon.workers()) == workers
    assert load.lost == []
    assert daemon.stop() == 0
    answered = {number for number, _ in load.answered}
    pieces = [path.read_text() for path in (*old, daemon.log_path, access_log)]
    for pattern in (r"saw n=(\d+)\.", r"(?m)^n=(\d+)\.$"):
        seen = Counter(int(number) for piece in pieces for number in re.findall(pattern, piece))
        assert set(seen) == answered
        assert set(seen.values()) == {1}
    assert all(path.stat().st_size > 0 for path in (daemon.log_path, access_log)), "the new files are in use"
    for path in old:
        path.unlink()


def test_a_log_that_cannot_be_opened_again_stays_in_use(daemon: Daemon) -> None:
    folder = daemon.folder / "logs"
    folder.mkdir()
    access_log = folder / "access.log"
    daemon.add_pool("www", {"access.log": access_log})
    daemon.start()
    gone = daemon.folder / "gone"
    shutil.move(folder, gone)
    daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log(r"ERROR: \[pool www\] failed to re-open the access log, the old file stays in use")
    assert daemon.get("/pid").status == 200
    assert "GET /pid" in (gone / "access.log").read_text()


def test_usr1_before_anything_is_logged_twice_over(daemon: Daemon) -> None:
    """Two signals while the first is being handled are one or two reopenings, never a lost log."""
    daemon.add_pool()
    daemon.start()
    for _ in range(20):
        daemon.send_signal(signal.SIGUSR1)
    daemon.wait_log("error log file re-opened")
    assert daemon.get("/pid").status == 200
