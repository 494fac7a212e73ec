"""Where a running master is, read from configurations in any state of repair."""

from __future__ import annotations

import pytest

from pyfpm import catalogue
from pyfpm.config.directives import GlobalSettings
from pyfpm.config.load import control_path, read_whereabouts
from tests.unit.config.reading import GOOD_POOL, Folder

BROKEN = "[www]\napp = nothing\nno.such = 1\nthis is no line\n"


def whereabouts(
    folder: Folder, text: str, name: str = "pyfpm.conf", prefix: str | None = None
) -> tuple[object, object]:
    path = folder.write(name, text)
    found = read_whereabouts(str(path), prefix=prefix, environ={"RUN": "/run/x"})
    return found.pid, control_path(found, found.pid)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", (None, None)),
        ("pid = /run/p/pyfpm.pid", ("/run/p/pyfpm.pid", "/run/p/pyfpm.sock")),
        ("pid = /run/p/pyfpm", ("/run/p/pyfpm", "/run/p/pyfpm.sock")),
        ("pid = /run/p/odd.sock", ("/run/p/odd.sock", "/run/p/odd.sock.sock")),
        ("pid = run/pyfpm.pid", ("/var/run/pyfpm.pid", "/var/run/pyfpm.sock")),
        ("pid = ${RUN}/pyfpm.pid", ("/run/x/pyfpm.pid", "/run/x/pyfpm.sock")),
        ("pid = /run/p.pid\ncontrol = none", ("/run/p.pid", None)),
        ("pid = /run/p.pid\ncontrol = /run/c", ("/run/p.pid", "/run/c")),
        ("control = run/c", (None, "/var/run/c")),
    ],
)
def test_an_ini_file(folder: Folder, lines: str, expected: tuple[object, object]) -> None:
    assert whereabouts(folder, f"[global]\n{lines}\n") == expected
    assert whereabouts(folder, f"[global]\n{lines}\nnonsense\nlog_level = loud\n{BROKEN}") == expected
    assert whereabouts(folder, f"{BROKEN}[global]\n{lines}\n") == expected


def test_relative_paths_begin_at_the_prefix(folder: Folder) -> None:
    assert whereabouts(folder, "[global]\npid = a.pid\n", prefix="/opt") == ("/opt/a.pid", "/opt/a.sock")


def test_an_included_file_counts(folder: Folder) -> None:
    folder.write("more.conf", "[global]\npid = /run/more.pid\n")
    assert whereabouts(folder, f"{BROKEN}\ninclude = nowhere/*.conf\ninclude = more.conf\n")[0] == "/run/more.pid"


@pytest.mark.parametrize(
    "broken",
    ["", "[pool.www]\napp = = 3\n", '[pool.www]\napp = "a:b\nlisten = 3\n', "[global\nx = [1\n", "]]\n= 3\n[[\n"],
)
def test_a_toml_file(folder: Folder, broken: str) -> None:
    lines = '[global]  # the daemon\npid = "/run/t.pid"\ncontrol = "/run/t.ctl"\n'
    assert whereabouts(folder, lines + broken, "p.toml") == ("/run/t.pid", "/run/t.ctl")
    if broken.count("\n") < 3:
        assert whereabouts(folder, broken + lines, "p.toml") == ("/run/t.pid", "/run/t.ctl")


def test_a_broken_toml_file_does_not_speak_for_the_daemon_from_a_pool(folder: Folder) -> None:
    text = '[global]\nlog_level = =\n[pool.www]\npid = "/run/wrong.pid"\n'
    assert whereabouts(folder, text, "p.toml") == (None, None)


@pytest.mark.parametrize("name", ["no.conf", "no.toml"])
def test_no_file_at_all(folder: Folder, name: str) -> None:
    found = read_whereabouts(str(folder.path / name), prefix=None, environ={})
    assert (found.pid, control_path(found, found.pid)) == (None, None)


def test_a_pid_file_elsewhere_takes_the_socket_along() -> None:
    assert control_path(GlobalSettings(pid="/run/a.pid"), "/tmp/b.pid") == "/tmp/b.sock"
    explicit = GlobalSettings(control="/run/c", places={"control": "x:1"})
    assert control_path(explicit, "/tmp/b.pid") == "/run/c"


def test_what_is_in_force_is_what_is_shown(folder: Folder) -> None:
    settings = folder.read(f"[global]\npid = /run/p.pid\n[www]\n{GOOD_POOL}").global_
    assert settings.control == "/run/p.sock"
    assert control_path(settings, "/run/other.pid") == "/run/other.sock"
    assert folder.read(f"[www]\n{GOOD_POOL}").global_.control == "none"


def test_a_pool_and_the_daemon_cannot_share_a_socket(folder: Folder) -> None:
    pool = GOOD_POOL.replace("listen = 9000", "listen = /run/p/./p.sock")
    complaint = folder.complaint(f"[global]\ncontrol = /run/p/p.sock\n[www]\n{pool}")
    assert complaint.startswith("pyfpm.conf:2: control: /run/p/p.sock is the place of listen of pool 'www'")
    # One that nobody has asked for stops no start.
    ((code, text),) = folder.read(f"[global]\npid = /run/p/p.pid\n[www]\n{pool}").warnings
    assert code == catalogue.NO_CONTROL_SOCKET
    assert text.startswith("no control socket (/run/p/p.sock): listen of pool 'www' (")
