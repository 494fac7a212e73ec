"""Dangerous words stand in one place each, and headers are held to their word."""

from __future__ import annotations

import ast
import re

import pytest

from pyfpm import signals
from pyfpm.config.directive import directives_of
from pyfpm.config.directives import GlobalSettings, PoolSettings
from pyfpm.master.lifecycle import NEXT, Phase, Wish
from tests.rules.source import MODULES, NAMES, ROOT, Module

# Word → the only files that may say it.
ONE_PLACE = {
    r"os\.(fork|forkpty)": {"fork.py"},
    r"os\.(set(re|res|e)?[ug]id|setgroups|initgroups|chroot)": {"master/privileges.py", "monitor/confine.py"},
    r"os\.exec\w+": {"master/spawn.py", "master/upgrade.py", "master/monitor.py"},
    r"os\._exit": {"fork.py"},
    # Of their own children, which nobody has reaped yet; whoever can have a pidfd has one.
    r"os\.kill": {"master/daemonize.py", "master/processes.py", "master/upgrade.py"},
    r"os\.system": set[str](),
    r"signal\.signal": {
        "fork.py",
        "signals.py",
        "template/main.py",
        "worker/main.py",
        "master/daemonize.py",
        "cli/display.py",
    },
    r"signal\.set_wakeup_fd": {"fork.py", "signals.py"},
    r"time\.sleep": {"master/listeners.py", "master/pidfile.py", "cli/client.py", "cli/speech.py", "cli/watching.py"},
}
NOWHERE = {"pickle", "marshal", "shelve", "multiprocessing", "cPickle", "dill"}
# A module that says "Pure" does nothing that another process could see.
EFFECTFUL = {
    "ctypes", "fcntl", "logging", "mmap", "multiprocessing", "pathlib", "resource", "select", "selectors",
    "shutil", "socket", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
HARMLESS_OF_SIGNAL = re.compile(r"signal\.(Signals|SIG[A-Z0-9]+)")


@pytest.mark.parametrize("word", ONE_PLACE)
def test_dangerous_words_stand_in_one_place(word: str) -> None:
    sought = re.compile(word)
    found = {module.name for module in MODULES if any(sought.fullmatch(name) for name in module.attributes())}
    assert found <= ONE_PLACE[word]


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_nothing_is_unpickled_or_evaluated(module: Module) -> None:
    assert not NOWHERE & {name.partition(".")[0] for name in module.imported()}
    called = {
        node.func.id for node in ast.walk(module.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_exceptions_are_made_in_one_place(module: Module) -> None:
    bases = {
        base.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    }
    wrong = {name for name in bases if name.endswith(("Error", "Exception"))}
    assert not wrong or module.name == "errors.py"


@pytest.mark.parametrize(
    "module", [one for one in MODULES if not one.path.stem.startswith("__")], ids=lambda one: one.name
)
def test_every_module_says_who_runs_it_and_how_it_fails(module: Module) -> None:
    lines = module.header.splitlines()
    assert lines, "no header"
    assert lines[0].endswith((".", ":", "?", ")")), "the first line is a sentence"
    runs = [line for line in lines if line.startswith("Runs in: ")]
    assert len(runs) == 1
    assert any(line.startswith("Fails by: ") for line in lines) or "The only file that subclasses" in module.header
    if "Pure: " in runs[0] or "Pure: " in module.header:
        imported = {name.partition(".")[0] for name in module.imported()}
        assert not imported & EFFECTFUL - _only_for_types(module)
        effects = {name for name in module.attributes() if name.startswith(("signal.", "os."))}
        assert not {
            name for name in effects if not HARMLESS_OF_SIGNAL.fullmatch(name) and not name.startswith("os.path")
        }


def _only_for_types(module: Module) -> set[str]:
    """What is imported under TYPE_CHECKING."""
    found = set()
    for node in module.tree.body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for inner in node.body:
                if isinstance(inner, ast.Import):
                    found |= {alias.name for alias in inner.names}
    return found


def test_no_directive_is_spelled_outside_the_table() -> None:
    """Names with a dot, which are nothing but directives. In a sentence for people a name may stand, not as a key."""
    names = {row.name for settings in (GlobalSettings, PoolSettings) for row in directives_of(settings)}
    dotted = {name for name in names if "." in name}
    wrong = {
        f"{module.name}: {node.value}"
        for module in MODULES
        if module.name != "config/directives.py"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in dotted
    }
    assert not wrong


def test_the_table_of_phases_is_total() -> None:
    assert set(NEXT) == {(phase, wish) for phase in Phase for wish in Wish}
    order = list(Phase)
    assert all(order.index(after) >= order.index(phase) for (phase, _), after in NEXT.items()), "there is no way back"


def test_all_handlers_of_the_master_are_the_same_empty_function() -> None:
    tree = next(module for module in MODULES if module.name == "signals.py").tree
    handlers = [
        ast.unparse(node.args[1])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal"
    ]
    assert sorted(handlers) == ["_nothing", "handler"], "watching, and putting back what was there"
    assert signals._nothing.__code__.co_names == ()


# ── tests and documents ─────────────────────────────────────────────────────────────────────────────────────────────


def test_tests_wait_for_events() -> None:
    """A sleep needs a reason beside it."""
    call = re.compile(r"\bsleep\(")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        # What measures has to let time pass, and so has an application that hangs.
        if "/bench/" not in str(path) and path.name != "stuck.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if call.search(line) and "#" not in line
    ]
    assert wrong == []


# A path is written with its folder; what is no file of ours (/etc/pyfpm.d/www.conf) begins with a slash.
_PATH = re.compile(
    r"(?<![\w/.$*-])((?:pyfpm|tests|conf|docs|systemd|cli|master|template|worker|config|protocols|gateway|logs|status)"
    r"/[\w./-]*\w(?:\.\w+)?/?)"
)


def _documents() -> list[str]:
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "pyfpm").rglob("*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if path.exists()]


@pytest.mark.parametrize("name", _documents())
def test_every_path_named_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        text = _comments_of(text)
    wrong = {path for path in _PATH.findall(text) if not _exists(path)}
    assert not wrong


def _exists(path: str) -> bool:
    """As it is, or as the module of a function: "protocols/fastcgi.decode"."""
    module = path.rpartition(".")[0] + ".py"
    return any((folder / name).exists() for folder in (ROOT, ROOT / "pyfpm") for name in (path, module))


def _comments_of(source: str) -> str:
    """Comments and docstrings: what people read."""
    tree = ast.parse(source)
    texts = [line.partition("#")[2] for line in source.splitlines() if re.match(r"\s*#", line)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            texts.append(ast.get_docstring(node) or "")
    return "\n".join(texts)


@pytest.mark.parametrize("name", [name for name in _documents() if name.endswith(".md")])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    folder = (ROOT / name).parent
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [target for target in targets if not (folder / target).exists()] == []
