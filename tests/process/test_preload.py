"""An application is imported once and forked, unless its import leaves something that does not survive a fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

IMPORTS = {
    "thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, name='collector', daemon=True).start()\n",
        r"thread collector",
    ),
    "socket": ("import socket\nheld = socket.create_connection(('127.0.0.1', {port}))\n", r"descriptor \d+ \(socket:"),
    "child": ("import subprocess\nheld = subprocess.Popen(['/bin/sleep', '60'])\n", r"child process \d+"),
}


def test_a_clean_application_is_imported_once(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.start()
    daemon.engage(3)
    assert daemon.process()["imported_by"] == daemon.template()


@pytest.mark.parametrize("preload", ["yes", "no"])
def test_it_can_be_forced(daemon: Daemon, preload: str) -> None:
    daemon.add_pool("www", {"preload": preload})
    daemon.start()
    process = daemon.process()
    assert process["imported_by"] == (daemon.template() if preload == "yes" else process["pid"])


@pytest.mark.parametrize("kind", IMPORTS)
def test_what_an_import_leaves_behind_is_named(daemon: Daemon, kind: str) -> None:
    source, words = IMPORTS[kind]
    daemon.write_app("lib/__init__.py", "")
    daemon.write_app("lib/metrics.py", source.replace("{port}", str(daemon.listening_port())))
    daemon.write_app("site_of_mine.py", "import lib.metrics\nfrom apps import application\n")
    daemon.add_pool("www", {"app": "site_of_mine:application", "pm.max_children": 2})
    daemon.start()
    daemon.wait_log(rf"NOTICE: \[pool www\] not preloaded, .*{words}.*, made by lib\.metrics")
    workers = daemon.engage(2)
    for _ in range(4):
        process = daemon.process()
        assert process["imported_by"] == process["pid"], "each worker has imported it itself"
        assert process["pid"] in workers
    daemon.forgive_children_of_applications()


def test_yes_preloads_all_the_same_and_says_what_is_wrong(daemon: Daemon) -> None:
    source, words = IMPORTS["thread"]
    daemon.write_app("threads.py", source + "from apps import application\n")
    daemon.add_pool("www", {"app": "threads:application", "preload": "yes"})
    daemon.start()
    daemon.wait_log(rf"WARNING: \[pool www\] preloaded, although the import left {words}, made by threads")
    process = daemon.process()
    assert process["imported_by"] == daemon.template()
    assert process["threads"] == 1, "a thread does not survive a fork"


def test_what_an_import_closes_again_is_no_harm(daemon: Daemon) -> None:
    daemon.write_app(
        "tidy.py",
        "import socket, subprocess, threading\n"
        "a, b = socket.socketpair()\na.close()\nb.close()\n"
        "subprocess.run(['/bin/true'])\n"
        "t = threading.Thread(target=int)\nt.start()\nt.join()\n"
        "from apps import application\n",
    )
    daemon.add_pool("www", {"app": "tidy:application"})
    daemon.start()
    assert daemon.process()["imported_by"] == daemon.template()


def test_workers_share_what_was_imported(daemon: Daemon) -> None:
    """What makes many workers cheap: their pages are the template's until they write."""
    daemon.write_app("big.py", "held = [str(number) * 10 for number in range(200_000)]\nfrom apps import application\n")
    daemon.add_pool("www", {"app": "big:application", "pm.max_children": 4})
    daemon.start()
    for pid in daemon.engage(4):
        memory = psutil.Process(pid).memory_full_info()
        assert memory.uss < 0.4 * memory.rss, f"{memory.uss >> 10} of {memory.rss >> 10} KiB are its own"
