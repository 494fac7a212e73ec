"""Reloads under load: what clients notice of pyfpm's, beside php-fpm's and uWSGI's.

Runs in: whoever asks for it: `python -m tests.bench.reloads [--quick]`.   Not pure.
Fails by: exit code 1 when a server does not take part, or when pyfpm breaks its budget.

Eight workers, sixteen clients, requests of 20 ms. First without reloads, then with five: each begins when all clients
have been answered by the code of the one before. The budget compares the second with the first of the same run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from tests.bench.peers import Place
from tests.bench.report import markdown
from tests.bench.sites import DjangoSite, PhpSite, PyfpmSite, Site, UwsgiChain, UwsgiSite, options_for, place_for
from tests.bench.visitors import Clients, Visit, stay

WORKERS = 8
CLIENTS = 16
REQUEST_SECONDS = 0.02
RELOADS = 5
APART = 2.0  # seconds from the end of one reload to the next; uWSGI forgets a chain that is asked for sooner
PATIENCE = 60.0  # for the new code to be everywhere
IN_A_ROW = 4 * CLIENTS  # answers of the new code that say it is
MOST = 2.0  # times the p99 without reloads
FLOOD = [gap / 1000 for gap in range(25)]  # seconds after each signal

Deed = Callable[[Site, Clients], int]


@dataclass(frozen=True)
class Times:
    """Of requests that were answered, in milliseconds."""

    p50: float
    p99: float
    longest: float


@dataclass(frozen=True)
class Result:
    """One server, without reloads and with them."""

    server: str
    deed: str
    reloads: int
    took: float
    requests: int
    quiet: Times
    busy: Times
    errors: Counter[str]
    failures: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return self.busy.p99 / self.quiet.p99

    @property
    def is_within_budget(self) -> bool:
        return not self.errors and not self.failures and self.ratio <= MOST


class NotEverywhere(RuntimeError):
    """The new code did not come to all clients."""


# ── what is done to a site ──────────────────────────────────────────────────────────────────────────────────────────


def five(site: Site, clients: Clients) -> int:
    """Five deployments, two seconds of rest after each."""
    for number in range(RELOADS):
        _deploy(site, f"five-{number}")
        _wait_everywhere(clients, f"five-{number}")
        stay(APART)
    return RELOADS


def hundred(site: Site, clients: Clients) -> int:
    """A hundred deployments, each as soon as the one before is through."""
    for number in range(100):
        _deploy(site, f"hundred-{number}")
    _wait_everywhere(clients, "hundred-99")
    return 100


def floods(site: Site, clients: Clients) -> int:
    """Four times 25 signals, 0 to 24 ms apart, each with new code."""
    for number in range(4):
        for turn, gap in enumerate(FLOOD):
            site.deploy(f"flood-{number}-{turn}")
            os.kill(site.master, signal.SIGUSR2)
            stay(gap)
        _wait_everywhere(clients, f"flood-{number}-{len(FLOOD) - 1}")
    return 4 * len(FLOOD)


def _deploy(site: Site, word: str) -> None:
    site.deploy(word)
    said = site.reload()
    if said.exit_code:
        raise NotEverywhere(f"{site.trigger} ended with {said.exit_code}: {said.words}")


def _wait_everywhere(clients: Clients, word: str) -> None:
    ends = time.monotonic() + PATIENCE
    while {each.outcome for each in clients.visits[-IN_A_ROW:]} != {word}:
        if time.monotonic() > ends:
            raise NotEverywhere(f"after {PATIENCE:g} s not everybody is answered by the new code")
        stay(0.01)


# ── one trial ───────────────────────────────────────────────────────────────────────────────────────────────────────

TRIALS: dict[str, tuple[type[Site], Deed]] = {
    "pyfpm": (PyfpmSite, five),
    "php-fpm": (PhpSite, five),
    "uwsgi": (UwsgiSite, five),
    "uwsgi-chain": (UwsgiChain, five),
    "pyfpm-hundred": (PyfpmSite, hundred),
    "pyfpm-floods": (PyfpmSite, floods),
    "pyfpm-django": (DjangoSite, five),
    "pyfpm-django-hundred": (DjangoSite, hundred),
}


def trial(place: Place, kind: type[Site], deed: Deed, seconds: float) -> Result:
    """Load without reloads for `seconds`, then with what is done."""
    site = kind(place, WORKERS, REQUEST_SECONDS)
    try:
        version = site.install()
        site.start()
        with Clients(site.target, CLIENTS) as clients:
            stay(1)  # until everything has been used once
            began = time.perf_counter()
            stay(seconds)
            middle = time.perf_counter()
            failures = []
            reloads = 0
            try:
                reloads = deed(site, clients)
            except NotEverywhere as error:
                failures.append(str(error))
            took = time.perf_counter() - middle
            stay(1)
    finally:
        site.remove()
    quiet = [made for made in clients.since(began) if made.began + made.took < middle]
    busy = clients.since(middle)
    errors = Counter(each.outcome for each in busy if not _is_answered(each))
    words = (deed.__doc__ or "").partition(",")[0]
    return Result(version, words, reloads, took, len(busy), _times(quiet), _times(busy), errors, failures)


def _is_answered(made: Visit) -> bool:
    return made.outcome.startswith(("old", "five-", "hundred-", "flood-"))


def _times(visits: Sequence[Visit]) -> Times:
    answered = [made.took * 1e3 for made in visits if _is_answered(made)]
    if len(answered) < 100:
        return Times(float("nan"), float("nan"), max(answered, default=float("nan")))
    cuts = quantiles(answered, n=100)
    return Times(cuts[49], cuts[98], max(answered))


# ── what is printed ─────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = (
    "Server",
    "What was done",
    "Took s",
    "Requests",
    "Errors",
    "p50 ms without, with",
    "p99 ms without, with",
    "p99 ratio",
    "Longest ms without, with",
)


def table(results: Sequence[Result]) -> str:
    return markdown([HEAD, *(_row(each) for each in results)])


def _row(result: Result) -> tuple[str, ...]:
    quiet, busy = result.quiet, result.busy
    named = ", ".join(f"{what}: {count}" for what, count in result.errors.most_common())
    return (
        result.server,
        f"{result.deed}{''.join(f'; **{each}**' for each in result.failures)}",
        f"{result.took:.1f}",
        str(result.requests),
        f"{result.errors.total()}{f' ({named})' if named else ''}",
        f"{quiet.p50:.1f}, {busy.p50:.1f}",
        f"{quiet.p99:.1f}, {busy.p99:.1f}",
        f"{result.ratio:.2f}",
        f"{quiet.longest:.0f}, {busy.longest:.0f}",
    )


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_for(parser)
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS))
    options = parser.parse_args()
    results, failed = [], False
    with tempfile.TemporaryDirectory(prefix="pyfpm-reloads-") as name, place_for(options, Path(name)) as place:
        for chosen in options.trials:
            kind, deed = TRIALS[chosen]
            try:
                results.append(trial(place, kind, deed, 3 if options.quick else 10))
                print(*_row(results[-1]), sep=" | ", flush=True)
            except RuntimeError as error:
                print(f"{chosen} does not take part: {error}\n", file=sys.stderr)
                failed = True
                continue
            failed |= issubclass(kind, PyfpmSite) and not results[-1].is_within_budget
    print(f"\n{table(results)}\n\nBudget of pyfpm: no error, and a p99 at most {MOST:g} times that without reloads.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
