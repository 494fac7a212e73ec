"""nginx before the servers, and wrk before nginx.

Runs in: the benchmark.   Not pure: it starts processes, and ends only those.
Fails by: RuntimeError when nginx does not start, or when one answer under load is not 200.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load import ANSWER
from tests.bench.peers import Peer
from tests.bench.traffic import http, requests

CONFIG = """
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{servers}
}}
"""
SERVER = "    server {{ listen 127.0.0.1:{port}; location / {{ {backend} }} }}"
# The requests of traffic.py, one after the other; \\1 stands between them in the file.
WRK_SCRIPT = """
local requests, at = {{}}, 0
for request in io.open("{file}", "rb"):read("*a"):gmatch("([^\\1]+)\\1") do requests[#requests + 1] = request end
request = function() at = at % #requests + 1; return requests[at] end
"""
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class Answered:
    """What wrk saw."""

    per_second: float
    p50_us: float
    p99_us: float


class Front:
    """One nginx with a port for each server."""

    def __init__(self, folder: Path, peers: list[Peer], cpu: int) -> None:
        self._folder = folder / "nginx"
        self._folder.mkdir()
        self._pinned = ["taskset", "-c", str(cpu)]
        self._ports = {peer.name: _free_port() for peer in peers}
        self._write(peers)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start nginx, and return when it accepts connections."""
        command = ["nginx", "-c", str(self._folder / "nginx.conf"), "-e", str(self._folder / "error.log")]
        self._process = subprocess.Popen([*self._pinned, *command, "-g", "daemon off;"])
        for port in self._ports.values():
            _wait_listening(port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def measure(self, peer: Peer, seconds: float, connections: int) -> Answered:
        """Load the server through nginx."""
        url = f"http://127.0.0.1:{self._ports[peer.name]}/"
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--latency",
            "-s",
            str(self._folder / "wrk.lua"),
        ]
        done = subprocess.run([*self._pinned, *command, url], capture_output=True, text=True, check=True)
        if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            raise RuntimeError(f"{peer.name} behind nginx:\n{done.stdout}{self._errors()}")
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        assert rate, done.stdout
        return Answered(float(rate[1]), _latency(done.stdout, 50), _latency(done.stdout, 99))

    def check(self, peer: Peer) -> None:
        """One request, by hand: what wrk counts as 200 must be the application's answer."""
        with socket.create_connection(("127.0.0.1", self._ports[peer.name]), timeout=10) as connection:
            connection.sendall(http(next(requests()), close=True))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        if ANSWER not in answer:
            raise RuntimeError(f"{peer.name} behind nginx: not the application's answer: {answer!r}\n{self._errors()}")

    def _errors(self) -> str:
        return (self._folder / "error.log").read_text(errors="replace")[-2000:]

    def _write(self, peers: list[Peer]) -> None:
        shutil.copy("/etc/nginx/fastcgi_params", self._folder)
        servers = "\n".join(SERVER.format(port=self._ports[peer.name], backend=_backend(peer)) for peer in peers)
        user = "user www-data;" if os.geteuid() == 0 else ""
        (self._folder / "nginx.conf").write_text(CONFIG.format(folder=self._folder, user=user, servers=servers))
        recorded = self._folder / "requests"
        recorded.write_bytes(b"".join(http(request, close=False) + b"\1" for request in requests()))
        (self._folder / "wrk.lua").write_text(WRK_SCRIPT.format(file=recorded))


def _backend(peer: Peer) -> str:
    if peer.protocol == "http":
        return f"proxy_pass http://unix:{peer.socket}; proxy_set_header Host $host;"
    script = f"fastcgi_param SCRIPT_FILENAME {peer.folder}/{peer.script};" if peer.script else ""
    return f"include fastcgi_params; {script} fastcgi_pass unix:{peer.socket};"


def _latency(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)$", text, re.MULTILINE)
    assert found, text
    return float(found[1]) * UNITS[found[2]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            try:
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"nginx ended with {process.returncode}") from None
        return
    raise RuntimeError(f"nginx does not listen on port {port}")
