"""Small facts about the host a process is on.

By which network interface this node meets the others: the one that was named, else the one that leads to node 0.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil


def free_port(host: str = "") -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def bind_address(rendezvous_host: str, own_host: str | None) -> str:
    """The address that whoever serves the meeting place binds, and no other: that of its own interface, where it has
    been told one. What its own name means to a machine may be a loopback address (Debian's 127.0.1.1), another
    interface's, or nothing yet."""
    if own_host:
        return own_host
    try:
        return str(socket.getaddrinfo(rendezvous_host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return rendezvous_host


def wait_for_listener(host: str, port: int, timeout_s: float) -> None:
    """Return once somebody listens there. The frameworks' own retries begin late and back off coarsely: half a second
    is lost where one of them asks a moment too early. Raises ``TimeoutError``."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens at {host}:{port}, where rank 0 is to be met, within {timeout_s:g} s")
        time.sleep(0.002)


DOCUMENTATION_ADDRESS = "192.0.2.1"
"""An address for documentation (RFC 5737): nothing is ever sent there."""
POLL_INTERVAL_S = 1.0


class Interface(NamedTuple):
    name: str
    address: str


class InterfaceError(OSError):
    """There is none that the others could reach. The text says so, with the remedy."""


def select_interface(rendezvous_host: str, nodes: int, requested_name: str | None = None) -> Interface:
    """Raises :class:`InterfaceError`. Its address is IPv4, as Gloo and Horovod want it."""
    interfaces = [
        Interface(name, entry.address)
        for name, found in psutil.net_if_addrs().items()
        for entry in found
        if entry.family == socket.AF_INET
    ]
    if requested_name is not None:
        matching = [entry for entry in interfaces if entry.name == requested_name]
        if not matching:
            raise InterfaceError(
                f"no interface '{requested_name}' with an IPv4 address on {socket.gethostname()}; "
                f"there are {', '.join(sorted({entry.name for entry in interfaces}))}"
            )
        # It may have several: others come to the one that is told to them.
        rendezvous_addresses = _ipv4_addresses(rendezvous_host)
        return next((entry for entry in matching if entry.address in rendezvous_addresses), matching[0])
    address = _source_address_to(rendezvous_host)
    if nodes > 1 and ipaddress.ip_address(address).is_loopback:
        # Debian gives a host's own name a loopback address; nobody else could come there.
        address = _source_address_to(DOCUMENTATION_ADDRESS)
    name = next((entry.name for entry in interfaces if entry.address == address), None)
    if name is None or (nodes > 1 and ipaddress.ip_address(address).is_loopback):
        raise InterfaceError(f"{socket.gethostname()} has no interface that leads to {rendezvous_host}; name one")
    return Interface(name, address)


def check_rendezvous_interface(interface: Interface, rendezvous_host: str) -> None:
    """On node 0: what the others come to must be this interface, or they would meet over another network.

    Raises :class:`InterfaceError`. A loopback address says nothing: only the machine itself goes by that.
    """
    rendezvous_addresses = sorted(
        entry for entry in _ipv4_addresses(rendezvous_host) if not ipaddress.ip_address(entry).is_loopback
    )
    if rendezvous_addresses and interface.address not in rendezvous_addresses:
        raise InterfaceError(
            f"{rendezvous_host} is met at {rendezvous_addresses[0]}, "
            f"but interface {interface.name} has {interface.address}: "
            "name this host by its address there, or name the interface of that network"
        )


def wait_for_hostnames(hosts: Sequence[str], within_s: float) -> None:
    """Wait until the hosts are known by name, but no longer than this in all: nodes may come one by one, and their
    names with them. Whoever then uses a name says what is wrong with it."""
    deadline = time.monotonic() + within_s
    for host in hosts:
        while not _ipv4_addresses(host) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)


def _ipv4_addresses(host: str) -> set[str]:
    """Those of IPv4; none while the name is not known."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, socket.AF_INET)}
    except OSError:
        return set()


def _source_address_to(host: str) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: the system only chooses the way.
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    except OSError as problem:
        raise InterfaceError(
            f"{host} can't be reached from {socket.gethostname()} ({problem.strerror or problem})"
        ) from None
