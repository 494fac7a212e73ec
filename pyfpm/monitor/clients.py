"""Who may connect: listen.allowed_clients, which holds for a pool's status over TCP as it does for the pool.

Runs in: monitor.   Pure: no system call, no clock, no log.
Fails by: ValueError for what is no network; the configuration has been read by then.
"""

from __future__ import annotations

import ipaddress
from typing import Any


def admits(networks: list[str], peer: Any) -> bool:
    """Whether `peer`, as accept(2) names it, is in one of `networks`; everybody is where there are none.

    Whoever connects to a unix socket has passed its mode already.
    """
    if not networks or not isinstance(peer, tuple):
        return True
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ipaddress.ip_network(network) for network in networks)
