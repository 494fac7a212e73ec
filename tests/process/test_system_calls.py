"""The common request is four system calls, whatever is configured that it does not need."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.waits import Deadline, wait_exit, wait_readable

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

REQUESTS = 3


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"request_queue_timeout": "10s", "request_terminate_timeout": "10s", "ping.path": "/ping", "pm": "ondemand"},
    ],
)
def test_a_request_is_four(daemon: Daemon, more: dict[str, object]) -> None:
    daemon.add_pool("www", more)
    daemon.start()
    worker = int(daemon.get("/pid").body)
    traced = daemon.folder / "trace.txt"
    strace = subprocess.Popen(["strace", "-o", traced, "-p", str(worker)], stderr=subprocess.PIPE)
    try:
        assert strace.stderr is not None
        wait_readable(strace.stderr.fileno(), Deadline(20, "strace attached"))
        assert b"attached" in strace.stderr.readline()
        for number in range(REQUESTS + 2):  # of the first it may miss the beginning, of the last the end
            assert daemon.get("/pid", f"n={number}", REQUEST_START="1700000000.5").status == 200
    finally:
        strace.send_signal(signal.SIGINT)
        wait_exit(strace.pid)
        strace.communicate()
    calls = re.findall(r"^(\w+)\(", traced.read_text(), re.M)
    ours = [call for call in calls if call != "getpid"]  # which is the application's
    begun = ours.index("accept4")
    assert ours[begun : begun + 4 * REQUESTS] == ["accept4", "read", "write", "close"] * REQUESTS
