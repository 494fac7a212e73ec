"""Who may connect: listen.allowed_clients, which holds for a pool's status over TCP as it does for the pool.

Runs in: worker, monitor, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: ValueError for what is no network; the configuration has been read by then.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Clients:
    """The networks of listen.allowed_clients; everybody is welcome where there are none."""

    def __init__(self, networks: list[str]) -> None:
        import ipaddress  # 0.6 MB, for pools that ask for it

        self._address = ipaddress.ip_address
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def admits(self, peer: Any) -> bool:
        """Whether `peer`, as accept(2) names it, may. Whoever connects to a unix socket has passed its mode already."""
        if not self._networks or not isinstance(peer, tuple):
            return True
        address = self._address(peer[0].partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
