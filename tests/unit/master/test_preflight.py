from __future__ import annotations

import os
import resource
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from pyfpm.config.claims import Claim, Use
from pyfpm.config.directives import GlobalSettings
from pyfpm.config.values import LONGEST_SOCKET_PATH
from pyfpm.master import places, preflight
from pyfpm.master.accounts import Identity
from pyfpm.master.interpreters import interpreter_fault
from pyfpm.master.reach import Need, obstacle
from tests.unit.config.conftest import folder
from tests.unit.config.reading import GOOD_POOL, Folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["folder"]

STRANGER = Identity(64001, 64002, (64003,), "stranger")


def complaints(folder: Folder, text: str) -> list[str]:
    """What preflight says to whoever is not root, without the folder's own path."""
    configuration = folder.read(f"[www]\n{GOOD_POOL}\npython = {sys.executable}\n{text}")
    problems = preflight.examine(configuration, as_root=False, allow_root=False)
    return [str(problem).replace(str(folder.path), "").split("\n")[0] for problem in problems]


def test_a_good_configuration_has_no_problems(folder: Folder) -> None:
    assert complaints(folder, f"chdir = {folder.path}\nlisten = www.sock\naccess.log = /dev/null") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("access.log = no/x.log", "access.log: [pool www] the directory '/no' does not exist"),
        ("access.log = .", "access.log: [pool www] '/.' is a directory"),
        ("listen = no/x.sock", "listen: [pool www] the directory '/no' does not exist"),
        ("listen = pyfpm.conf", "listen: [pool www] '/pyfpm.conf' exists and is not a socket"),
        ("prefix = no", "prefix: [pool www] the prefix '/no' does not exist or is not a directory"),
        ("chdir = /no/where", "chdir: [pool www] /no: No such file or directory"),
        ("pythonpath = no", "pythonpath: [pool www] /no: No such file or directory"),
        ("python = no", "python: [pool www] /no: No such file or directory"),
        ("python = /bin/sh", "python: [pool www] /bin/sh is no Python 3: it answers"),
        (
            "access.format = %Z",
            "access.format: [pool www] wrong format for access.format '%Z': Invalid token in the access.format (%Z)",
        ),
        ("listen = x.sock\nlisten.owner = nobody-here", "listen.owner: [pool www] cannot get uid for user"),
        ("listen = x.sock\nlisten.acl_groups = none-here", "listen.acl_groups: [pool www] cannot get gid for group"),
        (f"rlimit_files = {2**62}", f"rlimit_files: [pool www] {2**62} is above the limit of"),
        (f"env[A] = {'x' * 70000}", "env: [pool www] the settings of this pool have 70"),
    ],
)
def test_what_a_start_would_refuse(folder: Folder, line: str, problem: str) -> None:
    found = complaints(folder, line)
    assert len(found) == 1
    assert found[0].startswith(f"/pyfpm.conf:{8 + len(line.splitlines())}: {problem}")


def test_the_path_of_a_socket_has_an_end(folder: Folder) -> None:
    folder_length = len(str(folder.path)) + 1
    longest = "x" * (LONGEST_SOCKET_PATH - folder_length)
    assert complaints(folder, f"listen = {longest}") == []
    assert f"has {LONGEST_SOCKET_PATH + 1} bytes" in complaints(folder, f"listen = {longest}x")[0]


def test_a_socket_that_is_left_over_is_no_problem(folder: Folder) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(folder.path / "x.sock"))
    assert complaints(folder, "listen = x.sock") == []


def test_nothing_is_created(folder: Folder) -> None:
    complaints(folder, "access.log = x.log\nlisten = x.sock")
    assert os.listdir(folder.path) == ["pyfpm.conf"]


def test_who_is_not_root_is_told_what_is_ignored(folder: Folder) -> None:
    configuration = folder.read(
        f"[global]\nprocess.priority = 3\n[w]\n{GOOD_POOL}\nuser = x\ngroup = x\nchroot = /\nprocess.priority = 3\n"
    )
    ignored = "directive is ignored when FPM is not running as root"
    assert preflight.notices(configuration, as_root=False) == [
        f"'process.priority' {ignored}",
        *[f"[pool w] '{name}' {ignored}" for name in ("user", "group", "chroot", "process.priority")],
    ]


def test_only_root_gives_sockets_away(folder: Folder) -> None:
    assert "only root can give a socket to user '64001'" in complaints(folder, "listen = x\nlisten.owner = 64001")[0]


def test_a_hard_limit_holds_for_all_but_root(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 64001)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 20))
    assert not [found for found in complaints(folder, "rlimit_files = 20") if "limit" in found]
    assert "21 is above the limit of 20" in complaints(folder, "rlimit_files = 21")[0]


def test_every_interpreter_is_asked_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fault(python: str, who: Identity | None, *, chroot: str | None) -> str:
        assert (who, chroot) == (None, None)
        asked.append(python)
        return "no good"

    monkeypatch.setattr(preflight, "interpreter_fault", fault)
    pools = "".join(f"[{n}]\n{GOOD_POOL}\nlisten = {n}\npython = /bin/sh\n" for n in range(1, 4))
    problems = preflight.examine(folder.read(pools), as_root=False, allow_root=False)
    assert asked == ["/bin/sh"]
    assert [problem.reason for problem in problems] == [f"[pool {n}] no good" for n in range(1, 4)]


# ── interpreters ────────────────────────────────────────────────────────────────────────────────────────────────────


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_our_own_interpreter_is_good() -> None:
    assert interpreter_fault(sys.executable, None) == ""


def test_an_interpreter_that_is_too_old(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "printf 'pyfpm 3 8'")
    assert interpreter_fault(python, None) == f"{python} is Python 3.8; pools need 3.9 or later"


def test_a_program_that_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("no program")
    path.chmod(0o755)
    assert interpreter_fault(str(path), None) == f"{path} cannot be run: Exec format error"


def test_a_program_that_never_ends_or_never_stops_talking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyfpm.master.interpreters._PATIENCE", 0.2)
    for text in ("exec tail -f /dev/null", "exec yes"):
        python = script(tmp_path / "python", text)
        assert interpreter_fault(python, None).startswith(f"{python} does not answer within")


def test_a_child_that_keeps_the_pipe_open_does_not_keep_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    python = script(tmp_path / "python", f"cat {tmp_path}/fifo & printf 'pyfpm 3 11'")
    assert interpreter_fault(python, None) == ""
    (tmp_path / "fifo").write_text("")  # lets the child end


# ── the way to a path ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small file system: what is above it does not count, as if it were a chroot."""
    (tmp_path / "srv/site").mkdir(parents=True)
    (tmp_path / "srv/site/app.py").touch(0o644)
    for path in (tmp_path, tmp_path / "srv", tmp_path / "srv/site"):
        path.chmod(0o755)
    return tmp_path


def way(tree: Path, path: str, need: Need = Need.ENTER, who: Identity = STRANGER) -> str:
    return obstacle(path, who, "user 'stranger'", need, root=str(tree)).replace(str(tree), "")


def test_a_free_way(tree: Path) -> None:
    assert way(tree, "/srv/site") == ""
    assert way(tree, "/") == ""
    assert way(tree, "/srv/../srv/./site/") == ""
    assert way(tree, "/../srv/site/app.py", Need.IMPORT) == ""


def test_the_first_folder_that_stops_a_user_is_named(tree: Path) -> None:
    (tree / "srv").chmod(0o700)
    owner = "root" if os.geteuid() == 0 else None
    found = way(tree, "/srv/site")
    assert found.startswith("/srv (mode 0700, owner ")
    assert owner is None or "owner root" in found
    assert found.endswith(") cannot be entered by user 'stranger'")


def test_what_is_at_the_end_needs_its_own_permission(tree: Path) -> None:
    (tree / "srv/site").chmod(0o711)
    assert way(tree, "/srv/site") == ""
    assert way(tree, "/srv/site", Need.IMPORT).endswith("cannot be read by user 'stranger'")
    assert way(tree, "/srv/site/app.py", Need.RUN).endswith("cannot be executed by user 'stranger'")


def test_groups_count(tree: Path) -> None:
    (tree / "srv").chmod(0o750)
    gid = (tree / "srv").stat().st_gid
    assert way(tree, "/srv/site") != ""
    assert way(tree, "/srv/site", who=Identity(64001, gid, ())) == ""
    assert way(tree, "/srv/site", who=Identity(64001, 64002, (gid,))) == ""
    (tree / "srv").chmod(0o705)  # a member of the group is not one of the others
    assert way(tree, "/srv/site", who=Identity(64001, gid, ())) != ""


def test_the_owner_and_root(tree: Path) -> None:
    owner = (tree / "srv").stat().st_uid
    (tree / "srv").chmod(0o700)
    assert way(tree, "/srv/site", who=Identity(owner, 64002, ())) == ""
    assert way(tree, "/srv/site", who=Identity(0, 0, ())) == ""
    assert way(tree, "/srv/site/app.py", Need.RUN, who=Identity(0, 0, ())) != ""


def test_links_are_followed_inside_the_root(tree: Path) -> None:
    (tree / "private").mkdir(0o700)
    (tree / "private/x").touch()
    (tree / "absolute").symlink_to("/srv/site")
    (tree / "relative").symlink_to("srv/../private/x")
    (tree / "loop").symlink_to("loop")
    assert way(tree, "/absolute/app.py", Need.IMPORT) == ""
    assert way(tree, "/relative").startswith("/private (mode 0700")
    assert way(tree, "/loop") == "/loop: too many symbolic links"


def test_what_is_not_there(tree: Path) -> None:
    assert way(tree, "/srv/nope/x") == "/srv/nope: No such file or directory"
    assert way(tree, "/srv/site/app.py/x") == "/srv/site/app.py: is not a directory"


def global_complaints(folder: Folder, lines: str) -> list[str]:
    configuration = folder.read(f"[global]\n{lines}\n[www]\n{GOOD_POOL}\npython = {sys.executable}\n")
    problems = preflight.examine(configuration, as_root=False, allow_root=False)
    return [str(problem).replace(str(folder.path), "").split("\n")[0] for problem in problems]


def test_a_control_socket_that_was_asked_for_must_be_possible(folder: Folder) -> None:
    here = folder.path
    assert global_complaints(folder, f"control = {here}/x.sock") == []
    assert global_complaints(folder, "control = none") == []
    assert global_complaints(folder, f"control = {here}/no/x.sock") == [
        "/pyfpm.conf:2: control: the directory '/no' does not exist"
    ]
    assert global_complaints(folder, f"control = {here}/pyfpm.conf") == [
        "/pyfpm.conf:2: control: '/pyfpm.conf' exists and is not a socket"
    ]
    (too_long,) = global_complaints(folder, f"control = {here}/{'x' * LONGEST_SOCKET_PATH}")
    assert "the path of a unix socket has at most" in too_long


def test_one_that_nobody_asked_for_stops_no_start(folder: Folder) -> None:
    (folder.path / "pyfpm.sock").write_text("a file in its place")
    assert global_complaints(folder, f"pid = {folder.path}/pyfpm.pid") == []


# ── what there is room for ──────────────────────────────────────────────────────────────────────────────────────────


def make(path: Path, kind: str) -> str:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "second name":
        path.with_suffix(".other").touch()
        os.link(path.with_suffix(".other"), path)
    elif kind == "device":
        return os.devnull
    else:
        path.touch()
    return str(path)


REGULAR, ALONE, ANY = "is not a regular file", "has 2 names (hard links)", "is neither a file nor a FIFO nor a terminal"


@pytest.mark.parametrize(
    ("use", "kind", "as_user", "as_root"),
    [
        *[(use, "file", "", "") for use in Use if use.is_file],
        *[(use, "socket", ANY, ANY) for use in (Use.MASTERS_LOG, Use.WORKERS_LOG)],
        *[(use, kind, "", "") for use in (Use.MASTERS_LOG, Use.WORKERS_LOG) for kind in ("fifo", "device")],
        *[(Use.PID_FILE, kind, REGULAR, REGULAR) for kind in ("fifo", "device", "socket")],
        *[(Use.POOLS_LOG, kind, "", REGULAR) for kind in ("fifo", "device")],
        (Use.PID_FILE, "second name", ALONE, ALONE),
        (Use.MASTERS_LOG, "second name", "", ALONE),
        (Use.WORKERS_LOG, "second name", "", ""),  # opened as the pool's user
    ],
)
def test_what_a_file_may_be(tmp_path: Path, use: Use, kind: str, as_user: str, as_root: str) -> None:
    claim = Claim(GlobalSettings(), "error_log", use, make(tmp_path / "x", kind))
    for is_root, fault in ((False, as_user), (True, as_root)):
        found = [problem.reason for problem in places.problems_of(claim, as_root=is_root)]
        said = [reason for reason in found if "not safe for root" not in reason]
        assert said == ([f"'{claim.path}' {fault}"] if fault else [])


def test_somebody_has_to_read_a_fifo(folder: Folder) -> None:
    os.mkfifo(folder.path / "x")
    configuration = folder.read(f"[w]\n{GOOD_POOL}\naccess.log = {folder.path}/x\npython = {sys.executable}\n")
    (line,) = preflight.notices(configuration, as_root=False)
    assert line.startswith(f"{folder.path}/x is a FIFO, by access.log of pool 'w' (")


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("192.0.2.1:9000", "unable to bind listening socket for address '192.0.2.1:9000': Cannot assign"),
        ("a..b:9000", "cannot resolve 'a..b' of 'a..b:9000': "),
        ("127.0.0.1:9000", ""),
        ("9000", ""),
    ],
)
def test_hosts_are_looked_up_for_a_test_alone(folder: Folder, listen: str, said: str) -> None:
    """Who runs may go on with what it has, though its host is gone."""
    configuration = folder.read(f"[w]\n{GOOD_POOL}\nlisten = {listen}\npython = {sys.executable}\n")
    assert preflight.examine(configuration, as_root=False, allow_root=False) == []
    found = preflight.examine(configuration, as_root=False, allow_root=False, look_up=True)
    assert [problem.reason.startswith(f"[pool w] {said}") for problem in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("first", "second"),
    [("localhost:9000", "127.0.0.1:9000"), ("[::1]:9000", "[0:0:0:0:0:0:0:1]:9000"), ("here/x", "there/x")],
)
def test_one_place_in_two_spellings(folder: Folder, first: str, second: str) -> None:
    (folder.path / "here").mkdir()
    (folder.path / "there").symlink_to("here")
    pools = [f"[{name}]\n{GOOD_POOL}\nlisten = {listen}\n" for name, listen in (("a", first), ("b", second))]
    configuration = folder.read("".join(pools))
    problems = preflight.examine(configuration, as_root=False, allow_root=False, look_up=True)
    found = [problem.reason for problem in problems if problem.subject == "listen"]
    assert found == ["[pool b] unable to set listen address as it's already used in another pool 'a'"]


def test_too_few_descriptors_for_a_master(folder: Folder) -> None:
    (problem,) = global_complaints(folder, "rlimit_files = 20")
    assert problem == "/pyfpm.conf:2: rlimit_files: 20 is too low: with these pools the master needs 32 to start"
    assert global_complaints(folder, "rlimit_files = 32") == []
