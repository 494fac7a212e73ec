"""A real nginx before the daemon, with its stock fastcgi_params.

Runs in: tests.
Fails by: OSError, AssertionError with nginx's own words.

The test binds the ports and hands them over (as nginx does to its successor when its binary is upgraded), so there is
no port to race for, and a client may connect before nginx has started.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.harness.daemon import end_with_the_tests
from tests.harness.interpreters import AS_ROOT, POOL_USER
from tests.harness.sockets import listening, port_of
from tests.harness.waits import PATIENCE, wait_exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.harness.fcgi_client import Address
    from tests.harness.stage import Stage

_CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 100m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{upstreams}
{servers}
}}
"""
_UPSTREAM = "    upstream {name} {{ server {server}; {more} }}"
_SERVER = """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            include /etc/nginx/fastcgi_params;
            fastcgi_pass {name};
            {more}
        }}
        {server_more}
    }}
"""
KEEP = "fastcgi_keep_conn on;"


class Page(NamedTuple):
    """An HTTP response, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes


class Nginx:
    """One nginx with a server for each of `upstreams`: a name, and the address of a pool."""

    def __init__(
        self,
        stage: Stage,
        upstreams: Mapping[str, Address],
        more: str = "",
        upstream_more: str = "",
        server_more: str = "",
    ) -> None:
        self.folder = stage.folder("n")
        self._errors = self.folder / "error.log"
        self._sockets = {name: listening() for name in upstreams}
        config = _CONFIG.format(
            user=f"user {POOL_USER};" if AS_ROOT else "",
            folder=self.folder,
            upstreams="\n".join(
                _UPSTREAM.format(name=name, server=_server_of(address), more=upstream_more)
                for name, address in upstreams.items()
            ),
            servers="".join(
                _SERVER.format(name=name, port=port_of(sock), more=more, server_more=server_more)
                for name, sock in self._sockets.items()
            ),
        )
        (self.folder / "nginx.conf").write_text(config)
        handed = [sock.fileno() for sock in self._sockets.values()]
        program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        assert program is not None, "nginx is not installed"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [program, "-c", str(self.folder / "nginx.conf"), "-e", "stderr"],
                env={"NGINX": "".join(f"{number};" for number in handed)},
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                preexec_fn=end_with_the_tests,  # noqa: PLW1509  prctl(2) takes no lock
            )

    def port(self, name: str) -> int:
        return port_of(self._sockets[name])

    def url(self, name: str, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port(name)}{path}"

    def connect(self, name: str) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port(name), timeout=PATIENCE)

    def get(self, name: str, path: str, headers: Mapping[str, str] | None = None) -> Page:
        """One request; `path` goes out as it is written."""
        return self.ask(name, "GET", path, headers=headers)

    def ask(
        self, name: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        with contextlib.closing(self.connect(name)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Page(response.status, dict(response.getheaders()), response.read())

    def errors(self) -> str:
        """What nginx itself complained of."""
        lines = self._errors.read_text(errors="replace").splitlines()
        # That is us, handing sockets over; and where a test does not run as root there is no user to change to.
        return "\n".join(line for line in lines if "using inherited sockets" not in line)

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._process.send_signal(signal.SIGTERM)
        wait_exit(self._process.pid)
        self._process.wait()


def _server_of(address: Address) -> str:
    return f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"


@contextlib.contextmanager
def fresh_nginx(
    stage: Stage,
    upstreams: Mapping[str, Address],
    more: str = "",
    upstream_more: str = "",
    server_more: str = "",
) -> Iterator[Nginx]:
    made = Nginx(stage, upstreams, more, upstream_more, server_more)
    try:
        yield made
    finally:
        made.close()
