"""By which network interface this node meets the others: the one that was named, else the one that leads to node 0."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Sequence
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
    here = [
        Interface(name, one.address) for name, found in psutil.net_if_addrs().items() for one in found
        if one.family == socket.AF_INET
    ]  # fmt: skip
    if wanted is not None:
        named = [one for one in here if one.name == wanted]
        if not named:
            raise NoInterface(f"no interface '{wanted}' with an IPv4 address on {socket.gethostname()}; "
                              f"there are {', '.join(sorted({one.name for one in here}))}")  # fmt: skip
        # It may have several: others come to the one that is told to them.
        told = _addresses_of(meeting_host)
        return next((one for one in named if one.address in told), named[0])
    address = _leading_to(meeting_host)
    if nodes > 1 and ipaddress.ip_address(address).is_loopback:
        # Debian gives a host's own name a loopback address; nobody else could come there.
        address = _leading_to(ANYWHERE)
    name = next((one.name for one in here if one.address == address), None)
    if name is None or (nodes > 1 and ipaddress.ip_address(address).is_loopback):
        raise NoInterface(f"{socket.gethostname()} has no interface that leads to {meeting_host}; name one")
    return Interface(name, address)


def insist_on_meeting_at(own: Interface, meeting_host: str) -> None:
    """On node 0: what the others come to must be this interface, or they would meet over another network.

    Raises :class:`NoInterface`. A loopback address says nothing: only the machine itself goes by that.
    """
    others_go_to = sorted(one for one in _addresses_of(meeting_host) if not ipaddress.ip_address(one).is_loopback)
    if others_go_to and own.address not in others_go_to:
        raise NoInterface(f"{meeting_host} is met at {others_go_to[0]}, but interface {own.name} has {own.address}: "
                          "name this host by its address there, or name the interface of that network")  # fmt: skip


def await_names(hosts: Sequence[str], within_s: float) -> None:
    """Wait until the hosts are known by name, but no longer than this in all: nodes may come one by one, and their
    names with them. Whoever then uses a name says what is wrong with it."""
    deadline = time.monotonic() + within_s
    for host in hosts:
        while not _addresses_of(host) and time.monotonic() < deadline:
            time.sleep(ASK_AGAIN_S)


def _addresses_of(host: str) -> set[str]:
    """Those of IPv4; none while the name is not known."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, socket.AF_INET)}
    except OSError:
        return set()


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
