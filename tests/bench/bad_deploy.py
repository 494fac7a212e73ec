"""What a broken deploy does to the visitors: gunicorn, uWSGI, Granian and pyfpm, each with every kind of breakage.

Runs in: whoever asks for it: `python -m tests.bench.bad_deploy [--quick] [--write docs/bad-deploys.md]`.   Not pure.
Fails by: exit code 1 when a server does not take part, or when pyfpm lets a visitor notice.

Two workers, a visitor every 25 ms whatever becomes of the others, and code that answers "old". The code is broken, the
server is told to reload gracefully, and for ten seconds every answer is noted. Then good
code is put in its place, and the same reload is asked for again.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.breakages import OF_CODE, OF_SETTINGS, Breakage
from tests.bench.peers import Place
from tests.bench.report import markdown
from tests.bench.sites import (
    GranianSite,
    GunicornSite,
    PyfpmSite,
    Said,
    Site,
    UwsgiChain,
    UwsgiChainAnyApp,
    UwsgiSite,
    options_for,
    place_for,
)
from tests.bench.visitors import REFUSED, Steady, Visit, stay, visit

WORKERS = 2
PER_SECOND = 40.0
BEFORE = 1.0  # seconds of visits before the deployment
WATCHED = 10.0
RECOVERY = 15.0
IN_A_ROW = 10  # answers of the new code that prove a reload
SERVERS: dict[str, type[Site]] = {
    each.name: each for each in (GunicornSite, UwsgiChain, UwsgiChainAnyApp, UwsgiSite, GranianSite, PyfpmSite)
}
# A generation that hangs must be refused while somebody watches.
SHORT = "reload_timeout = 4s\n"


# ── one trial ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Result:
    """What became of one server and one breakage."""

    server: str
    breakage: str
    trigger: str
    visits: list[Visit]
    said: Said
    exit_code: int | None  # of the master, at the end of the watch
    respawned: bool | None  # None where nobody asked
    recovered: bool

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(each.outcome for each in self.visits)

    @property
    def is_ours(self) -> bool:
        return self.trigger == PyfpmSite.trigger

    @property
    def is_unnoticed(self) -> bool:
        """No visitor saw anything, the old code lives, and the next reload is as good as any."""
        return set(self.outcomes) == {"old"} and self.respawned is not False and self.recovered


def trial(site: Site, version: str, breakage: Breakage) -> Result:
    """Break it, watch, repair it."""
    site.start()
    with Steady(site.target, PER_SECOND) as visitors:
        stay(BEFORE)
        with breakage.apply(site):
            began = time.perf_counter()
            said = site.reload()
            stay(began + WATCHED - time.perf_counter())
            exit_code = site.exit_code
            ended = time.perf_counter()
            visitors.settle()  # before the repair, which would save those who still wait
            respawned = _respawns(site) if isinstance(site, PyfpmSite) else None
        site.deploy("new")
        if site.exit_code is None:
            site.reload()
        recovered = _answers(site, "new", RECOVERY)
    visits = visitors.since(began, ended)
    return Result(version, breakage.name, site.trigger, visits, said, exit_code, respawned, recovered)


def _respawns(site: PyfpmSite) -> bool:
    """Kill a worker: another one takes its place, and has the old code."""
    before = site.workers()
    if len(before) != WORKERS:
        return False
    os.kill(before[0], signal.SIGKILL)
    ends = time.monotonic() + RECOVERY
    while set(site.workers()) <= set(before) or len(site.workers()) < WORKERS:
        if time.monotonic() > ends:
            return False
        stay(0.1)
    return _answers(site, "old", RECOVERY)


def _answers(site: Site, word: str, seconds: float) -> bool:
    """Whether within that time this code, and no other, answers."""
    ends = time.monotonic() + seconds
    row = 0
    while row < IN_A_ROW and time.monotonic() < ends:
        if visit(site.target).outcome == word:
            row += 1
        else:
            row = 0
            stay(0.1)
    return row == IN_A_ROW


# ── what is printed ─────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = (
    "Server",
    "Broken by",
    "Trigger",
    "Requests in 10 s",
    "Answered by the old code",
    "Errors",
    "Refused",
    "Master",
    "The trigger said",
    "Respawns the old code",
    "Good reload afterwards",
)
INTRODUCTION = """# What a broken deploy does to the visitors

Written by `python -m tests.bench.bad_deploy --write docs/bad-deploys.md`. Every server runs with two workers and code
that answers `old`; forty visitors come in each second, whatever becomes of those before them, and wait at most five
seconds. The code (or, for pyfpm, its settings) is broken, the server is asked for its graceful reload, and for ten
seconds each answer is noted. Then good code is deployed and the same reload is asked for again.

pyfpm has `reload_timeout = 4s`, so that a hanging import is refused while somebody watches, and in the rows "raises in
every request" `reload_probe = /health`; the others have nothing of the kind, and no way to say that a reload failed.

*Errors* are answers other than 200, connections closed or reset without one, and none within five seconds. *Refused*
are connections that were not made. *Respawns the old code*: in pyfpm a worker is killed after the refused reload, and
the one that takes its place must answer with the old code.
"""


def table(results: Sequence[Result]) -> str:
    return markdown([HEAD, *(_row(each) for each in results)])


def _row(result: Result) -> tuple[str, ...]:
    outcomes = result.outcomes
    total = outcomes.total()
    errors = Counter({what: count for what, count in outcomes.items() if what not in ("old", REFUSED)})
    return (
        result.server,
        result.breakage,
        f"`{result.trigger}`",
        str(total),
        f"{outcomes['old']} ({_percent(outcomes['old'], total)})",
        f"{errors.total()}{_named(errors)}",
        str(outcomes[REFUSED]),
        "runs" if result.exit_code is None else f"**gone**, exit {result.exit_code}",
        "nothing" if result.said.exit_code is None else f"exit {result.said.exit_code}: {result.said.words}",
        {None: "", True: "yes", False: "**no**"}[result.respawned],
        "works" if result.recovered else "**does not help**",
    )


def _percent(part: int, whole: int) -> str:
    if part == whole:
        return "100 %"
    return f"{min(part / whole, 0.999):.1%}".replace("%", " %")


def _named(errors: Counter[str]) -> str:
    shown = ", ".join(f"{what.removeprefix('status ')}: {count}" for what, count in errors.most_common())
    return f" ({shown})" if shown else ""


def setting(python: Path) -> str:
    shown = subprocess.run([str(python), "-V"], capture_output=True, text=True, check=True)
    return f"Linux {platform.release().partition('-')[0]}, C{shown.stdout.strip()}."


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> int:
    options = _options()
    results, failed = [], False
    with tempfile.TemporaryDirectory(prefix="pyfpm-deploy-") as name, place_for(options, Path(name)) as place:
        for kind, breakage in _trials(options):
            try:
                results.append(_run(kind, place, breakage))
                print(*_row(results[-1]), sep=" | ", flush=True)
            except RuntimeError as error:
                print(f"{kind.name} does not take part ({breakage.name}): {error}\n", file=sys.stderr)
                failed = True
    report = f"{setting(options.python)}\n\n{table(results)}\n"
    print(f"\n{report}")
    if options.write:
        options.write.write_text(f"{INTRODUCTION}\n{report}")
    noticed = any(each.is_ours and not each.is_unnoticed for each in results)
    return 1 if failed or noticed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_for(parser)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--write", type=Path, metavar="FILE", help="the document that gets the table")
    return parser.parse_args()


def _trials(options: argparse.Namespace) -> Iterator[tuple[type[Site], Breakage]]:
    for name in options.servers:
        kind = SERVERS[name]
        ours = issubclass(kind, PyfpmSite)
        breakages = [*OF_CODE, *OF_SETTINGS] if ours else OF_CODE[:1] if options.quick else OF_CODE
        yield from ((kind, breakage) for breakage in breakages)


def _run(kind: type[Site], place: Place, breakage: Breakage) -> Result:
    site = kind(place, WORKERS)
    if isinstance(site, PyfpmSite):
        site.extra = SHORT + breakage.extra
    try:
        return trial(site, site.install(), breakage)
    finally:
        site.remove()


if __name__ == "__main__":
    sys.exit(main())
