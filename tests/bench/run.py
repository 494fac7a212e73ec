"""The benchmark: pyfpm, uWSGI, php-fpm and gunicorn in turn in one run, as a table.

Runs in: whoever asks for it: `python tests/bench/run.py [--quick]`.   Not pure.
Fails by: exit code 1, naming each server that did not take part and why.

A machine's speed may double and halve from second to second, so absolute times say little and two runs cannot be
compared. Each slice of a server is divided by the mean of the uWSGI slices before and after it; the ratio is the
figure that counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import pwd
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import load
from budgets import replaced_ms, ten_pools
from front import Answered, Front
from peers import PEERS, Peer, Place, Pyfpm
from processes import cpu_ns, private_kb, pss_kb, sleeps

BASE = "uwsgi"


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
    busy: float  # part of the time that its processes were on the CPU; below 0.9 it waited for the load
    sleeps: float  # per request


@dataclass
class Figures:
    """All that was measured of one server."""

    version: str
    memory: Memory
    slices: list[Slice] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    front: list[Answered] = field(default_factory=list)


def main() -> int:
    options = _options()
    os.sched_setaffinity(0, {options.load_cpu})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyfpm-bench-")))
        folder.chmod(0o755)
        place = Place(options.python, folder, options.user, options.server_cpu)
        print(_setting(options), flush=True)
        peers, failed = _installed([PEERS[name](place) for name in options.peers])
        figures = {peer.name: Figures(version, _idle(peer)) for peer, version in peers.items()}
        for peer in peers:
            stack.callback(peer.stop)
            peer.start()
        _direct(list(peers), figures, options)
        _behind_nginx(list(peers), figures, options, stack)
        print(_table(figures))
        for peer in peers:
            if isinstance(peer, Pyfpm):
                _print_budgets(peer, place, figures, options)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    debian = Path("/usr/bin/python3")
    cpus = sorted(os.sched_getaffinity(0))
    parser.add_argument("--quick", action="store_true", help="a minute, for a first look")
    parser.add_argument("--python", type=Path, default=debian if debian.exists() else Path(sys.executable))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, help="slices of each server, directly on its socket")
    parser.add_argument("--slice", type=float, default=0.2, help="seconds of one")
    parser.add_argument("--user", default="www-data" if os.geteuid() == 0 else "", help="of the servers; '' for yours")
    options = parser.parse_args()
    if len(cpus) < 2:
        parser.error("the load and the servers need a CPU each")
    options.load_cpu, options.server_cpu, options.front_cpu = cpus[0], cpus[1], cpus[2] if len(cpus) > 2 else cpus[0]
    options.rounds = options.rounds or (8 if options.quick else 30)
    options.wrk_rounds, options.wrk_seconds = (1, 2) if options.quick else (4, 4)
    options.idle_seconds = 10 if options.quick else 60
    return options


def _installed(wanted: list[Peer]) -> tuple[dict[Peer, str], list[str]]:
    """The servers that can take part and what they call themselves, and those that cannot."""
    ready, failed = {}, []
    for peer in wanted:
        try:
            version = peer.install()
            peer.start()
            peer.stop()
        except RuntimeError as error:
            print(f"{peer.name} does not take part: {error}\n", file=sys.stderr)
            failed.append(peer.name)
        else:
            ready[peer] = version
    return ready, failed


def _idle(peer: Peer) -> Memory:
    """Measured while no other server runs: pages that two servers share would count half for each."""
    peer.start()
    try:
        (worker,) = peer.workers()
        others = [pid for pid in peer.processes() if pid not in (worker, peer.master)]
        return Memory(pss_kb(peer.master), pss_kb(worker), private_kb(worker), sum(pss_kb(pid) for pid in others))
    finally:
        peer.stop()


def _direct(peers: list[Peer], figures: dict[str, Figures], options: argparse.Namespace) -> None:
    """uWSGI, one, uWSGI, the next, …: each slice between two of uWSGI's."""
    traffic = {peer.name: peer.requests() for peer in peers}
    base = next((peer for peer in peers if peer.name == BASE), None)
    others = [peer for peer in peers if peer is not base]
    for peer in peers:  # caches and allocators settle first
        _slice(peer, traffic[peer.name], 0.5)
    before = _slice(base, traffic[BASE], options.slice) if base else None
    for _ in range(options.rounds):
        for peer in others:
            now = _slice(peer, traffic[peer.name], options.slice)
            figures[peer.name].slices.append(now)
            if base and before:
                after = _slice(base, traffic[BASE], options.slice)
                figures[peer.name].ratios.append(now.cpu_us / ((before.cpu_us + after.cpu_us) / 2))
                figures[BASE].slices.append(after)
                before = after
    if base and not others:
        figures[BASE].slices = [_slice(base, traffic[BASE], options.slice) for _ in range(options.rounds)]


def _slice(peer: Peer, requests: list[bytes], seconds: float) -> Slice:
    pids = peer.processes()
    cpu, slept = cpu_ns(pids), sleeps(pids)
    answered, took = load.run(peer.socket, requests, seconds)
    spent = cpu_ns(pids) - cpu
    return Slice(
        cpu_us=spent / answered / 1e3,
        per_second=answered / took,
        busy=spent / 1e9 / took,
        sleeps=(sleeps(pids) - slept) / answered,
    )


def _behind_nginx(
    peers: list[Peer], figures: dict[str, Figures], options: argparse.Namespace, stack: ExitStack
) -> None:
    front = Front(peers[0].place.folder, peers, options.front_cpu)
    stack.callback(front.stop)
    front.start()
    for peer in peers:
        front.check(peer)
        front.measure(peer, 1, load.CONNECTIONS)
    for _ in range(options.wrk_rounds):
        for peer in peers:
            figures[peer.name].front.append(front.measure(peer, options.wrk_seconds, load.CONNECTIONS))


def _setting(options: argparse.Namespace) -> str:
    script = "import sysconfig, sys; c = sysconfig.get_config_var; print(sys.version.split()[0], c('CONFIG_ARGS'))"
    done = subprocess.run([options.python, "-c", script], capture_output=True, text=True, check=True)
    version, _, arguments = done.stdout.partition(" ")
    build = "with" if "--enable-optimizations" in arguments else "WITHOUT"
    notes = [
        f"{options.python} is CPython {version}, built {build} --enable-optimizations: the interpreter of all Python",
        f"servers here. Linux {platform.release()}, {os.cpu_count()} CPUs: load on {options.load_cpu}, "
        f"nginx and wrk on {options.front_cpu} and {options.load_cpu}, servers on {options.server_cpu}.",
    ]
    if options.python.resolve() == Path(sys.executable).resolve():
        notes.append("This benchmark runs on the same interpreter, whose pages it shares: the PSS below is too small.")
    if options.user:
        notes.append(f"Servers run as {pwd.getpwnam(options.user).pw_name}.")
    return "\n".join(notes)


def _table(figures: dict[str, Figures]) -> str:
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


def _print_budgets(peer: Pyfpm, place: Place, figures: dict[str, Figures], options: argparse.Namespace) -> None:
    ten = ten_pools(place, options.idle_seconds)
    ours, base = figures[peer.name], figures.get(BASE)
    rows = [("master, PSS with ten pools", f"{_mb(ten.master_pss_kb)} MB", "20 MB")]
    rows.append(("master, CPU with ten idle pools", f"{ten.master_cpu_percent:.3f} %", "0.1 %"))
    rows.append(("killed worker to its replacement's answer, median", f"{replaced_ms(peer):.1f} ms", "10 ms"))
    if base:
        rows.append(("CPU per request, ratio to uWSGI", _quartiles(ours.ratios), "1.4"))
        rows.append(("idle worker, PSS", f"{_mb(ours.memory.worker)} MB", f"{_mb(base.memory.worker)} MB (uWSGI's)"))
    print(
        "\n".join(
            ["| Budget | measured | at most |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
