"""Sockets and logs over a reload: opened, handed over, given up, opened again."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from pyfpm.messages import Verb
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.reloads import Question, in_hand, reload, report, version, wait_report, write_site

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def test_an_idle_ondemand_pool_moves_as_often_as_it_is_told(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application", "pm": "ondemand"})
    daemon.start()
    for number in range(4):
        daemon.pools["www"]["listen"] = daemon.folder / f"{number}.sock"
        assert reload(daemon).code == 0
        assert report(daemon).generation == number + 2
    assert version(daemon) == "one"


def test_a_pool_that_still_finishes_is_put_back(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    with in_hand(daemon, pool="shop") as (client,):
        daemon.gate.wait_inside()
        shop = daemon.pools.pop("shop")
        assert reload(daemon).code == 0
        with pytest.raises(FileNotFoundError):
            Connection(str(shop["listen"]))
        daemon.pools["shop"] = shop
        assert reload(daemon).code == 0
        assert daemon.get("/pid", pool="shop").status == 200
        daemon.gate.release()
        assert client.receive().status == 200
    daemon.wait_log(r"\[pool shop\] this pool is closed")
    assert daemon.get("/pid", pool="shop").status == 200, "what was closed was the old one's"


def test_a_pool_is_renamed_and_who_waits_is_served(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.add_pool("shop")
    daemon.start()
    with in_hand(daemon, pool="shop") as (client,), Connection(daemon.address("shop")) as waiting:
        daemon.gate.wait_inside()
        waiting.send(request_bytes(get_parameters("/pid")))
        daemon.pools["store"] = daemon.pools.pop("shop")
        assert reload(daemon).code == 0
        assert int(waiting.receive().body) in daemon.workers("store")
        daemon.gate.release()
        assert client.receive().status == 200
    daemon.wait_log(r"\[pool shop\] this pool is closed")
    assert daemon.get("/pid", pool="store").status == 200


def test_logs_that_a_reload_has_opened_are_rotated_while_it_lasts(daemon: Daemon) -> None:
    """Three pools: two at a time are loading, one has not begun."""
    write_site(daemon, "one")
    logs = {name: daemon.folder / f"{name}.access" for name in ("www", "shop", "blog")}
    for name in logs:
        daemon.add_pool(name, {"app": "deployed:application", "access.format": '"%r"'})
    daemon.start()
    write_site(daemon, "two", "apps.enter_and_wait()")
    for name, log in logs.items():
        daemon.pools[name]["access.log"] = log
    daemon.write_config()
    waiting = Question(daemon, Verb.RELOAD)
    daemon.gate.wait_inside(2)
    for log in logs.values():
        log.rename(f"{log}.1")
    daemon.send_signal(signal.SIGUSR1)
    for name in logs:
        daemon.wait_log(rf"\[pool {name}\] access log file re-opened")
    daemon.gate.release(3)
    assert waiting.answer().code == 0
    for name, log in logs.items():
        daemon.get("/version", pool=name)
        assert log.read_text() == "/version\n"


def test_a_refused_reload_has_not_even_put_a_socket_right(daemon: Daemon) -> None:
    """The pool is one that would be left alone: nobody is there who could be asked for its files."""
    daemon.add_pool("www", {"pm": "ondemand", "pm.template_idle_timeout": "0.1s"})
    daemon.set_global({"status_listen": daemon.folder / "status.sock"})
    daemon.start()
    wait_report(daemon, lambda now: now.template == "none")
    path = str(daemon.address())
    os.chmod(path, 0o600)
    daemon.set_global({"status_listen": f"127.0.0.1:{daemon.listening_port()}"})
    daemon.expect("unable to bind|reload refused")
    assert reload(daemon).code == 1
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    daemon.set_global({"status_listen": daemon.folder / "status.sock"})
    assert reload(daemon).code == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


def test_another_pid_file_is_not_taken_over_in_silence(daemon: Daemon) -> None:
    daemon.add_pool("www")
    daemon.start()
    daemon.set_global({"pid": daemon.folder / "other.pid"})
    outcome = reload(daemon)
    assert (outcome.code, "until then commands may not find this master" in outcome.progress) == (0, True)
    daemon.wait_log(r"WARNING: pid or control has changed, .* \[PYFPM-319\]")
    assert daemon.run("ping").returncode == 69
    daemon.set_global({"pid": daemon.pid_file})
