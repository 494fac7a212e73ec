"""Where a pool listens: who may connect, what may lie in the way, and which addresses there are."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import Connection, get_parameters
from tests.harness.interpreters import AS_ROOT
from tests.harness.sockets import free_port, listening, port_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon

as_root = pytest.mark.skipif(not AS_ROOT, reason="only root can give a socket away")


def socket_of(daemon: Daemon) -> Path:
    return daemon.folder / "www.sock"


@pytest.mark.parametrize("mode", ["0600", "0660", "0666"])
def test_the_mode_of_a_socket(daemon: Daemon, mode: str) -> None:
    daemon.add_pool("www", {"listen.mode": mode})
    daemon.start()
    assert stat.S_IMODE(socket_of(daemon).stat().st_mode) == int(mode, 8)


@as_root
@pytest.mark.parametrize(
    ("settings", "owner", "group"),
    [
        ({}, "root", "root"),
        ({"listen.owner": "www-data"}, "www-data", "www-data"),
        ({"listen.owner": "www-data", "listen.group": "daemon"}, "www-data", "daemon"),
        ({"listen.group": "www-data"}, "root", "www-data"),
        ({"listen.owner": "33", "listen.group": "1"}, "www-data", "daemon"),
    ],
)
def test_the_owner_of_a_socket(daemon: Daemon, settings: dict[str, object], owner: str, group: str) -> None:
    daemon.add_pool("www", settings)
    daemon.start()
    found = socket_of(daemon).stat()
    assert (pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name) == (owner, group)


@as_root
def test_an_access_control_list(daemon: Daemon) -> None:
    daemon.add_pool("www", {"listen.acl_users": "www-data,nobody", "listen.acl_groups": "daemon"})
    daemon.start()
    done = subprocess.run(
        ["getfacl", "-cpE", str(socket_of(daemon))], capture_output=True, text=True, check=True, timeout=20
    )
    lines = set(done.stdout.split())
    assert {"user:www-data:rw-", "user:nobody:rw-", "group:daemon:rw-", "other::---"} <= lines


@as_root
@pytest.mark.parametrize(("user", "may"), [("www-data", True), ("nobody", False)])
def test_who_may_connect(daemon: Daemon, user: str, may: bool) -> None:
    daemon.add_pool("www", {"listen.owner": "www-data", "listen.mode": "0600"})
    daemon.start()
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(socket_of(daemon))!r})"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code],
        user=user,
        group=user if user == "www-data" else "nogroup",
        extra_groups=[],
        capture_output=True,
        check=False,
        timeout=20,
        cwd="/",
    )
    assert (done.returncode == 0) == may, done.stderr
    assert may or b"PermissionError" in done.stderr


def test_a_stale_socket_is_replaced(daemon: Daemon) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(socket_of(daemon)))
    stale.close()
    daemon.add_pool()
    daemon.start()
    assert daemon.get("/pid").status == 200


def test_what_is_no_socket_is_left_alone(daemon: Daemon) -> None:
    socket_of(daemon).write_text("precious")
    daemon.add_pool()
    done = daemon.run()
    assert done.returncode == 78
    assert "not a socket" in done.stderr
    assert socket_of(daemon).read_text() == "precious"
    daemon.expect("not a socket|FPM initialization failed")


def test_the_socket_goes_with_the_daemon(served: Daemon) -> None:
    assert socket_of(served).is_socket()
    assert served.stop() == 0
    assert not socket_of(served).exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_addresses(daemon: Daemon, host: str) -> None:
    bare = host.strip("[]")
    port = free_port("::1" if bare == "::1" else "127.0.0.1")
    daemon.expect("Found multiple addresses for localhost")
    daemon.add_pool("www", {"listen": f"{host}:{port}"})
    daemon.start()
    address = ("::1", port) if bare == "::1" else ("127.0.0.1", port)
    if host == "localhost":
        with socket.create_connection((host, port)):
            pass
    else:
        with Connection(address) as connection:
            assert connection.request(get_parameters("/pid"), keep=False).status == 200


def test_a_port_alone_is_both_families_and_can_be_bound_twice_in_a_row(daemon: Daemon) -> None:
    daemon.add_pool("www", {"listen": free_port("::")})
    for _ in range(2):
        daemon.start()
        for host in ("127.0.0.1", "::1"):
            with Connection((host, int(str(daemon.pools["www"]["listen"])))) as connection:
                assert connection.request(get_parameters("/pid"), keep=False).status == 200
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("allowed", "may"), [("127.0.0.1", True), ("192.0.2.1, 127.0.0.0/8", True), ("192.0.2.1", False), ("::1", False)]
)
def test_allowed_clients(daemon: Daemon, allowed: str, may: bool) -> None:
    with listening() as sock:
        daemon.add_pool("www", {"listen": f"127.0.0.1:{port_of(sock)}", "listen.allowed_clients": allowed})
        daemon.start(sockets=[sock])
        with Connection(daemon.address()) as connection:
            if may:
                assert connection.request(get_parameters("/pid"), keep=False).status == 200
            else:
                assert connection.socket.recv(1) == b""
                daemon.wait_log(r"WARNING: .* Connection disallowed: IP address '127\.0\.0\.1' has been dropped")


def test_an_ipv4_client_of_a_dual_stack_listener_is_known_by_its_ipv4_address(daemon: Daemon) -> None:
    port = free_port("::")
    daemon.add_pool("www", {"listen": port, "listen.allowed_clients": "127.0.0.1"})
    daemon.start()
    with Connection(("127.0.0.1", port)) as connection:
        assert connection.request(get_parameters("/pid"), keep=False).status == 200
    with Connection(("::1", port)) as connection:
        assert connection.socket.recv(1) == b""
    daemon.wait_log("IP address '::1' has been dropped")


def test_the_backlog_is_what_was_asked_for(daemon: Daemon) -> None:
    daemon.add_pool("www", {"listen.backlog": 7})
    daemon.start()
    done = (
        subprocess.run(["ss", "-xlH"], capture_output=True, text=True, check=False, timeout=20) if _has_ss() else None
    )
    if done is None:
        pytest.skip("no ss(8) on this machine")
    (line,) = [line for line in done.stdout.splitlines() if str(socket_of(daemon)) in line]
    assert line.split()[3] == "7"


def _has_ss() -> bool:
    return any(os.access(f"{folder}/ss", os.X_OK) for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"))
