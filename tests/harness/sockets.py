"""Addresses for daemons: listening sockets to hand over, and ports that are free; and what is open here.

Runs in: tests.
Fails by: OSError.
"""

from __future__ import annotations

import os
import socket


def open_descriptors() -> set[str]:
    """Of this process."""
    return set(os.listdir("/proc/self/fd"))


def listening(host: str = "127.0.0.1") -> socket.socket:
    """A listening TCP socket on a port that the kernel chose."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.bind((host, 0))
    made.listen(128)
    return made


def listening_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen(128)
    return made


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


_kept: list[socket.socket] = []


def free_port(host: str = "127.0.0.1") -> int:
    """A port for tests of binding itself. All others hand a listening socket over.

    It stays bound until the tests end, without listening: the kernel gives it to nobody who has no wish for this very
    port, and lets those share it who have, as long as both have set SO_REUSEADDR.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, 0))
    _kept.append(made)
    return port_of(made)
