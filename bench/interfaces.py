"""By which network interface this node meets the others: the one that was named, else the one that leads to node 0."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import NamedTuple

import psutil

ANYWHERE = "192.0.2.1"
"""An address for documentation (RFC 5737): nothing is ever sent there."""
ASK_AGAIN_S = 1.0


class Interface(NamedTuple):
    name: str
    address: str


class NoInterface(OSError):
    """There is none that the others could reach. The text says so, with the remedy."""


def own_interface(meeting_host: str, nodes: int, wanted: str | None = None) -> Interface:
    """Raises :class:`NoInterface`. Its address is IPv4, as Gloo and Horovod want it."""
    here = {
        name: one.address for name, found in psutil.net_if_addrs().items() for one in found
        if one.family == socket.AF_INET
    }  # fmt: skip
    if wanted is not None:
        if wanted not in here:
            raise NoInterface(f"no interface '{wanted}' with an IPv4 address on {socket.gethostname()}; "
                              f"there are {', '.join(sorted(here))}")  # fmt: skip
        return Interface(wanted, here[wanted])
    address = _leading_to(meeting_host)
    if nodes > 1 and ipaddress.ip_address(address).is_loopback:
        # Debian gives a host's own name a loopback address; nobody else could come there.
        address = _leading_to(ANYWHERE)
    name = next((name for name, own in here.items() if own == address), None)
    if name is None or (nodes > 1 and ipaddress.ip_address(address).is_loopback):
        raise NoInterface(f"{socket.gethostname()} has no interface that leads to {meeting_host}; name one")
    return Interface(name, address)


def await_name(host: str, within_s: float) -> None:
    """Wait until a host's name is known, but no longer: where nodes come one by one, the first one's name comes with
    it. Whoever then uses the name says what is wrong with it."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.getaddrinfo(host, None, socket.AF_INET)
        except socket.gaierror:
            if time.monotonic() < deadline:
                time.sleep(ASK_AGAIN_S)
                continue
        return


def _leading_to(host: str) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: the system only chooses the way.
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    except OSError as problem:
        raise NoInterface(
            f"{host} can't be reached from {socket.gethostname()} ({problem.strerror or problem})"
        ) from None
