"""reload_probe: what the application is asked, and what proves nothing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pyfpm.errors import ApplicationError
from pyfpm.gateway.environ import base_environ
from pyfpm.worker.probe import prove


def asked(probe: str, mount: str = "") -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return [b""]

    prove(application, {"reload_probe": probe, "mount": mount}, base_environ(sys.stderr))
    return seen


@pytest.mark.parametrize(
    ("probe", "name", "port"),
    [
        ("/health", "localhost", "80"),
        ("//example.org/health", "example.org", "80"),
        ("//example.org:8080/health", "example.org", "8080"),
        ("//[::1]/health", "[::1]", "80"),
        ("//[::1]:8080/health", "[::1]", "8080"),
    ],
)
def test_host_and_port(probe: str, name: str, port: str) -> None:
    environ = asked(probe)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert environ["PATH_INFO"] == "/health"


def test_outside_the_mount_it_proves_nothing() -> None:
    assert asked("/shop/health", "/shop")["PATH_INFO"] == "/health"
    with pytest.raises(ApplicationError, match="/health is outside the pool's mount /shop: reload_probe must begin"):
        asked("/health", "/shop")
