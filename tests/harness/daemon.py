"""A real pyfpm: started, watched, told to stop, and proved to have left nothing behind.

Runs in: tests. The test process becomes a subreaper, so whatever a daemon loses ends up as its child and is seen.
Fails by: AssertionError with the daemon's log: a process left alive, a file left lying, a line above NOTICE that no
test had announced.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from pyfpm import kernel
from tests.harness.family import children, descendants, title_of
from tests.harness.fcgi_client import Connection, get_parameters, request, request_bytes
from tests.harness.interpreters import AS_ROOT, POOL_USER, usual
from tests.harness.sockets import listening, port_of
from tests.harness.stage import CHECKOUT
from tests.harness.waits import PATIENCE, Followed, Gate, Notices, Watched, watching

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.harness.fcgi_client import Address, Answer
    from tests.harness.interpreters import Interpreter
    from tests.harness.stage import Stage

Settings = dict[str, object]
MOST_SHOWN = 60  # lines of a log, when a test has failed
DYING = 5.0  # seconds that a process may take to end after it was killed

APPS = CHECKOUT / "tests" / "harness" / "apps.py"
_LINE = re.compile(r"\[[^]]+\] (?P<level>[A-Z]+): (?:pid \d+, )?(?P<text>.*)")
_QUIET = ("DEBUG", "NOTICE")
# The lines of a traceback follow the line that it belongs to, each with the same head.
_DETAIL = re.compile(
    r"(\[pool \S+\] )?(\w+ \d+ )?"
    r"(\s|Traceback |During handling|The above exc|[\w.]*(Error|Exception|Exit|Interrupt)\b|$)"
)
# Hands descriptors over as systemd does: from 3 on, and with the pid of who is to take them.
_HAND_OVER = """
import os, sys
sockets = [int(word) for word in sys.argv[1].split(",")]
spare = [os.dup(one) for one in sockets]
high = [__import__("fcntl").fcntl(one, 0, 100) for one in spare]
for number, one in enumerate(high):
    os.dup2(one, 3 + number)
os.closerange(3 + len(sockets), 300)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(sockets))
os.execv(sys.argv[2], sys.argv[2:])
"""


def end_with_the_tests() -> None:
    """For a new process: whoever kills the tests leaves nothing behind, either."""
    kernel.die_with_parent(signal.SIGTERM)


class Daemon:
    """One daemon in a folder of its own. Configure it, `start` it; `close` does the proof."""

    living: ClassVar[list[Daemon]] = []

    def __init__(self, stage: Stage) -> None:
        kernel.adopt_orphans()
        self.stage = stage
        self.folder = stage.folder()
        self.app_folder = self.folder / "app"
        self.app_folder.mkdir()
        self.app_folder.chmod(0o755)
        self.write_app("apps.py", APPS.read_text())
        self.config = self.folder / "pyfpm.conf"
        self.pid_file = self.folder / "pyfpm.pid"
        self.log_path = self.folder / "error.log"
        self.stderr_path = self.folder / "stderr.txt"
        self.log = Followed(self.log_path)
        self.gate = Gate(self.folder / "gate")
        self._meeting = Gate(self.folder / "gate" / "meeting")
        self.notices = Notices(self.folder / "notify")
        self.pid = 0
        self.pools: dict[str, Settings] = {}
        self._globals: Settings = {"pid": self.pid_file, "error_log": self.log_path, "process_control_timeout": "10s"}
        self._expected: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: Watched | None = None
        self._exit_code: int | None = None
        self._listening: list[socket.socket] = []
        self._forgiving = False
        self._before = set(children(os.getpid()))
        Daemon.living.append(self)

    # ── configuration ───────────────────────────────────────────────────────────────────────────────────────────────

    def set_global(self, settings: Settings) -> None:
        """Directives of [global]; None takes one of the defaults above away."""
        self._globals.update(settings)

    def add_pool(self, name: str = "www", settings: Settings | None = None) -> None:
        """A pool of one worker that serves apps.py on a unix socket; `settings` on top, None to leave one out."""
        pool: Settings = {
            "app": "apps:application",
            "chdir": self.app_folder,
            "python": usual().path,
            "listen": self.folder / f"{name}.sock",
            "pm": "static",
            "pm.max_children": 1,
            "env[GATE]": self.gate.folder,
        }
        if AS_ROOT:
            pool["user"] = POOL_USER
        pool.update(settings or {})
        if pool["pm"] != "static":
            # On a slow machine every pool that grows may find itself at its limit. Who cares looks for it himself.
            self.expect(r"server reached pm\.max_children setting")
        self.pools[name] = pool

    def add_pool_on(self, one: Interpreter, name: str = "www", settings: Settings | None = None) -> None:
        """A pool on this interpreter; as root where the pool user cannot run it (see `options_for`)."""
        user: Settings = {} if one.for_all else {"user": "root"}
        self.add_pool(name, {"python": one.path, **user, **(settings or {})})

    @staticmethod
    def options_for(*used: Interpreter) -> list[str]:
        return [] if all(one.for_all for one in used) else ["-R"]

    def listening_port(self) -> int:
        """A TCP port on which somebody listens until `close`."""
        self._listening.append(listening())
        return port_of(self._listening[-1])

    def forgive_children_of_applications(self) -> None:
        """What an application has started and left alone is the test's to end, and no fault of the daemon's."""
        self._forgiving = True

    def write_app(self, name: str, source: str) -> None:
        """A module beside apps.py; whoever imports it meanwhile gets the old one or the new one, and no half of it."""
        path = self.app_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.new")
        draft.write_text(source)
        draft.chmod(0o644)
        draft.rename(path)
        # The time in the bytecode's header has whole seconds: a module that a test rewrites must not be an old one.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)

    def write_config(self) -> None:
        sections = {"global": self._globals, **self.pools}
        lines = []
        for section, settings in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {value}" for name, value in settings.items() if value is not None]
        self.config.write_text("\n".join(lines) + "\n")

    def address(self, pool: str = "www") -> Address:
        """Where a client finds the pool."""
        listen = str(self.pools[pool]["listen"])
        if listen.startswith("/"):
            return listen
        host, _, port = listen.rpartition(":")
        return host.strip("[]") or "127.0.0.1", int(port)

    # ── start ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, *arguments: str) -> list[str]:
        return [str(self.stage.command), "-c", str(self.config), *arguments]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "NOTIFY_SOCKET": str(self.notices.path), **(more or {})}

    def run(
        self, *arguments: str, environ: Mapping[str, str] | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """The command, to its end: -t, -D, or a start that fails."""
        self.write_config()
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=self.environment(environ),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )

    def launch(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        sockets: Sequence[socket.socket] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it in the foreground, and do not wait for anything.

        `sockets` are handed over as LISTEN_FDS; `descriptors` are just left open, as a careless shell does.
        """
        self.write_config()
        command = self.command(*arguments)
        if sockets:
            numbers = ",".join(str(one.fileno()) for one in sockets)
            command = [sys.executable, "-I", "-c", _HAND_OVER, numbers, *command]
        with open(self.stderr_path, "ab") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=self.environment(environ),
                cwd=self.folder,
                pass_fds=[*(one.fileno() for one in sockets), *descriptors],
                process_group=0,
                preexec_fn=end_with_the_tests,  # noqa: PLW1509  prctl(2) takes no lock
            )
        self.hold(self._process.pid)

    def start(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        sockets: Sequence[socket.socket] = (),
        descriptors: Sequence[int] = (),
        seconds: float = PATIENCE,
    ) -> None:
        """Start it in the foreground; return when it is ready to handle connections."""
        self.launch(*arguments, environ=environ, sockets=sockets, descriptors=descriptors)
        self.wait_ready(seconds)

    def start_in_background(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Start it with -D; if that succeeds the daemon is known by its pid file. What the command printed."""
        done = self.run("-D", *arguments)
        if done.returncode == 0:
            self.hold(int(self.pid_file.read_text()))
        return done

    def wait_ready(self, seconds: float = PATIENCE) -> None:
        assert self._watched is not None
        self.notices.wait("READY=1", seconds, {self._watched.pidfd: self._fail_ended})

    def drain_notices(self) -> list[str]:
        """Every line that the service manager has been told."""
        self.notices.drain()
        return [line for notice in self.notices.heard for line in notice.splitlines()]

    def hold(self, pid: int) -> None:
        """This is the master from now on."""
        if self._watched is not None:
            self._watched.close()
        self.pid = pid
        self._exit_code = None
        self._watched = Watched(pid)

    def _fail_ended(self) -> None:
        raise AssertionError(f"the daemon ended with {self.wait_exit()} before it was ready\n{self.story()}")

    # ── while it runs ───────────────────────────────────────────────────────────────────────────────────────────────

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_exit(self, seconds: float = PATIENCE) -> int:
        """Wait for the master's end; its exit code, negative for a signal."""
        assert self._watched is not None
        if self._exit_code is None:
            self._watched.wait_exit(seconds)
            if self._process is not None and self._process.pid == self.pid:
                self._exit_code = self._process.wait()
            else:
                self._exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._exit_code

    def stop(self, number: signal.Signals = signal.SIGQUIT, seconds: float = PATIENCE) -> int:
        self.send_signal(number)
        return self.wait_exit(seconds)

    @property
    def is_running(self) -> bool:
        return self._watched is not None and self._exit_code is None and self._watched.is_alive()

    def wait_log(self, pattern: str, seconds: float = PATIENCE, start: int = 0) -> re.Match[str]:
        """Wait for a line; being awaited, it is expected."""
        self.expect(pattern)
        return self.log.wait(pattern, seconds, start)

    def log_end(self) -> int:
        """Where the log ends now: what `wait_log` may start from."""
        return len(self.log.read())

    def expect(self, pattern: str) -> None:
        """A line above NOTICE that is right to be there."""
        self._expected.append(pattern)

    def get(self, path: str, query: str = "", pool: str = "www", **more: str) -> Answer:
        """One request on a connection of its own."""
        return request(self.address(pool), get_parameters(path, query, **more))

    def post(self, path: str, body: bytes, pool: str = "www", **more: str) -> Answer:
        parameters = get_parameters(path, REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)), **more)
        return request(self.address(pool), parameters, body)

    def process(self, pool: str = "www") -> dict[str, Any]:
        """Everything that the application's /process tells of the worker that answers."""
        found: dict[str, Any] = json.loads(self.get("/process", pool=pool).body)
        return found

    def family(self) -> list[int]:
        """Every process below the master, but for those that have its title: what it forks for a moment's work.

        (It has its workers weighed, for one.) A process that has ended has no title.
        """
        return [pid for pid in descendants(self.pid) if title_of(pid) not in ("", title_of(self.pid))]

    def workers(self, pool: str = "www") -> list[int]:
        """Those that are born. The daemon is ready with one; where the number matters, `engage` them first."""
        return [pid for pid in self.family() if title_of(pid) == f"pyfpm: pool {pool}"]

    def engage(self, count: int, pool: str = "www") -> list[int]:
        """Wait until so many workers serve at the same time; their pids. Each has answered a request, and is idle.

        All wait for the last one to be born, however long that takes: `request_terminate_timeout` is extended for that.
        """
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Connection(self.address(pool))) for _ in range(count)]
            for client in clients:
                client.send(request_bytes(get_parameters("/block", "at=meeting")))
            pids = self._meeting.wait_inside(count)
            self._meeting.release(count)
            for client in clients:
                assert client.receive().status == 200
                assert client.socket.recv(1) == b"", "it is idle before it closes"
        return pids

    def template(self, pool: str = "www") -> int:
        # What is being forked has the same title for a moment, but it is the template's child and not the master's.
        (pid,) = [pid for pid in children(self.pid) if title_of(pid) == f"pyfpm: pool {pool} template"]
        return pid

    def monitor(self) -> int:
        """The pid of the monitor; 0 while there is none."""
        found = [pid for pid in self.family() if title_of(pid) == "pyfpm: monitor"]
        assert len(found) <= 1, "one for the whole daemon"
        return found[0] if found else 0

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Stop it if it still runs, and prove that nothing is left."""
        faults: list[str] = []
        try:
            self._stop_for_good(faults)
            faults += self._find_strays()
            faults += [f"left lying: {path}" for path in self._left_lying()]
            faults += [f"unexpected in the log: {line}" for line in self.unexpected()[:MOST_SHOWN]]
            story = self.story() if faults else ""
        finally:
            Daemon.living.remove(self)
            self.log.close()
            self.gate.close()
            self._meeting.close()
            self.notices.close()
            for sock in self._listening:
                sock.close()
            if self._watched is not None:
                self._watched.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        if faults:
            raise AssertionError("\n".join(faults) + "\n" + story)

    def _stop_for_good(self, faults: list[str]) -> None:
        if not self.is_running:
            return
        # Let go whoever still waits inside an application: a failed test leaves it there.
        self.gate.release(len(self.family()))
        try:
            code = self.stop(signal.SIGQUIT)
            if code != 0:
                faults.append(f"the daemon ended with {code}")
        except AssertionError as error:
            faults.append(str(error))
            self.send_signal(signal.SIGKILL)
            self.wait_exit()

    def _find_strays(self) -> list[str]:
        """Processes that are our children now because nobody else took care of them.

        Those that the kernel kills with the master (who weighs its workers, who checks a configuration) are dying now.
        """
        known = self._before | {daemon.pid for daemon in Daemon.living}
        faults = []
        for pid in sorted({*children(os.getpid())} - known):
            with watching(pid) as processes:
                for process in processes:
                    if not process.ends_within(0.0 if self._forgiving else DYING):
                        if not self._forgiving:
                            faults.append(f"left alive: {pid} {title_of(pid)}")
                        os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        return faults

    def _left_lying(self) -> Iterator[Path]:
        if self._exit_code is not None and self._exit_code < 0:
            return  # killed: nobody was there to tidy up
        for path in self.folder.iterdir():
            if path == self.pid_file or (path.is_socket() and path != self.notices.path):
                yield path

    def unexpected(self) -> list[str]:
        """Lines of the log above NOTICE that no test has announced."""
        found = []
        in_expected = False
        for line in self.log.read().splitlines():
            parts = _LINE.fullmatch(line)
            if parts and parts["level"] in _QUIET:
                in_expected = False
            elif any(re.search(pattern, line) for pattern in self._expected):
                in_expected = True
            elif not (in_expected and parts and _DETAIL.match(parts["text"])):
                found.append(line)
        return found

    def story(self) -> str:
        """What there is to read when a test has failed."""
        log = self.log.read().splitlines()
        parts = [f"── {self.log_path.name}, its last lines ──", *log[-MOST_SHOWN:]]
        if self.stderr_path.exists():
            parts += ["── standard error ──", self.stderr_path.read_text(errors="replace").rstrip()]
        return "\n".join(parts)


@contextlib.contextmanager
def fresh_daemon(stage: Stage) -> Iterator[Daemon]:
    """A daemon for a `with`, a fixture of any scope included."""
    daemon = Daemon(stage)
    try:
        yield daemon
    finally:
        daemon.close()
