"""What may be wrong with a deployment: code that does not load or does not work, and settings that cannot be used.

Runs in: the benchmark.   Not pure: it writes a site's code and settings, and takes an address.
Fails by: OSError.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.bench.sites import PyfpmSite, Site


@dataclass(frozen=True)
class Breakage:
    """`apply` breaks the site and, when left, repairs it; `extra` is what pyfpm's pool is told from the start."""

    name: str
    apply: Callable[[Site], AbstractContextManager[None]]
    extra: str = ""


def _code(text: str) -> Callable[[Site], AbstractContextManager[None]]:
    @contextmanager
    def apply(site: Site) -> Iterator[None]:
        site.replace(text)
        yield

    return apply


RAISING = """def application(environ, start_response):
    raise RuntimeError("a broken deploy")
"""
OF_CODE = [
    Breakage("import error", _code('raise RuntimeError("a broken deploy")\n')),
    Breakage("raises in every request", _code(RAISING), "reload_probe = /health\n"),
    Breakage("hangs while importing", _code("import time\n\ntime.sleep(3600)\n")),
    Breakage("sys.exit(3) at import", _code("import sys\n\nsys.exit(3)\n")),
    Breakage("os._exit(3) at import", _code("import os\n\nos._exit(3)\n")),
]


def _ours(site: Site) -> PyfpmSite:
    assert isinstance(site, PyfpmSite)
    site.deploy("too early")  # so that there is something new to load
    return site


@contextmanager
def _wrong_configuration(site: Site) -> Iterator[None]:
    ours = _ours(site)
    ours.configure(extra="pm.max_childern = 5\n")
    yield
    ours.configure()


@contextmanager
def _vanished_interpreter(site: Site) -> Iterator[None]:
    ours = _ours(site)
    ours.python.unlink()
    yield
    ours.link_python()


@contextmanager
def _taken_address(site: Site) -> Iterator[None]:
    ours = _ours(site)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        section = ours.section("other", f"127.0.0.1:{taken.getsockname()[1]}")
        ours.configure(more=section)
        yield
        ours.configure()


OF_SETTINGS = [
    Breakage("wrong configuration", _wrong_configuration),
    Breakage("the interpreter vanished", _vanished_interpreter),
    Breakage("an address that is taken", _taken_address),
]
