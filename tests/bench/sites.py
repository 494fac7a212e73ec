"""The servers of peers.py with several workers, and with code that is replaced while they serve.

Runs in: the benchmark.   Not pure: it starts processes, and ends only those.
Fails by: RuntimeError with the server's own words when it does not install, start or answer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.bench.peers import HERE, Gunicorn, Peer, Php, Place, Pyfpm, Uwsgi
from tests.bench.processes import children, title, tree
from tests.bench.visitors import Target

STOP_SECONDS = 10.0
RELOAD_SECONDS = 120.0
GOOD = '''"""The shop, as it should be: {word}."""
import time


def application(environ, start_response):
    time.sleep({seconds})
    body = b"{word}: hello, world\\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''
GOOD_PHP = '<?php usleep({seconds} * 1000000); echo "{word}: hello, world\\n";\n'


@dataclass(frozen=True)
class Said:
    """What whoever asked for a reload was told: an exit code, or None from a server that cannot tell."""

    exit_code: int | None = None
    words: str = ""


class Site(Peer):
    """A server that serves shop.py with `count` workers and can be told to reload."""

    file: ClassVar[str] = "shop.py"
    good: ClassVar[str] = GOOD
    trigger: ClassVar[str]

    def __init__(self, place: Place, count: int, seconds: float = 0.0) -> None:
        super().__init__(place)
        self.count = count
        self._seconds = seconds  # that a request takes
        self._deploys = 0
        self._seen: dict[int, int] = {}  # pid to pidfd
        self.deploy("old")

    @property
    def target(self) -> Target:
        return Target(self.socket, self.requests()[0], self.protocol)

    def deploy(self, word: str) -> None:
        """Good code that says this word."""
        # Of a length of its own: Python takes a compiled module for that of a source of the same size and second.
        self._deploys += 1
        self.replace(self.good.format(word=word, seconds=self._seconds) + "#" * self._deploys + "\n")

    def replace(self, code: str) -> None:
        """Other code in place of the present one, at once, as a deployment does it."""
        self._place(self.folder / self.file, code)

    def reload(self) -> Said:
        """Ask for the server's graceful reload."""
        raise NotImplementedError

    def start(self) -> None:
        super().start()
        self._look()

    @property
    def exit_code(self) -> int | None:
        """Of the master; None while it runs."""
        assert self._process is not None, "not started"
        return self._process.poll()

    def stop(self) -> None:
        """End it politely, then everything that it ever started and left behind."""
        if self._process is None:
            return
        self._look()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOP_SECONDS)
        left = [pid for pid, pidfd in self._seen.items() if not select.select([pidfd], [], [], 0.2)[0]]
        if left:
            print(f"{self.name}: {len(left)} processes did not stop and were killed", file=sys.stderr)
        # By pidfd none of them can be somebody else by now.
        for pid, pidfd in self._seen.items():
            if pid in left:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._seen.clear()
        self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Stop it and forget its folder, so that the next one of this name can begin."""
        self.stop()
        shutil.rmtree(self.folder)

    def _look(self) -> None:
        """Take hold of every process that is there now."""
        with contextlib.suppress(OSError):
            for pid in tree(self.master):
                if pid not in self._seen:
                    self._seen[pid] = os.pidfd_open(pid)

    def _identity(self, user: str, group: str) -> list[str]:
        return [user, self.place.user, group, self.place.group] if self.place.user else []

    @staticmethod
    def _place(path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(path.name + ".draft")
        draft.write_text(text)
        draft.replace(path)


# ── gunicorn, Granian, php-fpm ──────────────────────────────────────────────────────────────────────────────────────


class GunicornSite(Site, Gunicorn):
    """The latest gunicorn, sync workers."""

    trigger = "SIGHUP"

    def command(self) -> list[str]:
        identity = self._identity("--user", "--group")
        return [
            *(str(self._home / "bin" / "gunicorn"), "--workers", str(self.count), "--umask", "0", *identity),
            *("--bind", f"unix:{self.socket}", "--chdir", str(self.folder), "shop:application"),
        ]

    def reload(self) -> Said:
        os.kill(self.master, signal.SIGHUP)
        return Said()


class GranianSite(Site):
    """The latest Granian with its WSGI interface. It has no way to change its user."""

    name = "granian"
    protocol = "http"
    trigger = "SIGHUP"

    def install(self) -> str:
        self._home = self._environment("granian", "granian")
        shown = subprocess.run(
            [str(self._home / "bin" / "granian"), "--version"], capture_output=True, text=True, check=True
        )
        return shown.stdout.strip().replace("granian", "Granian") + ", WSGI, HTTP"

    def command(self) -> list[str]:
        return [
            *(str(self._home / "bin" / "granian"), "--interface", "wsgi", "--workers", str(self.count)),
            *("--uds", str(self.socket), "--working-dir", str(self.folder), "shop:application"),
        ]

    def reload(self) -> Said:
        os.kill(self.master, signal.SIGHUP)
        return Said()


class PhpSite(Site, Php):
    """php-fpm as it has to be set up to reload without killing requests."""

    script = "shop.php"
    file = "shop.php"
    good = GOOD_PHP
    trigger = "SIGUSR2"
    pm: ClassVar[str] = "pm = static\npm.max_children = {count}\n"
    pools: ClassVar[int] = 1

    def command(self) -> list[str]:
        config = self.folder / "php-fpm.conf"
        pools = "\n".join(self._pool(f"www{n or ''}", f"{self.socket}{n or ''}") for n in range(self.pools))
        config.write_text(f"[global]\nerror_log = {self.log}\nprocess_control_timeout = 10\n{pools}")
        root = [] if self.place.user or os.geteuid() else ["-R"]
        return [str(self._program), "-F", "-y", str(config), *root]

    def reload(self) -> Said:
        os.kill(self.master, signal.SIGUSR2)
        return Said()

    def _pool(self, name: str, listen: str) -> str:
        identity = f"user = {self.place.user}\ngroup = {self.place.group}\n" if self.place.user else ""
        pm = self.pm.format(count=self.count)
        return f"[{name}]\n{identity}listen = {listen}\nlisten.mode = 0666\n{pm}"


# ── uWSGI ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class UwsgiSite(Site, Uwsgi):
    """uWSGI that loads the application in its master, and replaces itself."""

    name = "uwsgi-preload"
    trigger = "SIGHUP"
    options: ClassVar[list[str]] = ["--need-app"]

    def install(self) -> str:
        return f"{super().install()}, {' '.join(each.removeprefix('--') for each in self.options)}"

    def command(self) -> list[str]:
        return [
            *(str(self._home / "bin" / "uwsgi"), "--master", "--processes", str(self.count), "--die-on-term"),
            *("--fastcgi-socket", str(self.socket), "--chmod-socket=666", "--disable-logging"),
            *self._identity("--uid", "--gid"),
            *("--home", str(self._home), "--chdir", str(self.folder), "--wsgi-file", "shop.py", *self.options),
        ]

    def reload(self) -> Said:
        os.kill(self.master, signal.SIGHUP)
        return Said()


class UwsgiChain(UwsgiSite):
    """uWSGI that loads the application in each worker, and replaces one worker after the other."""

    name = "uwsgi-chain"
    trigger = "touch-chain-reload"
    options = ["--lazy-apps", "--need-app"]

    def command(self) -> list[str]:
        self._touched.touch()
        return [*super().command(), "--touch-chain-reload", str(self._touched)]

    def reload(self) -> Said:
        # A second later than before, whatever the clock says: it compares whole seconds.
        now = max(time.time(), self._touched.stat().st_mtime + 1)
        os.utime(self._touched, (now, now))
        return Said()

    @property
    def _touched(self) -> Path:
        return self.folder / "reload"


class UwsgiChainAnyApp(UwsgiChain):
    """The same without need-app, so that workers without an application stay."""

    name = "uwsgi-chain-any-app"
    options = ["--lazy-apps"]


# ── pyfpm ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class PyfpmSite(Site, Pyfpm):
    """pyfpm from this checkout. `extra` is more of the pool's section, `more` comes after it."""

    trigger = "pyfpm reload"
    pm: ClassVar[str] = "pm = static\npm.max_children = {count}\n"
    app: ClassVar[str] = "shop:application"

    def __init__(self, place: Place, count: int, seconds: float = 0.0, extra: str = "") -> None:
        super().__init__(place, count, seconds)
        self.extra = extra
        self.python = self.folder / "python"
        self.link_python()

    def link_python(self) -> None:
        """The pool's interpreter by a name of its own, which may vanish without harm to anybody else."""
        self.python.symlink_to(self.place.python)

    def configure(self, extra: str = "", more: str = "") -> None:
        """Write the configuration, with more of it than before if wanted."""
        pools = "\n".join(self.section(f"www{n or ''}", str(self._socket_of(n))) for n in range(self.pools))
        self._place(
            self.config,
            f"[global]\nerror_log = {self.folder / 'error.log'}\npid = {self.folder / 'pid'}\n"
            f"control = {self.folder / 'control'}\n{pools}{extra}{more}",
        )

    @property
    def config(self) -> Path:
        return self.folder / "pyfpm.conf"

    def command(self) -> list[str]:
        self.configure()
        return self.verb("-F")

    def workers(self) -> list[int]:
        """Those that serve now; one that is leaving has no title."""
        titles = {pid: _title(pid) for pid in children(self.master)}
        return [pid for pid, text in titles.items() if text.startswith("pyfpm: pool ") and "template" not in text]

    def verb(self, *words: str) -> list[str]:
        """The command line that says something to this daemon."""
        root = [] if self.place.user or os.geteuid() else ["-R"]
        return [str(self._home / "bin" / "pyfpm"), "-c", str(self.config), *root, *words]

    def reload(self) -> Said:
        done = subprocess.run(
            self.verb("reload"), capture_output=True, text=True, timeout=RELOAD_SECONDS, check=False, cwd=self.folder
        )
        # The reason is the first line of stderr; a traceback may follow.
        first = (done.stderr or done.stdout).partition("\n")[0].removeprefix("pyfpm: ")
        return Said(done.returncode, first.replace(str(self.folder), "/srv/shop"))

    def section(self, name: str, listen: str) -> str:
        """One pool's."""
        identity = f"user = {self.place.user}\ngroup = {self.place.group}\n" if self.place.user else ""
        return (
            f"[{name}]\n{identity}app = {self.app}\nchdir = {self.folder}\npython = {self.python}\n"
            f"listen = {listen}\nlisten.mode = 0666\n{self.pm.format(count=self.count)}{self.extra}"
        )


class DjangoSite(PyfpmSite):
    """pyfpm with a Django project, in that project's own virtual environment."""

    name = "pyfpm-django"
    app = "shop.wsgi:application"
    file = "shop/generation.py"
    good = 'WORD = "{word}"\nSECONDS = {seconds}\n'

    def __init__(self, place: Place, count: int, seconds: float = 0.0, extra: str = "") -> None:
        super().__init__(place, count, seconds, extra)
        shutil.copytree(HERE / "apps" / "django_shop" / "shop", self.folder / "shop", dirs_exist_ok=True)

    def install(self) -> str:
        self.python = self._environment("django", "django") / "bin" / "python"
        return f"{super().install()}, Django"


def _title(pid: int) -> str:
    try:
        return title(pid)
    except OSError:
        return ""


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def options_for(parser: argparse.ArgumentParser) -> None:
    """The options that every benchmark of sites has."""
    debian = Path("/usr/bin/python3")
    parser.add_argument("--quick", action="store_true", help="for a first look")
    parser.add_argument("--python", type=Path, default=debian if debian.exists() else Path(sys.executable))
    parser.add_argument("--user", default="www-data" if os.geteuid() == 0 else "", help="of the servers; '' for yours")


@contextmanager
def place_for(options: argparse.Namespace, folder: Path) -> Iterator[Place]:
    """A place on the second CPU, with the benchmark itself on the first."""
    cpus = sorted(os.sched_getaffinity(0))
    folder.chmod(0o755)
    os.sched_setaffinity(0, {cpus[0]})
    try:
        yield Place(options.python, folder, options.user, cpus[-1])
    finally:
        os.sched_setaffinity(0, set(cpus))
