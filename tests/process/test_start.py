"""An operator starts the daemon, in the foreground or in the background, and is told how that went."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.family import children, title_of
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.sockets import free_port, listening, listening_unix, port_of
from tests.harness.waits import wait_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.daemon import Daemon

BROKEN = "import a_module_that_nobody_has\n"


def test_the_process_tree(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.add_pool("shop")
    daemon.start()
    daemon.engage(3)
    assert title_of(daemon.pid) == f"pyfpm: master process ({daemon.config})"
    assert len(daemon.workers("www")) == 3
    assert len(daemon.workers("shop")) == 1
    # Templates too, and nobody below: every worker is the master's own child.
    assert set(daemon.family()) <= set(children(daemon.pid))
    assert len(daemon.family()) == 3 + 1 + 2
    for pool in ("www", "shop"):
        with open(f"/proc/{daemon.template(pool)}/comm") as short:
            assert short.read() == f"pyfpm: pool {pool} template"[:15] + "\n", "what top(1) shows"
    assert int(daemon.get("/pid", pool="shop").body) in daemon.workers("shop")


def test_d_ends_with_0_once_the_pools_serve(daemon: Daemon) -> None:
    daemon.add_pool()
    done = daemon.start_in_background()
    assert done.returncode == 0, done
    assert daemon.get("/pid").status == 200
    assert daemon.pid_file.read_text() == f"{daemon.pid}\n"
    assert stat.S_IMODE(daemon.pid_file.stat().st_mode) == 0o644
    assert f"fpm is running, pid {daemon.pid}" in done.stderr
    assert "ready to handle connections" in done.stderr
    assert os.getsid(daemon.pid) == daemon.pid, "it has left the session of who started it"
    assert stat.S_IMODE(daemon.log_path.stat().st_mode) == 0o600
    targets = {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in (0, 1, 2)}
    assert targets == {"/dev/null"}


def test_d_ends_with_70_and_the_reason_when_no_pool_can_serve(daemon: Daemon) -> None:
    daemon.write_app("broken.py", BROKEN)
    daemon.add_pool("www", {"app": "broken:application"})
    done = daemon.start_in_background()
    assert done.returncode == 70
    reason = (
        "[pool www] cannot load broken:application: ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    )
    assert f"ERROR: {reason}" in done.stderr
    assert "no pool can serve, giving up" in done.stderr
    assert "line 1, in <module>" in done.stderr, "the traceback is there, too"
    daemon.wait_log("cannot load broken:application")
    daemon.wait_log("no pool can serve, giving up")
    assert not daemon.pid_file.exists()


def test_in_the_foreground_the_same_start_ends_with_70(daemon: Daemon) -> None:
    daemon.write_app("broken.py", BROKEN)
    daemon.add_pool("www", {"app": "broken:application"})
    daemon.launch()
    assert daemon.wait_exit() == 70
    daemon.wait_log("cannot load broken:application")
    daemon.wait_log("no pool can serve, giving up")


def test_a_broken_pool_is_named_and_served_once_it_is_repaired(daemon: Daemon) -> None:
    daemon.write_app("shop.py", BROKEN)
    daemon.add_pool("www")
    daemon.add_pool("shop", {"app": "shop:application"})
    done = daemon.start_in_background()
    assert done.returncode == 0
    for named in ("[pool shop] cannot load shop:application", "[pool shop] this pool does not serve yet"):
        assert named in done.stderr
    daemon.wait_log(r"ERROR: \[pool shop\] cannot load shop:application")
    daemon.wait_log(r"WARNING: \[pool shop\] this pool does not serve yet, it is tried again")
    daemon.expect("failed twice in a row|cannot serve for 10 seconds")
    assert daemon.get("/pid").status == 200
    daemon.write_app("shop.py", "from apps import application\n")
    daemon.wait_log(r"NOTICE: \[pool shop\] the pool serves")
    assert daemon.get("/pid", pool="shop").status == 200


def test_who_connects_while_the_daemon_starts_is_served_when_it_has(daemon: Daemon) -> None:
    with listening_unix(str(daemon.folder / "www.sock")) as sock:
        os.chmod(daemon.folder / "www.sock", 0o666)
        with Connection(str(daemon.folder / "www.sock")) as early:
            early.send(request_bytes(get_parameters("/pid")))
            daemon.add_pool()
            daemon.start(sockets=[sock])
            assert early.receive().status == 200
    assert daemon.stop(signal.SIGQUIT) == 0
    assert (daemon.folder / "www.sock").exists(), "whoever made the socket keeps it"
    (daemon.folder / "www.sock").unlink()


def test_f_stays_in_the_foreground_whatever_the_file_says(daemon: Daemon) -> None:
    daemon.set_global({"daemonize": "yes"})
    daemon.add_pool()
    daemon.start("-F")
    assert title_of(daemon.pid).startswith("pyfpm: master process")


def test_daemonize_in_the_file_is_as_good_as_d(daemon: Daemon) -> None:
    daemon.set_global({"daemonize": "yes"})
    daemon.add_pool()
    assert daemon.run().returncode == 0
    daemon.hold(int(daemon.pid_file.read_text()))
    assert daemon.get("/pid").status == 200


def test_o_logs_to_standard_error(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start("-O")
    assert "ready to handle connections" in daemon.stderr_path.read_text()
    assert daemon.stop() == 0
    assert "exiting, bye-bye!" in daemon.stderr_path.read_text()
    assert not daemon.log_path.exists()


def test_after_the_start_only_the_log_is_written(served: Daemon) -> None:
    assert "ready to handle connections" in served.stderr_path.read_text()
    assert served.stop() == 0
    served.wait_log("exiting, bye-bye!")
    assert "bye" not in served.stderr_path.read_text()


# ── the pid file ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_g_names_another_pid_file(daemon: Daemon) -> None:
    daemon.add_pool()
    other = daemon.folder / "other.pid"
    daemon.start("-g", str(other))
    assert other.read_text() == f"{daemon.pid}\n"
    assert not daemon.pid_file.exists()
    assert daemon.stop() == 0
    assert not other.exists()


@pytest.mark.parametrize(("options", "code"), [((), 78), (("-D",), 70)])
def test_a_second_start_is_refused(served: Daemon, options: tuple[str, ...], code: int) -> None:
    second = served.run(*options)
    assert second.returncode == code
    assert f"another pyfpm is running with the PID file {served.pid_file}, pid {served.pid}" in second.stderr
    served.wait_log("another pyfpm is running")
    served.wait_log("FPM initialization failed")
    assert served.pid_file.read_text() == f"{served.pid}\n"
    assert served.get("/pid").status == 200, "and the first one goes on"


def test_a_pid_file_that_a_killed_master_left_is_taken_over(served: Daemon) -> None:
    family = served.family()
    assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    for pid in family:
        wait_exit(pid)
    assert served.pid_file.exists()
    served.start()
    assert served.pid_file.read_text() == f"{served.pid}\n"


def test_a_start_that_cannot_bind_leaves_no_pid_file_and_no_sockets(daemon: Daemon) -> None:
    with listening() as taken:
        daemon.add_pool("www")
        daemon.add_pool("shop", {"listen": f"127.0.0.1:{port_of(taken)}"})
        done = daemon.run()
        words = f"unable to bind listening socket for address '127.0.0.1:{port_of(taken)}': Address already in use (98)"
        assert words in done.stderr
        assert "FPM initialization failed" in done.stderr
        assert done.returncode == 78
        assert daemon.run("-D").returncode == 70
    daemon.expect("unable to bind")
    daemon.expect("FPM initialization failed")
    # That neither pid file nor socket is left lying is for the fixture to find.


def test_a_pid_file_that_cannot_be_written(daemon: Daemon) -> None:
    daemon.set_global({"pid": daemon.folder / "nowhere" / "pyfpm.pid"})
    daemon.add_pool()
    done = daemon.run()
    assert done.returncode == 78
    assert f"the directory '{daemon.folder / 'nowhere'}' does not exist" in done.stderr


# ── inherited sockets ───────────────────────────────────────────────────────────────────────────────────────────────


def test_listening_sockets_are_taken_over_and_strangers_closed(daemon: Daemon) -> None:
    path = str(daemon.folder / "www.sock")
    with listening() as tcp, listening_unix(path) as unix, listening() as stranger:
        daemon.add_pool("www", {"listen": path})
        daemon.add_pool("shop", {"listen": f"127.0.0.1:{port_of(tcp)}"})
        daemon.expect(f"inherited socket fd=5 .*{port_of(stranger)}.* belongs to no pool: closed")
        daemon.start(sockets=[unix, tcp, stranger])
        daemon.wait_log(f'using inherited socket fd=3, "{path}"')
        daemon.wait_log(f'using inherited socket fd=4, "127.0.0.1:{port_of(tcp)}"')
        daemon.wait_log("belongs to no pool")
        assert daemon.get("/pid", pool="www").status == 200
        assert daemon.get("/pid", pool="shop").status == 200
        for pid in (daemon.pid, *daemon.family()):
            inodes = set(_sockets_of(pid).values())
            assert os.fstat(stranger.fileno()).st_ino not in inodes
        environment = daemon.get("/environment", pool="www").body
        assert b"LISTEN_" not in environment
    assert daemon.stop() == 0
    os.unlink(path)


def _sockets_of(pid: int) -> dict[int, int]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{name}")
        if target.startswith("socket:["):
            found[int(name)] = int(target[8:-1])
    return found


# ── options and exit codes ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--no-such-option",), 64, "--no-such-option"),
        (("-D", "-F"), 64, "-D and -F exclude each other"),
        (("stray",), 64, ""),
        (("-h",), 0, "--daemonize"),
        (("-v",), 0, "pyfpm 0."),
        (("-i",), 0, "libraries"),
    ],
)
def test_options_that_need_no_configuration(daemon: Daemon, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = daemon.run(*arguments)
    assert done.returncode == code, done
    assert words in done.stdout + done.stderr


def test_a_configuration_that_cannot_be_read(daemon: Daemon) -> None:
    done = daemon.run("-c", str(daemon.folder / "nothing.conf"))
    assert done.returncode == 78
    assert "nothing.conf" in done.stderr


@pytest.mark.parametrize("options", [(), ("-D",), ("-t",)])
def test_a_wrong_configuration_is_78(daemon: Daemon, options: tuple[str, ...]) -> None:
    daemon.add_pool("www", {"pm.max_childern": 5, "pm.max_children": "many"})
    done = daemon.run(*options)
    assert done.returncode == 78
    assert "did you mean 'pm.max_children'?" in done.stderr
    assert "'many'" in done.stderr, "all errors, not the first"
    assert f"failed to load configuration file '{daemon.config}'" in done.stderr


@pytest.mark.parametrize("level", ["debug", "notice", "alert"])
def test_t_prints_at_any_log_level_and_creates_nothing(daemon: Daemon, level: str) -> None:
    daemon.set_global({"log_level": level})
    daemon.add_pool("www", {"access.log": daemon.folder / "access.log"})
    daemon.write_config()
    before = sorted(daemon.folder.rglob("*"))
    for option in ("-t", "-tt"):
        done = daemon.run(option)
        assert done.returncode == 0
        assert f"configuration file {daemon.config} test is successful" in done.stderr
        assert ("app = apps:application" in done.stderr) == (option == "-tt")
    assert sorted(daemon.folder.rglob("*")) == before


def test_t_beside_a_running_daemon_disturbs_nobody(served: Daemon) -> None:
    before = served.log.read()
    assert served.run("-t").returncode == 0
    assert served.log.read() == before
    assert served.get("/pid").status == 200


def test_ctrl_c_while_waiting_for_d_stops_the_start(daemon: Daemon) -> None:
    daemon.write_app("slow.py", "import apps\napps.enter_and_wait()\napplication = apps.application\n")
    daemon.add_pool("www", {"app": "slow:application", "env[GATE]": daemon.gate.folder})
    daemon.write_config()
    with subprocess.Popen(
        daemon.command("-D"), env=daemon.environment(), stderr=subprocess.PIPE, text=True, cwd=daemon.folder
    ) as command:
        daemon.gate.wait_inside()
        master = int(daemon.pid_file.read_text())
        command.send_signal(signal.SIGINT)
        wait_exit(command.pid)
        assert command.wait() not in (0, 64, 78)
    assert title_of(master) == "", "the command waits for the end of what it has started"


def test_one_port_for_every_interface(daemon: Daemon) -> None:
    port = free_port("::")
    daemon.add_pool("www", {"listen": port})
    daemon.start()
    for host in ("127.0.0.1", "::1"):
        with Connection((host, port)) as connection:
            assert connection.request(get_parameters("/pid"), keep=False).status == 200


def test_two_daemons_at_one_unix_socket(served: Daemon, make_daemon: Callable[[], Daemon]) -> None:
    other = make_daemon()
    other.add_pool("www", {"listen": served.address()})
    other.launch()
    assert other.wait_exit() == 78
    other.wait_log(f"Another pyfpm instance seems to already listen on {served.address()}")
    other.wait_log("FPM initialization failed")
    assert served.get("/pid").status == 200


# ── started badly ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_standard_streams_that_the_caller_has_closed(daemon: Daemon, closed: str) -> None:
    daemon.add_pool()
    daemon.write_config()
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *daemon.command("-D")], env=daemon.environment(), check=False
    )
    assert done.returncode == 0
    daemon.hold(int(daemon.pid_file.read_text()))
    daemon.wait_log("ready to handle connections")
    assert {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    assert daemon.get("/pid").status == 200


def test_who_started_it_has_not_waited(daemon: Daemon) -> None:
    daemon.write_app("slow.py", "import apps\napps.enter_and_wait()\napplication = apps.application\n")
    daemon.add_pool("www", {"app": "slow:application", "env[GATE]": daemon.gate.folder})
    daemon.write_config()
    with subprocess.Popen(
        daemon.command("start"), env=daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as command:
        daemon.gate.wait_inside()
        daemon.hold(int(daemon.pid_file.read_text()))
        command.kill()
        command.wait()
        daemon.gate.release()
        daemon.wait_ready()
        assert daemon.get("/pid").status == 200
        assert command.stdout is not None
        command.stdout.read()  # comes to its end when the master, which was ready a moment before, has let go of it
    assert {os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}


@pytest.mark.parametrize("option", ["-F", "-D"])
def test_a_start_without_descriptors_says_so(daemon: Daemon, option: str) -> None:
    daemon.add_pool()
    daemon.write_config()
    # Enough for the log and the pid file, not for the loop.
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 7; exec "$@"', "sh", *daemon.command(option)],
        env=daemon.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (70, False), done.stderr
    daemon.wait_log("Too many open files")
    daemon.wait_log("FPM initialization failed")
    daemon.expect("interpreter|python")


def test_a_pid_file_that_is_a_fifo_keeps_nobody_waiting(daemon: Daemon) -> None:
    os.mkfifo(daemon.pid_file)
    daemon.add_pool()
    done = daemon.run("start", seconds=20)
    assert (done.returncode, "is not a regular file" in done.stderr) == (78, True)
    daemon.pid_file.unlink()


def test_t_looks_at_the_pid_file_that_is_meant(daemon: Daemon) -> None:
    daemon.set_global({"pid": daemon.folder / "nowhere" / "pyfpm.pid", "control": "none"})
    daemon.add_pool()
    assert daemon.run("-t").returncode == 78
    assert daemon.run("-t", "-g", str(daemon.pid_file)).returncode == 0
    done = daemon.run("-t", "-g", str(daemon.folder / "nowhere" / "other.pid"))
    assert (done.returncode, "-g: pid: the directory" in done.stderr) == (78, True)
