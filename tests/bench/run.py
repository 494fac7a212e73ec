"""The benchmark: pyfpm, uWSGI, php-fpm and gunicorn in turn in one run, as a table.

Runs in: whoever asks for it: `python -m tests.bench.run [--quick]`.   Not pure.
Fails by: exit code 1, naming each server that did not take part and why.

A machine's speed may double and halve from second to second, so absolute times say little and two runs cannot be
compared. Each slice of a server is divided by the mean of the uWSGI slices before and after it; the ratio is the
figure that counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import load
from tests.bench.budgets import replaced, ten_pools
from tests.bench.front import Front
from tests.bench.peers import PEERS, Peer, Place, Pyfpm
from tests.bench.processes import cpu_ns, private_kb, pss_kb, sleeps, wanted_ns
from tests.bench.report import Figures, Memory, Slice, budget_table, setting, table

BASE = "uwsgi"


def main() -> int:
    options = _options()
    os.sched_setaffinity(0, {options.load_cpu})
    with tempfile.TemporaryDirectory(prefix="pyfpm-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        place = Place(options.python, folder, options.user, options.server_cpu)
        print(setting(options), flush=True)
        peers, failed = _installed([PEERS[name](place) for name in options.peers])
        figures = {peer.name: Figures(version, _idle(peer)) for peer, version in peers.items()}
        with _running(list(peers)):
            _direct(list(peers), figures, options)
            _behind_nginx(list(peers), figures, options)
        print(table(figures))
        if Pyfpm.name in figures:
            ten = ten_pools(place, options.idle_seconds)
            print(budget_table(figures[Pyfpm.name], figures.get(BASE), ten, replaced(place)))
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


@contextmanager
def _running(servers: Sequence[Peer | Front]) -> Iterator[None]:
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield


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
    cpu, wanted, slept = cpu_ns(pids), wanted_ns(pids), sleeps(pids)
    answered, took = load.run(peer.socket, requests, seconds)
    return Slice(
        cpu_us=(cpu_ns(pids) - cpu) / answered / 1e3,
        per_second=answered / took,
        busy=(wanted_ns(pids) - wanted) / 1e9 / took,
        sleeps=(sleeps(pids) - slept) / answered,
    )


def _behind_nginx(peers: list[Peer], figures: dict[str, Figures], options: argparse.Namespace) -> None:
    front = Front(peers[0].place.folder, peers, options.front_cpu)
    with _running([front]):
        for peer in peers:
            front.check(peer)
            front.measure(peer, 1, load.CONNECTIONS)
        for _ in range(options.wrk_rounds):
            for peer in peers:
                figures[peer.name].front.append(front.measure(peer, options.wrk_seconds, load.CONNECTIONS))


if __name__ == "__main__":
    sys.exit(main())
