"""The first command of the README, as a new user types it: a sample site is served, and Ctrl-C removes all of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from typing import TYPE_CHECKING

from tests.harness.daemon import end_with_the_tests
from tests.harness.family import descendants
from tests.harness.sockets import free_port
from tests.harness.stage import CHECKOUT
from tests.harness.waits import Followed, wait_exit

if TYPE_CHECKING:
    from tests.harness.stage import Stage

SERVE = "conf/serve"


def test_the_readme_says_so() -> None:
    commands = re.findall(r"^```\n(.*?)^```$", (CHECKOUT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert f"{SERVE}\ntests/run\n" in commands
    for name in (SERVE, "tests/run", ".ci/run"):
        assert os.access(CHECKOUT / name, os.X_OK), f"{name} can be executed"


def test_it_serves_and_leaves_nothing_behind(stage: Stage) -> None:
    """A real installation too, by pip and not from the checkout: what is missing in the package is missed here."""
    folder = stage.folder("r")
    port = free_port()
    output = Followed(folder / "output")
    with output.path.open("wb") as file:
        serve = subprocess.Popen(
            [str(CHECKOUT / SERVE), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
            cwd=folder,
            preexec_fn=end_with_the_tests,  # noqa: PLW1509  prctl(2) takes no lock
        )
    try:
        output.wait("Ctrl-C ends it", seconds=180)
        family = descendants(serve.pid)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello?name=you", timeout=20) as page:
            assert page.status == 200
            assert b"you" in page.read()
        world = re.search(r"with pyfpm in (/\S+)", output.read())
        assert world is not None
        serve.send_signal(signal.SIGINT)
        wait_exit(serve.pid, 30)
        assert serve.wait() == 0
        assert not os.path.exists(world[1])
        assert [pid for pid in family if os.path.exists(f"/proc/{pid}")] == []
    except BaseException:
        print(output.read())  # for pytest to show
        raise
    finally:
        if serve.poll() is None:
            serve.terminate()
            serve.wait(30)
        output.close()
