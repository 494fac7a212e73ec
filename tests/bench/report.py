"""What was measured, and how it is shown.

Runs in: the benchmark.   Not pure: it asks the interpreter under test how it was built.
Fails by: nothing to fail at.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from tests.bench.budgets import Replaced, TenPools
from tests.bench.front import Answered


@dataclass
class Memory:
    """Of an idle server that has answered one request; kB."""

    master: int
    worker: int
    worker_private: int
    others: int  # templates


@dataclass(frozen=True)
class Slice:
    """One server under load for a moment."""

    cpu_us: float  # of all its processes, per request
    per_second: float
    busy: float  # part of the time that it ran or wanted to; well below 1 it waited for the load
    sleeps: float  # per request


@dataclass
class Figures:
    """All that was measured of one server."""

    version: str
    memory: Memory
    slices: list[Slice] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    front: list[Answered] = field(default_factory=list)


def setting(options: argparse.Namespace) -> str:
    script = "import sysconfig, sys; c = sysconfig.get_config_var; print(sys.version.split()[0], c('CONFIG_ARGS'))"
    done = subprocess.run([options.python, "-c", script], capture_output=True, text=True, check=True)
    version, _, arguments = done.stdout.partition(" ")
    notes = [
        f"Interpreter of all Python servers: {options.python}, CPython {version}, {_build(options.python, arguments)}.",
        f"Linux {platform.release()}, {os.cpu_count()} CPUs: load on {options.load_cpu}, "
        f"nginx and wrk on {options.front_cpu} and {options.load_cpu}, servers on {options.server_cpu}.",
    ]
    if options.python.resolve() == Path(sys.executable).resolve():
        notes.append("This benchmark runs on the same interpreter, whose pages it shares: the PSS below is too small.")
    if options.user:
        notes.append(f"Servers run as {options.user}.")
    return "\n".join(notes)


def _build(python: Path, arguments: str) -> str:
    if "--enable-optimizations" in arguments:
        return "built with --enable-optimizations"
    # Debian optimises by profile without that option.
    return "the distribution's build" if python.is_relative_to("/usr/bin") else "built WITHOUT --enable-optimizations"


def table(figures: dict[str, Figures]) -> str:
    head = (
        "| Server | CPU us/request | ratio to uWSGI (quartiles) | busy | sleeps/request | requests/s, socket "
        "| requests/s, nginx | p50 us | p99 us | PSS worker MB (private) | PSS master MB | PSS others MB |"
    )
    return "\n".join(["", head, "|" + " --- |" * 12, *(_row(each) for each in figures.values()), ""])


def _row(each: Figures) -> str:
    memory = each.memory
    cells = [
        each.version,
        f"{median(part.cpu_us for part in each.slices):.1f}",
        _quartiles(each.ratios),
        f"{median(part.busy for part in each.slices):.0%}",
        f"{median(part.sleeps for part in each.slices):.2f}",
        f"{median(part.per_second for part in each.slices):.0f}",
        f"{median(part.per_second for part in each.front):.0f}",
        f"{median(part.p50_us for part in each.front):.0f}",
        f"{median(part.p99_us for part in each.front):.0f}",
        f"{_mb(memory.worker)} ({_mb(memory.worker_private)})",
        _mb(memory.master),
        _mb(memory.others),
    ]
    return "| " + " | ".join(cells) + " |"


def _quartiles(ratios: list[float]) -> str:
    if len(ratios) < 2:
        return "1"
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _mb(kilobytes: int) -> str:
    return f"{kilobytes / 1024:.1f}"


def budget_table(ours: Figures, base: Figures | None, ten: TenPools, replaced: Replaced) -> str:
    """pyfpm's budgets: what was measured, and at most what it should be."""
    rows = [
        ("master, PSS with ten pools", f"{_mb(ten.master_pss_kb)} MB", "20 MB"),
        ("master, CPU with ten idle pools", f"{ten.master_cpu_percent:.3f} %", "0.1 %"),
        ("worker ready after the order, median", f"{replaced.ready_ms:.1f} ms", "10 ms"),
        ("killed worker to the answer of its replacement, median", f"{replaced.answered_ms:.1f} ms", ""),
    ]
    if base:
        rows.append(("CPU per request, ratio to uWSGI", _quartiles(ours.ratios), "1.4"))
        rows.append(("idle worker, PSS", f"{_mb(ours.memory.worker)} MB", f"{_mb(base.memory.worker)} MB (uWSGI's)"))
    return markdown([("Budget", "measured", "at most"), *rows])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, the first row of which is its head."""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))
