"""A broken deploy, of each kind: the site serves on from the old code, and everybody is told why."""

from __future__ import annotations

import os
import re
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from pyfpm.messages import Verb
from tests.harness.load import Load
from tests.harness.reloads import Question, in_hand, reload, report, version, wait_report, write_site
from tests.harness.sockets import listening, port_of
from tests.harness.waits import watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.daemon import Daemon

KILLED = r"child \d+ exited on signal 9 \(SIGKILL\)"
# Ignores TERM, too: what hangs in a C library's lock is no more obedient.
HANGS = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\napps.enter_and_wait()"
PROBE_FAILS = """
def broken(environ, start_response):
    raise LookupError("no such table: users")
apps.ANSWERS["health"] = lambda environ, start_response, _: broken(environ, start_response)
"""
PROBE_500 = """
apps.ANSWERS["health"] = lambda environ, start_response, _: apps._plain(start_response, "", "500 Sorry")
"""
PROBE_HANGS = """
apps.ANSWERS["health"] = apps._block
"""


def _wrong_directive(daemon: Daemon) -> None:
    daemon.pools["www"]["pm.max_childern"] = 3


def _another_pool_is_wrong(daemon: Daemon) -> None:
    """All or nothing: what is right in the file is not taken over either."""
    write_site(daemon, "two")
    daemon.add_pool("shop", {"pm.max_children": "many"})


def _no_such_interpreter(daemon: Daemon) -> None:
    daemon.pools["www"]["python"] = "/nowhere/python"


def _taken_port(daemon: Daemon) -> None:
    daemon.add_pool("shop", {"listen": f"127.0.0.1:{daemon.listening_port()}"})


def _moved_to_a_taken_port(daemon: Daemon) -> None:
    daemon.pools["www"]["listen"] = f"127.0.0.1:{daemon.listening_port()}"


def _deploy(more: str) -> Callable[[Daemon], None]:
    return lambda daemon: write_site(daemon, "two", more)


def _deploy_unshared(more: str) -> Callable[[Daemon], None]:
    def deploy(daemon: Daemon) -> None:
        write_site(daemon, "two", more)
        daemon.pools["www"]["preload"] = "no"

    return deploy


BREAKAGES: dict[str, tuple[Callable[[Daemon], None], str]] = {
    "wrong-directive": (_wrong_directive, r"did you mean 'pm\.max_children'"),
    "another-pool-is-wrong": (_another_pool_is_wrong, "'many'"),
    "no-such-interpreter": (_no_such_interpreter, "/nowhere: No such file"),
    "taken-port-of-a-new-pool": (_taken_port, "unable to bind .*Address already in use"),
    "taken-port": (_moved_to_a_taken_port, "unable to bind .*Address already in use"),
    "import-error": (_deploy("import a_module_that_nobody_has"), "No module named 'a_module_that_nobody_has'"),
    "syntax-error": (_deploy("def def"), "SyntaxError"),
    "raises-at-import": (_deploy("raise RuntimeError('no database')"), "RuntimeError: no database"),
    "exits-at-import": (_deploy("os._exit(3)"), "exited with code 3"),
    "exits-politely": (_deploy("raise SystemExit(0)"), "SystemExit"),
    "hangs-at-import": (_deploy(HANGS), r"no worker was ready within 0\.7 seconds"),
    "worker-import-error": (_deploy_unshared("import a_module_that_nobody_has"), "No module named"),
    "worker-exits-at-import": (_deploy_unshared("os._exit(3)"), "exited with code 3"),
    "worker-hangs-at-import": (_deploy_unshared(HANGS), r"no worker was ready within 0\.7 seconds"),
    "probe-raises": (_deploy(PROBE_FAILS), "the probe GET /health failed: LookupError: no such table: users"),
    "probe-500": (_deploy(PROBE_500), "the probe GET /health was answered with 500"),
    "probe-hangs": (_deploy(PROBE_HANGS), r"no worker was ready within 0\.7 seconds"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_deploy_costs_no_request(daemon: Daemon, breakage: str) -> None:
    write_site(daemon, "one")
    daemon.set_global({"process_control_timeout": "1s"})
    settings = {
        "app": "deployed:application",
        "pm.max_children": 3,
        "reload_probe": "/health",
        "reload_timeout": "0.7s" if "hangs" in breakage else "60s",
    }
    daemon.add_pool("www", settings)
    good = dict(daemon.pools["www"])
    daemon.start()
    before = sorted(daemon.engage(3))
    breaks, reason = BREAKAGES[breakage]
    daemon.expect(".")
    with Load(daemon.address(), "/version", clients=3) as load:
        breaks(daemon)
        outcome = reload(daemon)
        assert outcome.code == 1, outcome
        load.wait_answers(30)
    assert (load.lost, load.refused) == ([], 0)
    assert {body for _, body in load.answered} == {b"one"}
    daemon.wait_log(f"(?i){reason}")
    assert re.search(reason, outcome.text), outcome
    assert re.search(r" \[PYFPM-\d{3}\]$", outcome.text.split("\n")[0]), "an operator can look it up"
    assert sorted(daemon.workers()) == before or "worker" in breakage or "hangs" in breakage
    notices = daemon.drain_notices()
    begun = [at for at, line in enumerate(notices) if line == "RELOADING=1"]
    assert "READY=1" in notices[begun[-1] :], "systemd waits for that"
    assert any(line.startswith("STATUS=reload refused: ") for line in notices)
    # The next good one works, whatever there was before.
    write_site(daemon, "three")
    daemon.pools = {"www": {**good, "reload_timeout": "60s"}}
    assert reload(daemon).code == 0
    assert version(daemon) == "three"
    assert report(daemon).reload == "ok"


def test_a_file_whose_name_is_no_text(daemon: Daemon) -> None:
    """Its name stands in what systemd and whoever asked are told."""
    folder = daemon.folder / "more"
    folder.mkdir()
    (folder / "right.conf").touch()
    daemon.set_global({"include": folder / "*.conf"})
    daemon.add_pool("www")
    daemon.start()
    wrong = folder / os.fsdecode(b"caf\xe9.conf")
    wrong.write_text("[www]\npm.max_childern = 3\n")
    daemon.expect("max_childern|did you mean|reload refused")
    outcome = reload(daemon)
    assert (outcome.code, "max_childern" in outcome.text) == (1, True)
    notices = daemon.drain_notices()
    assert "READY=1" in notices[notices.index("RELOADING=1") :]
    wrong.unlink()
    assert reload(daemon).code == 0


def test_what_the_operator_reads(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    write_site(daemon, "two", "import a_module_that_nobody_has")
    done = daemon.run("reload")
    assert done.returncode == 1
    lines = [line.removeprefix("pyfpm: ") for line in done.stderr.splitlines()]
    assert lines[0].startswith("[pool www] cannot load deployed:application: ModuleNotFoundError: No module named")
    assert any(f'File "{daemon.app_folder / "deployed.py"}", line 8' in line for line in lines), lines
    assert lines[-1] == "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    assert "pool www: refused, generation 1 goes on" in done.stdout
    daemon.wait_log(r"ERROR: \[pool www\] reload refused, generation 1 goes on: cannot load deployed:application")
    daemon.wait_log(r"ERROR: \[pool www\] cannot load deployed:application")
    assert "cannot load deployed" in report(daemon).reload
    assert (report(daemon).state, report(daemon).trouble) == ("serving", "")


def test_an_interpreter_that_vanishes(daemon: Daemon) -> None:
    """The configuration is the same; what it names is not there any more."""
    home = daemon.folder / "venv"
    _make_environment(home, str(daemon_python(daemon)))
    daemon.add_pool("www", {"python": None, "virtualenv": home})
    daemon.start()
    before = daemon.workers()
    shutil.rmtree(home)
    daemon.expect(".")
    for names in ((), ("www",)):
        outcome = reload(daemon, *names)
        assert outcome.code == 1, outcome
        assert str(home) in outcome.text
        assert report(daemon).reload == "its settings were refused; the error log says why [PYFPM-124]"
    assert daemon.workers() == before
    assert daemon.get("/pid").status == 200
    _make_environment(home, str(daemon_python(daemon)))
    assert reload(daemon, "www").code == 0


def daemon_python(daemon: Daemon) -> str:
    daemon.add_pool("probe")
    return str(daemon.pools.pop("probe")["python"])


def _make_environment(home: Path, python: str) -> None:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(python)
    (home / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = false\n")


# ── while the new code is on its way, the old one is as good as ever ────────────────────────────────────────────────


def test_the_old_generation_is_kept_up_while_the_new_one_hangs(daemon: Daemon) -> None:
    write_site(daemon, "one")
    spares = {"pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 4}
    daemon.add_pool("www", {"app": "deployed:application", "pm": "dynamic", "pm.max_children": 4, **spares})
    daemon.start()
    write_site(daemon, "two", "apps.enter_and_wait()")
    waiting = Question(daemon, Verb.RELOAD)
    daemon.gate.wait_inside()
    # It grows,
    meeting = daemon.engage(3)
    assert len(meeting) == 3
    # and is replaced: whoever is killed, and the template that must fork the next.
    start = daemon.log_end()
    daemon.expect(KILLED)
    with watching(*daemon.workers()) as victims:
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        for victim in victims:
            victim.wait_exit()
    daemon.wait_log(r"child \d+ started", start=start)
    assert version(daemon) == "one"
    daemon.gate.release()
    assert waiting.answer().code == 0
    assert version(daemon) == "two"


def test_an_ondemand_pool_answers_while_the_new_generation_hangs(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application", "pm": "ondemand", "reload_timeout": "1s"})
    daemon.start()
    write_site(daemon, "two", "apps.enter_and_wait()")
    waiting = Question(daemon, Verb.RELOAD)
    daemon.gate.wait_inside()
    assert daemon.workers() == []
    assert version(daemon) == "one"
    daemon.expect("no worker was ready within 1 seconds|reload refused")
    assert waiting.answer().code == 1
    assert version(daemon) == "one"


def test_after_a_refusal_the_old_generation_respawns_and_grows(daemon: Daemon) -> None:
    write_site(daemon, "one")
    spares = {"pm.start_servers": 1, "pm.min_spare_servers": 1, "pm.max_spare_servers": 3}
    daemon.add_pool("www", {"app": "deployed:application", "pm": "dynamic", "pm.max_children": 4, **spares})
    daemon.start()
    write_site(daemon, "two", "raise RuntimeError('broken')")
    daemon.expect(f"cannot load|reload refused|does not serve|pm.max_children|{KILLED}")
    assert reload(daemon).code == 1
    (victim,) = daemon.workers()
    os.kill(victim, signal.SIGKILL)
    daemon.wait_log(r"child \d+ started")
    assert version(daemon) == "one"
    assert len(daemon.engage(4)) == 4


# ── a new generation that fails when it has begun to take over ──────────────────────────────────────────────────────


_TICKETS = """
def take_ticket():
    # In the template's child first, which forks the worker: only the worker has no children of its own to have.
    if os.getppid() == template:
        return
    for name in os.listdir({folder!r}):
        os.unlink(os.path.join({folder!r}, name))
        return
    os._exit(9)


template = os.getpid()
os.register_at_fork(after_in_child=take_ticket)
"""


def test_new_workers_that_crash_during_the_hand_over_are_rolled_back(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application", "pm.max_children": 4})
    daemon.start()
    daemon.engage(4)
    # The first two workers start, the third does not: a database that has no connections left.
    tickets = daemon.folder / "tickets"
    tickets.mkdir()
    tickets.chmod(0o777)
    for number in (1, 2):
        (tickets / str(number)).touch()
    write_site(daemon, "two", _TICKETS.format(folder=str(tickets)))
    daemon.expect(".")
    with Load(daemon.address(), "/version", clients=4) as load:
        outcome = reload(daemon)
        assert outcome.code == 1, outcome
        assert "a worker died before it was born" in outcome.text
        now = wait_report(daemon, lambda now: now.idle + now.busy == 4 and now.total == 4)
        load.wait_answers(20)
    assert (load.lost, load.refused) == ([], 0)
    assert now.generation == 1
    assert version(daemon) == "one"
    assert len(daemon.engage(4)) == 4


def test_one_pool_is_refused_and_the_others_are_reloaded(daemon: Daemon) -> None:
    write_site(daemon, "one")
    write_site(daemon, "one", name="shop")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.add_pool("shop", {"app": "shop:application"})
    daemon.start()
    write_site(daemon, "two", "raise RuntimeError('broken')")
    write_site(daemon, "two", name="shop")
    daemon.expect("cannot load|reload refused")
    outcome = reload(daemon)
    assert outcome.code == 1
    assert "pool shop is reloaded, generation 2" in outcome.progress
    assert (version(daemon), version(daemon, "shop")) == ("one", "two")


def test_a_stop_while_a_refused_import_still_hangs(daemon: Daemon) -> None:
    """It does not hear TERM; the daemon does not wait for it for ever."""
    write_site(daemon, "one")
    daemon.set_global({"process_control_timeout": "0.5s"})
    daemon.add_pool("www", {"app": "deployed:application", "reload_timeout": "0.3s"})
    daemon.start()
    write_site(daemon, "two", HANGS)
    daemon.expect("no worker was ready|reload refused")
    assert reload(daemon).code == 1
    assert daemon.stop(signal.SIGQUIT) == 0


def test_a_port_that_is_free_again(daemon: Daemon) -> None:
    write_site(daemon, "one")
    daemon.add_pool("www", {"app": "deployed:application"})
    daemon.start()
    with listening() as taken:
        port = port_of(taken)
        daemon.add_pool("shop", {"listen": f"127.0.0.1:{port}"})
        daemon.expect("unable to bind|reload refused")
        assert reload(daemon).code == 1
    assert reload(daemon).code == 0
    with in_hand(daemon, pool="shop") as (client,):
        daemon.gate.wait_inside()
        daemon.gate.release()
        assert client.receive().status == 200
