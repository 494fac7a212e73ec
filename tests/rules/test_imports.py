"""Folders import only downwards, root's process never loads the wrong half, and a pool's loads nothing of root's."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from tests.rules.source import MODULES, NAMES, ROOT, Module

SHARED = {
    "catalogue",
    "errors",
    "messages",
    "packets",
    "scoreboard",
    "facts",
    "histogram",
    "signals",
    "fork",
    "kernel",
    "installed",
}
# Who may import whom; everybody may import from his own folder. "gateway.events" style names narrow it to one module.
ALLOWED = {
    "__main__": {"cli"},
    "cli": {"master", "config", "status", "logs", "packets", "messages", "fork", "installed", "errors", "catalogue"},
    "master": {"config", "status", "logs", *SHARED},
    "bootstrap": {"template", "monitor"},
    "monitor": {"protocols", "status", "clients", "packets", "messages", "scoreboard", "fork", "kernel", "errors"},
    "template": {"worker", "packets", "messages", "scoreboard", "fork", "kernel", "errors", "catalogue"},
    "worker": {"gateway", "protocols", "status", "logs", "clients", *SHARED} - {"facts", "signals", "installed"},
    "gateway": {"protocols.events", "errors"},
    "protocols": {"errors"},
    "config": {"catalogue", "errors"},
    "logs": {"catalogue", "errors"},
    "status": {"scoreboard", "facts", "histogram", "errors"},
    "clients": set[str](),
    "packets": {"messages", "errors"},
    "messages": {"errors"},
    "scoreboard": {"facts", "histogram"},
    "facts": {"histogram"},
    "histogram": set[str](),
    "signals": set[str](),
    "fork": set[str](),
    "kernel": set[str](),
    "installed": set[str](),
    "errors": {"catalogue"},
    "catalogue": set[str](),
    "__init__": {"errors"},
}
# What runs on the pool's interpreter: the standard library alone, and Python 3.9.
FOR_POOLS = (
    "bootstrap", "template", "worker", "gateway", "protocols", "clients", "messages", "packets", "scoreboard",
    "facts", "histogram", "fork", "kernel", "errors", "catalogue",
)  # fmt: skip
FOR_POOLS_TOO = (
    "logs/access_log.py", "logs/access_codes.py", "logs/timestamp.py", "logs/__init__.py", "__init__.py",
    "status/__init__.py", "status/formats.py", "status/metrics.py", "status/snapshot.py", "status/markup.py",
    "status/headers.py", "status/amounts.py", "status/concerns.py", "status/icons.py",
    "status/sparkline.py", "status/tables.py", "status/dashboard.py",
)  # fmt: skip


def is_for_pools(module: Module) -> bool:
    return module.folder in FOR_POOLS or module.name in FOR_POOLS_TOO


def ours(module: Module) -> set[str]:
    """What it imports of ours, as "folder.module" or the name of a file at the top."""
    names = {name for name in module.imported() if name.startswith("pyfpm.")}
    return {".".join(name.split(".")[1:3]) for name in names}


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_folders_import_only_downwards(module: Module) -> None:
    allowed = ALLOWED[module.folder]
    wrong = {
        name
        for name in ours(module)
        if name.partition(".")[0] != module.folder
        and name not in allowed
        and name.partition(".")[0] not in allowed
        and name not in {one.partition(".")[0] for one in allowed}  # the folder itself, beside a module of it
    }
    assert not wrong


def test_the_architecture_shows_the_table_as_it_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.partition("## Who may import whom")[2].split("```")[1]
    shown = {
        folder.strip(): set(names.split(", ")) - {"nothing"}
        for folders, names in (line.split(" → ") for line in block.strip().splitlines())
        for folder in folders.split(",")
    }
    assert shown == ALLOWED


def test_no_permission_is_left_over() -> None:
    found = {(module.folder, name.partition(".")[0]) for module in MODULES for name in ours(module)}
    allowed = {(folder, name.partition(".")[0]) for folder, names in ALLOWED.items() for name in names}
    told = {("bootstrap", "template"), ("bootstrap", "monitor")}  # which of the two its first argument says
    assert allowed - found == told


def test_no_arrow_goes_round() -> None:
    """The table above has an order: nobody can be reached from whom he imports."""

    def reach(folder: str, seen: set[str]) -> set[str]:
        for name in ALLOWED[folder]:
            below = name.partition(".")[0]
            if below not in seen:
                seen.add(below)
                reach(below, seen)
        return seen

    assert [folder for folder in ALLOWED if folder in reach(folder, set())] == []


@pytest.mark.parametrize("module", [one for one in MODULES if is_for_pools(one)], ids=lambda one: one.name)
def test_what_pools_run_is_standard_library_and_python_3_9(module: Module) -> None:
    foreign = {name.partition(".")[0] for name in module.imported()} - set(sys.stdlib_module_names) - {"pyfpm"}
    assert not foreign
    ast.parse(module.text, feature_version=(3, 9))


def loaded_by(statement: str) -> list[str]:
    """The modules that a fresh interpreter has after `statement`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("entrance", ["pyfpm.master.main", "pyfpm.cli.main"])
def test_roots_process_never_loads_what_meets_clients(entrance: str) -> None:
    found = loaded_by(f"import {entrance}")
    halves = tuple(f"pyfpm.{half}" for half in ("template", "worker", "gateway", "protocols"))
    assert [name for name in found if name.startswith(halves)] == []


def test_a_test_of_the_configuration_loads_no_master() -> None:
    assert "pyfpm.master.main" not in loaded_by("import pyfpm.cli.main, pyfpm.cli.configtest")


def test_a_pools_process_loads_nothing_of_roots() -> None:
    found = loaded_by("import pyfpm.template.main")
    halves = tuple(f"pyfpm.{half}." for half in ("master", "cli", "config", "status"))
    assert [name for name in found if f"{name}.".startswith(halves)] == []
    foreign = {"click", "psutil", "setproctitle", "tomli_w", "tomllib", "logging", "asyncio", "http", "email"}
    assert foreign & set(found) == set(), "each of these costs every worker memory, or is not there at all"
