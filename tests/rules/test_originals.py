"""What gevent and eventlet replace in the standard library, pyfpm holds by name since before the application came.

An attribute that is looked up at its call is theirs by then. It waits in a loop of events that nobody runs.
"""

from __future__ import annotations

import ast

import pytest

from tests.rules.source import MODULES, Module
from tests.rules.test_imports import is_for_pools

# gevent.monkey.patch_all() and eventlet.monkey_patch(), as far as it could be any use to us.
REPLACED = {
    "os": {"close", "fdopen", "fork", "forkpty", "open", "posix_spawn", "read", "wait", "waitpid", "write"},
    "select": {"epoll", "poll", "select"},
    "signal": {"getsignal", "signal"},
    "socket": {"create_connection", "fromfd", "getaddrinfo", "socket"},
    "_thread": {"allocate_lock", "get_ident", "start_new_thread"},
    "threading": {"Event", "Lock", "Thread", "current_thread", "get_ident"},
    "time": {"sleep"},
    "subprocess": {"Popen", "run"},
}


def looked_up_at_the_call(module: Module) -> list[str]:
    calls = [node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    return [
        f"{function.value.id}.{function.attr}, line {function.lineno}"
        for function in calls
        if isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.attr in REPLACED.get(function.value.id, ())
    ]


@pytest.mark.parametrize("module", [one for one in MODULES if is_for_pools(one)], ids=lambda one: one.name)
def test_what_an_application_may_replace_is_held(module: Module) -> None:
    assert looked_up_at_the_call(module) == []
