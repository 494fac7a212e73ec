"""What a process weighs, asked of real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pyfpm.master import weigher
from pyfpm.master.weigher import proportional_size
from tests.harness.interpreters import AS_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
NOBODY = 65534
HOLD = "import sys; held = bytearray({}); print(flush=True); sys.stdin.read()"


@contextmanager
def process_with(mebibytes: int) -> Iterator[int]:
    """The pid of a process that has touched so much memory."""
    source = HOLD.format(f"b'x' * {mebibytes * MIB}")
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def test_what_a_process_has_touched_is_weighed() -> None:
    with process_with(5) as small, process_with(60) as large:
        light, heavy = proportional_size(small), proportional_size(large)
    assert light is not None
    assert heavy is not None
    assert 50 * MIB < heavy - light < 65 * MIB


def test_the_largest_are_given_by_what_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    with process_with(20) as pid:
        proportional = proportional_size(pid)
        monkeypatch.setattr(weigher, "LARGEST", 10 * MIB)
        resident = proportional_size(pid)
    assert proportional is not None
    assert resident is not None
    assert resident > proportional, "what is shared with others counts in full"


def test_nobody_is_not_known() -> None:
    assert proportional_size(1 << 30) is None


@pytest.mark.skipif(not AS_ROOT, reason="needs root to become somebody else")
def test_what_the_kernel_does_not_tell_is_not_known() -> None:
    with process_with(1) as pid:
        os.seteuid(NOBODY)
        try:
            assert proportional_size(pid) is None
        finally:
            os.seteuid(0)
