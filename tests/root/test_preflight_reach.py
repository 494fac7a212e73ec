"""What preflight finds when it is root and the pools' users are real."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyfpm.master import preflight
from pyfpm.master.accounts import Identity
from pyfpm.master.interpreters import interpreter_fault
from pyfpm.master.reach import Need, obstacle
from tests.unit.config.reading import GOOD_POOL, Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = Identity(65534, 65534, (65534,), "nobody")


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A folder that everybody can enter, which pytest's own are not; the package of pyfpm is taken to be there."""
    path = Path(tempfile.mkdtemp(prefix="pyfpm-"))
    path.chmod(0o755)
    (path / "package").mkdir()
    monkeypatch.setattr(preflight, "PACKAGE", str(path / "package"))
    yield Folder(path)
    shutil.rmtree(path)


def complaints(folder: Folder, text: str, *, allow_root: bool = False) -> list[str]:
    pool = f"[www]\n{GOOD_POOL}\npython = {SYSTEM_PYTHON}\n"
    configuration = folder.read(pool + text)
    problems = preflight.examine(configuration, as_root=True, allow_root=allow_root)
    return [problem.reason.replace(str(folder.path), "") for problem in problems]


def test_a_good_pool(open_folder: Folder) -> None:
    assert complaints(open_folder, f"user = nobody\nchdir = {open_folder.path}") == []


def test_a_pool_needs_a_user_that_exists(open_folder: Folder) -> None:
    assert complaints(open_folder, "") == ["[pool www] user has not been defined"]
    assert complaints(open_folder, "user = nemo-nobody") == ["[pool www] cannot get uid for user 'nemo-nobody'"]
    assert complaints(open_folder, "user = 4294967295") == ["[pool www] 4294967295 is too large for an id"]


def test_root_runs_a_pool_only_with_permission(open_folder: Folder) -> None:
    refused = ["[pool www] please specify user and group other than root"]
    assert complaints(open_folder, "user = root") == refused
    assert complaints(open_folder, "user = nobody\ngroup = 0") == refused
    assert complaints(open_folder, "user = root", allow_root=True) == []


def test_the_folder_that_stops_the_user_is_named(open_folder: Folder) -> None:
    (open_folder.path / "home").mkdir(0o700)
    site = open_folder.path / "home/site"
    site.mkdir()
    stopped = "[pool www] /home (mode 0700, owner root) cannot be entered by user 'nobody'"
    assert complaints(open_folder, f"user = nobody\nchdir = {site}") == [stopped]
    assert complaints(open_folder, f"user = nobody\npythonpath = {site}") == [stopped]


def test_an_interpreter_behind_a_link_into_a_closed_folder(open_folder: Folder) -> None:
    (open_folder.path / "home").mkdir(0o700)
    (open_folder.path / "home/python3").symlink_to(SYSTEM_PYTHON)
    (open_folder.path / "python").symlink_to("home/python3")
    found = complaints(open_folder, f"user = nobody\npython = {open_folder.path}/python")
    assert found == ["[pool www] /home (mode 0700, owner root) cannot be entered by user 'nobody'"]


def test_pyfpm_itself_must_be_in_reach(open_folder: Folder) -> None:
    (open_folder.path / "package").chmod(0o700)
    assert complaints(open_folder, "user = nobody") == [
        "[pool www] pyfpm itself is out of reach: /package (mode 0700, owner root) cannot be read by user 'nobody'"
    ]


def test_an_interpreter_runs_as_the_pools_user(open_folder: Folder) -> None:
    python = open_folder.write("python", "#!/bin/sh\nprintf 'pyfpm 3 %s' \"$(id -u)-$(id -g)-$(id -G)\"\n")
    python.chmod(0o755)
    who = Identity(65534, 65533, (65533, 65532))
    assert "'pyfpm 3 65534-65533-65533 65532'" in interpreter_fault(str(python), who)


def test_access_control_lists_open_the_way(open_folder: Folder) -> None:
    """The verdict is compared with the kernel's: what test(1) says when it runs as that user."""
    closed = open_folder.path / "closed"
    closed.mkdir(0o700)
    # As `setfacl -m u:nobody:x` writes it, acl(5): owner rwx, nobody x, group -, mask x, others -.
    entries = [(0x01, 7, -1), (0x02, 1, NOBODY.uid), (0x04, 0, -1), (0x10, 1, -1), (0x20, 0, -1)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(closed, "system.posix_acl_access", packed)
    for need, flag in ((Need.ENTER, "-x"), (Need.IMPORT, "-r")):
        verdict = subprocess.run(["test", flag, str(closed)], user=65534, group=65534, extra_groups=[], check=False)
        found = obstacle(str(closed), NOBODY, "user 'nobody'", need)
        assert (found == "") is (verdict.returncode == 0)


def test_the_front_servers_way_to_a_socket(open_folder: Folder) -> None:
    (open_folder.path / "run").mkdir(0o700)
    closed = f"user = nobody\nlisten = {open_folder.path}/run/x.sock\n"
    assert complaints(open_folder, closed + "listen.owner = www-data") == [
        "[pool www] the socket is out of reach: /run (mode 0700, owner root) cannot be entered by user 'www-data'"
    ]
    os.chown(open_folder.path / "run", 65534, 0)
    both = closed + "listen.acl_users = www-data, nobody"
    assert complaints(open_folder, both) == []
    configuration = open_folder.read(f"[www]\n{GOOD_POOL}\n{both}")
    (notice,) = preflight.notices(configuration, as_root=True)
    assert "cannot be entered by user 'www-data'" in notice


def test_a_socket_for_nobody_is_a_notice(open_folder: Folder) -> None:
    text = "user = nobody\nlisten = x.sock\n"
    assert complaints(open_folder, text) == []
    configuration = open_folder.read(f"[www]\n{GOOD_POOL}\n{text}")
    (notice,) = preflight.notices(configuration, as_root=True)
    assert notice.startswith("[pool www] only root can connect to ")


def test_with_a_chroot_paths_are_looked_at_inside(open_folder: Folder) -> None:
    jail = open_folder.path / "jail"
    jail.mkdir(0o755)
    found = complaints(open_folder, f"user = nobody\nchroot = {jail}\nchdir = /site")
    inside = "No such file or directory (inside the chroot /jail)"
    assert found == [
        f"[pool www] /jail/site: {inside}",
        f"[pool www] pyfpm itself is out of reach: /jail/{open_folder.path.parts[1]}: {inside}",
        f"[pool www] /jail/usr: {inside}",
    ]
    assert complaints(open_folder, f"user = nobody\nchroot = {jail}/no") == [
        "[pool www] the chroot path '/jail/no' does not exist or is not a directory"
    ]


def test_an_interpreter_is_asked_inside_the_chroot() -> None:
    assert interpreter_fault(SYSTEM_PYTHON, NOBODY, chroot="/") == ""
    assert "is no Python 3" in interpreter_fault("/bin/sh", NOBODY, chroot="/")


def test_the_default_interpreter_is_ours(open_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    configuration = open_folder.read(f"[www]\n{GOOD_POOL}\nuser = nobody\n")
    problems = preflight.examine(configuration, as_root=True, allow_root=False)
    assert [problem.reason for problem in problems] == ["[pool www] /no: No such file or directory"]
