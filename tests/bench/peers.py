"""The servers that are compared: how each is installed, configured, started and stopped.

Runs in: the benchmark.   Not pure: it starts processes, and ends only those.
Fails by: RuntimeError with the server's own words when it does not install, start or answer.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.bench.load import ask
from tests.bench.processes import children, title, tree
from tests.bench.traffic import fastcgi, http, requests

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CACHE = HERE / ".peers"
START_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """Where the servers of one run live: their interpreter, folder, user and CPU."""

    python: Path
    folder: Path
    user: str  # "" means whoever runs the benchmark
    cpu: int

    @property
    def group(self) -> str:
        return grp.getgrgid(pwd.getpwnam(self.user).pw_gid).gr_name


class Peer:
    """One server with one worker on one unix socket."""

    name: ClassVar[str]
    protocol: ClassVar[str] = "fastcgi"
    script: ClassVar[str] = ""
    needs: ClassVar[list[str]] = []
    folder_mode: ClassVar[int] = 0o777  # most servers make their socket as their user

    def __init__(self, place: Place) -> None:
        self.place = place
        self.folder = place.folder / self.name
        self.folder.mkdir()
        self.folder.chmod(self.folder_mode)
        for app in ("hello.py", "hello.php"):
            shutil.copy(HERE / "apps" / app, self.folder)
        self.socket = self.folder / "socket"
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> str:
        """Make what is missing; say what will run."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The server in the foreground. It may write its configuration now."""
        raise NotImplementedError

    def requests(self) -> list[bytes]:
        """The traffic in this server's protocol."""
        if self.protocol == "http":
            return [http(request, close=True) for request in requests()]
        script = str(self.folder / self.script) if self.script else ""
        return [fastcgi(request, script) for request in requests()]

    def start(self) -> None:
        """Start it on its CPU, and return when it has answered a request."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(self.place.cpu), *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_answers()

    @property
    def master(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def processes(self) -> list[int]:
        """All of it."""
        return tree(self.master)

    def workers(self) -> list[int]:
        """Those that serve requests."""
        return children(self.master)

    def stop(self) -> None:
        """End it and what it started, politely first."""
        process = self._process
        if process is None:
            return
        started = self.processes() if process.poll() is None else []
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not stop on SIGTERM within 10 s", file=sys.stderr)
            process.kill()
            process.wait()
        # By pidfd each is known to be gone; a number alone could mean somebody else by now.
        for pid in started[1:]:
            _wait_gone(pid)
        self._process = None

    def _wait_answers(self) -> None:
        assert self._process is not None
        ends = time.monotonic() + START_SECONDS
        request = self.requests()[0]
        gone = os.pidfd_open(self._process.pid)
        try:
            while time.monotonic() < ends:
                try:
                    return ask(self.socket, request)
                except (OSError, RuntimeError) as error:
                    problem = error
                if select.select([gone], [], [], 0.05)[0]:
                    break
        finally:
            os.close(gone)
        self.stop()
        raise RuntimeError(f"{self.name} does not answer ({problem}); its log ends with:\n{self._log_end()}")

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _environment(self, name: str, *packages: str) -> Path:
        """A virtual environment of the place's interpreter with these packages, made once."""
        key = hashlib.sha256(" ".join([str(self.place.python), *packages]).encode()).hexdigest()[:12]
        folder = CACHE / f"{name}-{key}"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run([str(self.place.python), "-m", "venv", str(folder)])
            # pip's own cache would hand a uWSGI built for one interpreter to another of the same version.
            _run([str(folder / "bin" / "pip"), "install", "-q", "--no-cache-dir", *packages])
            (folder / "complete").touch()
        return folder


class Uwsgi(Peer):
    """uWSGI 2.0.31 on its FastCGI socket."""

    name = "uwsgi"

    def install(self) -> str:
        self._home = self._environment("uwsgi", "uwsgi==2.0.31")
        return f"uWSGI {_first_line([str(self._home / 'bin' / 'uwsgi'), '--version'])}, fastcgi-socket"

    def command(self) -> list[str]:
        identity = ["--uid", self.place.user, "--gid", self.place.group] if self.place.user else []
        return [
            *(str(self._home / "bin" / "uwsgi"), "--master", "--processes", "1", "--need-app", "--die-on-term"),
            *("--fastcgi-socket", str(self.socket), "--chmod-socket=666", "--disable-logging", *identity),
            *("--home", str(self._home), "--chdir", str(self.folder), "--wsgi-file", "hello.py"),
        ]


class Gunicorn(Peer):
    """The latest gunicorn with its sync worker. It speaks HTTP only."""

    name = "gunicorn"
    protocol = "http"

    def install(self) -> str:
        self._home = self._environment("gunicorn", "gunicorn")
        return f"{_first_line([str(self._home / 'bin' / 'gunicorn'), '--version'])}, sync, HTTP"

    def command(self) -> list[str]:
        identity = ["--user", self.place.user, "--group", self.place.group] if self.place.user else []
        return [
            *(str(self._home / "bin" / "gunicorn"), "--workers", "1", "--umask", "0", *identity),
            *("--bind", f"unix:{self.socket}", "--chdir", str(self.folder), "hello:application"),
        ]


class Php(Peer):
    """Debian's php-fpm."""

    name = "php-fpm"
    script = "hello.php"

    def install(self) -> str:
        found = sorted(Path("/usr/sbin").glob("php-fpm*"))
        if not found:
            raise RuntimeError("no php-fpm here: apt-get install php-fpm")
        self._program = found[-1]
        return _first_line([str(self._program), "-v"])

    def command(self) -> list[str]:
        identity = f"user = {self.place.user}\ngroup = {self.place.group}" if self.place.user else ""
        config = self.folder / "php-fpm.conf"
        config.write_text(
            f"[global]\nerror_log = {self.log}\n"
            f"[www]\n{identity}\nlisten = {self.socket}\nlisten.mode = 0666\npm = static\npm.max_children = 1\n"
        )
        return [str(self._program), "-F", "-y", str(config), *(["-R"] if _is_root(self.place) else [])]


class Pyfpm(Peer):
    """pyfpm from this checkout."""

    name = "pyfpm"
    pools: ClassVar[int] = 1
    log_level: ClassVar[str] = "notice"
    folder_mode = 0o755  # root makes the socket, and opens nothing where others could write

    def install(self) -> str:
        self._home = self._environment("pyfpm", "click", "psutil", "setproctitle", "tomli-w", "setuptools", "wheel")
        source = self.place.folder / "pyfpm-source"  # a copy: pip leaves a build folder where it builds
        if not source.exists():
            ignored = shutil.ignore_patterns(".*", "tests", "build", "*.egg-info", "__pycache__")
            shutil.copytree(REPOSITORY, source, ignore=ignored)
            pip = [str(self._home / "bin" / "pip"), "install", "-q", "--no-deps", "--no-build-isolation"]
            _run([*pip, "--force-reinstall", str(source)])
        return _first_line([str(self._home / "bin" / "pyfpm"), "-v"])

    def command(self) -> list[str]:
        config = self.folder / "pyfpm.conf"
        pools = "\n".join(self._pool(f"www{n or ''}", self._socket_of(n)) for n in range(self.pools))
        config.write_text(
            f"[global]\nerror_log = {self.folder / 'error.log'}\npid = {self.folder / 'pid'}\ndaemonize = no\n"
            f"log_level = {self.log_level}\n{pools}"
        )
        root = ["-R"] if _is_root(self.place) else []
        return [str(self._home / "bin" / "pyfpm"), "-c", str(config), "-F", *root]

    def workers(self) -> list[int]:
        """Workers are the master's own children beside the templates."""
        return [pid for pid in children(self.master) if "template" not in title(pid)]

    def _socket_of(self, pool: int) -> Path:
        return self.folder / f"socket{pool}" if pool else self.socket

    def _pool(self, name: str, listen: Path) -> str:
        identity = f"user = {self.place.user}\ngroup = {self.place.group}\n" if self.place.user else ""
        return (
            f"[{name}]\n{identity}app = hello:application\nchdir = {self.folder}\n"
            f"python = {self._home / 'bin' / 'python'}\nlisten = {listen}\nlisten.mode = 0666\n"
            "pm = static\npm.max_children = 1\n"
        )

    def _log_end(self) -> str:
        log = self.folder / "error.log"
        return super()._log_end() + "\n" + (log.read_text(errors="replace") if log.exists() else "")


class PyfpmKilled(Pyfpm):
    """The same again, for whoever wants to kill its workers."""

    name = "pyfpm-killed"
    log_level = "debug"  # which tells how soon a worker is ready


class PyfpmTenPools(Pyfpm):
    """The same with ten pools."""

    name = "pyfpm-ten-pools"
    pools = 10


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Uwsgi, Pyfpm, Php, Gunicorn)}


def _is_root(place: Place) -> bool:
    return os.geteuid() == 0 and not place.user


def _wait_gone(pid: int) -> None:
    try:
        gone = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([gone], [], [], 10)[0]:
            print(f"process {pid} ({title(pid)}) outlives its master", file=sys.stderr)
    finally:
        os.close(gone)


def _first_line(command: list[str]) -> str:
    return _run(command).splitlines()[0]


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
