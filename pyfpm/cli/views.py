"""`pyfpm status`, `stack`, `memory`, `ping`: look at the running daemon, and change nothing.

Runs in: an operator's shell, a health check.
Fails by: the exit code, with the reason on stderr, as the verbs of cli/verbs.py.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import click

from pyfpm.cli.footprints import Footprint, PoolFootprint, tell
from pyfpm.cli.options import Options
from pyfpm.cli.overview import POOL_COLUMNS, in_full
from pyfpm.cli.processes import Weight, read_weight, weigh
from pyfpm.cli.speech import POOLS, ask, ask_stacks, ask_status, room, say, verb
from pyfpm.cli.stacks import show_all
from pyfpm.cli.tables import lay_out
from pyfpm.messages import Verb
from pyfpm.status.reports import PoolReport, WorkerReport, as_json, printable

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each pool.")


@verb
@POOLS
@click.option("--full", is_flag=True, help="All that is known, and every worker.")
@AS_JSON
def status(options: Options, pools: tuple[str, ...], full: bool, as_json: bool) -> int:
    """Show how the pools are: one line each."""
    pid, reports, workers = ask_status(options, pools, full=full)
    workers = [_weighed(worker, pid) for worker in workers]
    by_pool = {report.pool: [worker for worker in workers if worker.pool == report.pool] for report in reports}
    if as_json:
        lines = [_as_json(report, by_pool[report.pool] if full else None) for report in reports]
    elif full:
        wall = time.time()
        lines = [line for report in reports for line in (*in_full(report, by_pool[report.pool], wall, room()), "")]
    else:
        lines = lay_out(POOL_COLUMNS, reports, room())
    for line in lines:
        click.echo(line)
    return 0


def _weighed(worker: WorkerReport, master: int) -> WorkerReport:
    """With what the kernel tells of its memory, where the master has not told."""
    if worker.pss is not None and worker.peak is not None:
        return worker
    weight = weigh(worker.pid, master)
    return replace(worker, pss=worker.pss or weight.pss, peak=worker.peak or weight.peak)


def _as_json(report: PoolReport, workers: list[WorkerReport] | None) -> str:
    members = report.members()
    if workers is not None:
        members["workers"] = [worker.members() for worker in workers]
    return as_json(members)


@verb
@click.argument("which", nargs=-1, required=True, metavar="POOL|PID...")
@click.option("--idle", is_flag=True, help="Show the stacks of idle workers too.")
@click.option("--all-frames", is_flag=True, help="Show the calls of pyfpm itself too, and stacks to any depth.")
def stack(options: Options, which: tuple[str, ...], idle: bool, all_frames: bool) -> int:
    """Show where workers are at this moment: the Python stacks of all their threads, also from the midst of C code."""
    for line in show_all(ask_stacks(options, which, idle=idle), all_frames=all_frames):
        click.echo(line)
    return 0


@verb
@POOLS
@AS_JSON
def memory(options: Options, pools: tuple[str, ...], as_json: bool) -> int:
    """Show how much memory the processes have, how much of it is their own, and what one more worker would cost."""
    pid, reports, workers = ask_status(options, pools, full=True)
    master = Footprint("-", "master", pid, read_weight(pid))
    found = []
    for report in reports:
        template = None
        if report.template_pid:
            template = Footprint(report.pool, "template", report.template_pid, weigh(report.template_pid, pid))
        mine = [
            Footprint(report.pool, "worker", worker.pid, _with_pss(weigh(worker.pid, pid), worker))
            for worker in workers
            if worker.pool == report.pool
        ]
        found.append(PoolFootprint(report.pool, template, mine))
    if as_json:
        lines = [json.dumps({"master": master.members()}), *(json.dumps(one.members()) for one in found)]
    else:
        lines = [printable(line) for line in tell(master, found)]
    for line in lines:
        click.echo(line)
    return 0


def _with_pss(weight: Weight, worker: WorkerReport) -> Weight:
    """The master may look where the pool's user may not."""
    return weight if weight.pss is not None else weight._replace(pss=worker.pss)


@verb
@POOLS
def ping(options: Options, pools: tuple[str, ...]) -> int:
    """Find out whether the daemon answers; with POOLs, whether each of these serves. For health checks."""
    say(ask(options, Verb.PING, pools).text)
    return 0
