"""What the import of an application left behind in the process, and which module made it.

Runs in: template, Python 3.9 and up.
Fails by: nothing; what the kernel does not tell is not found.
"""

from __future__ import annotations

import importlib.machinery
import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class Leftovers:
    """What an import leaves in the process that a forked worker cannot use: threads, connections, child processes.

    A context: inside it, every module is looked at before and after it runs, so that what appears is put down to the
    module that was running. Looking costs about 30 µs a module.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], str] = {}
        self._running: list[str] = []
        self._known = _possessions()
        self._originals = [
            (loader, loader.exec_module)
            for loader in (importlib.machinery.SourceFileLoader, importlib.machinery.ExtensionFileLoader)
        ]

    def __enter__(self) -> Leftovers:
        for loader, original in self._originals:
            setattr(loader, "exec_module", self._watched(original))
        return self

    def __exit__(self, *_: object) -> None:
        for loader, original in self._originals:
            setattr(loader, "exec_module", original)
        self._look()

    @property
    def found(self) -> list[str]:
        """What is there now and was not at the start. What has gone again (a closed socket) was no harm."""
        return [words for key, words in self._made.items() if key in self._known]

    def _watched(self, exec_module: Callable[..., None]) -> Callable[..., None]:
        def run(loader: object, module: Any) -> None:
            self._look()
            self._running.append(module.__name__)
            try:
                exec_module(loader, module)
            finally:
                self._look()
                self._running.pop()

        return run

    def _look(self) -> None:
        now = _possessions()
        maker = f", made by {self._running[-1]}" if self._running else ""
        for key in now.keys() - self._known.keys():
            self._made[key] = now[key] + maker
        self._known = now


def _possessions() -> dict[tuple[str, str], str]:
    """Everything this process holds that does not survive a fork, by kind and number, each with words for it."""
    return {**dict(_threads()), **dict(_connections()), **dict(_children())}


def _threads() -> Iterator[tuple[tuple[str, str], str]]:
    names = _names_of_threads()
    main = str(os.getpid())
    for task in _names_in("/proc/self/task") or names:
        if task != main:
            yield ("thread", task), f"thread {names.get(task, task)}"


def _names_of_threads() -> dict[str, str]:
    try:
        return {str(thread.native_id): thread.name for thread in threading.enumerate()}
    except Exception:
        return {}  # eventlet puts others in the place of threads, and is in the middle of that


def _connections() -> Iterator[tuple[tuple[str, str], str]]:
    for descriptor in _names_in("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # the descriptor of the listing itself
        if target.startswith(("socket:", "pipe:", "anon_inode:[eventpoll]", "anon_inode:[io_uring]")):
            yield ("descriptor", f"{descriptor} {target}"), f"descriptor {descriptor} ({target})"


def _children() -> Iterator[tuple[tuple[str, str], str]]:
    for task in _names_in("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as children:
                for pid in children.read().split():
                    yield ("child", pid), f"child process {pid}"
        except OSError:
            continue  # the thread has ended meanwhile, or a kernel without CONFIG_PROC_CHILDREN


def _names_in(folder: str) -> list[str]:
    """What is in a folder of /proc; nothing where there is none, as in many a chroot."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
