"""Fixtures that start real processes, and what a failed test shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import interpreters
from tests.harness.daemon import Daemon, fresh_daemon
from tests.harness.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The folder of this run, with a copy of pyfpm that every user can read."""
    made = Stage()
    yield made
    made.remove()


@pytest.fixture
def daemon(stage: Stage) -> Iterator[Daemon]:
    """A daemon that is not yet configured."""
    with fresh_daemon(stage) as made:
        yield made


@pytest.fixture
def served(daemon: Daemon) -> Daemon:
    """A daemon that serves apps.py in a pool `www` of one worker."""
    daemon.add_pool()
    daemon.start()
    return daemon


@pytest.fixture
def make_daemon(stage: Stage) -> Iterator[Callable[[], Daemon]]:
    """For tests of several daemons."""
    made: list[Daemon] = []

    def make() -> Daemon:
        made.append(Daemon(stage))
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001  pytest looks at the name
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        report.sections += [(f"pyfpm, pid {one.pid}", one.story()) for one in Daemon.living]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in interpreters.summary():
        terminalreporter.write_line(line)
