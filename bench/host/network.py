"""The network of this machine: free ports, listeners and host names, and the interface that reaches the other nodes."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import psutil

DOCUMENTATION_ADDRESS = "192.0.2.1"
"""An address reserved for documentation (RFC 5737), which no packet is ever sent to."""
HOSTNAME_POLL_INTERVAL_S = 1.0
LISTENER_POLL_INTERVAL_S = 0.002


class Interface(NamedTuple):
    """A network interface with one of its IPv4 addresses."""

    name: str
    address: str


LOOPBACK = Interface("lo" if sys.platform == "linux" else "lo0", "127.0.0.1")


class InterfaceError(OSError):
    """No network interface reaches the other nodes. The text says why, with the remedy."""


def loopback_problem() -> str | None:
    """Why this machine can't connect to itself, with the remedy; ``None`` where it can. Nothing is sent."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((LOOPBACK.address, 9))
        except OSError as problem:
            name = LOOPBACK.name
            return f"loopback interface {name} can't be used ({problem.strerror}); bring it up: ip link set {name} up"
    return None


def free_port(host: str = "") -> int:
    """A TCP port of an address of this machine (by default of all) that no process uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listen_at(host: str, port: int) -> socket.socket:
    """A socket that listens at one address of this machine, and at no other.

    Raises:
        OSError: If that is not possible; where another process has taken the port, with the remedy.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with port_named(host, port):
        return socket.create_server((host, port), family=family)


@contextlib.contextmanager
def port_named(host: str, port: int) -> Iterator[None]:
    """A context whose error about a port that is in use names the port, and says what has happened."""
    try:
        yield
    except OSError as problem:
        if problem.errno != errno.EADDRINUSE:
            raise
        raise OSError(
            errno.EADDRINUSE,
            f"another process has taken port {port} of {host}, where rank 0 listens: repeat the trial",
        ) from None


def ipv4_addresses(host: str) -> set[str]:
    """The IPv4 addresses of a host; none while its name can't be resolved."""
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, socket.AF_INET)}
    except (OSError, UnicodeError):  # the latter for what can't be a name: no text, or a label of 64 letters
        return set()


def first_address(host: str) -> str | None:
    """The address of a host that the system prefers, of IPv4 or IPv6; ``None`` while its name can't be resolved."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        return None


def address_of_own_name() -> str | None:
    """The address that this machine's own name stands for here; ``None`` where it stands for none."""
    with contextlib.suppress(OSError, UnicodeError):
        return socket.gethostbyname(socket.gethostname())
    return None


def bind_address(
    rendezvous_host: str, own_host: str | None, resolve: Callable[[str], str | None] = first_address
) -> str:
    """The address that a server of rank 0 listens on, and no other.

    Args:
        rendezvous_host: The name or address at which the other ranks reach rank 0.
        own_host: The address of rank 0's own interface, if it is known. It is preferred: on its own machine a host name
            may stand for a loopback address (Debian's 127.0.1.1) or another interface, or not be resolved yet.
        resolve: Looks up the address of a name; ``None``: it is unknown.
    """
    return own_host or resolve(rendezvous_host) or rendezvous_host


def wait_for_listener(host: str, port: int, timeout_s: float) -> None:
    """Return once a server listens at an address.

    The retries of the frameworks start late and back off coarsely: a rank that connects a moment too early loses half a
    second.

    Raises:
        TimeoutError: If there is no server within ``timeout_s`` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"rank 0 does not listen at {host}:{port} after {timeout_s:g} s")
        time.sleep(LISTENER_POLL_INTERVAL_S)


def wait_for_hostnames(
    hosts: Sequence[str],
    within_s: float,
    *,
    resolve: Callable[[str], Collection[str]] = ipv4_addresses,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until host names can be resolved: nodes may start one by one, and their names appear with them.

    A name that still can't be resolved is not an error here: the connection to it will fail with the system's message.

    Args:
        hosts: The names.
        within_s: How long to wait for all of them together, in seconds.
        resolve: Looks up the addresses of a name; none: it is unknown.
        clock: The time in seconds.
        sleep: Waits for a number of seconds.
    """
    deadline = clock() + within_s
    for host in hosts:
        while not resolve(host) and clock() < deadline:
            sleep(HOSTNAME_POLL_INTERVAL_S)


def select_interface(rendezvous_host: str, nodes: int, requested_name: str | None = None) -> Interface:
    """The interface that this node communicates over, with an IPv4 address, as Gloo and Horovod need it.

    Args:
        rendezvous_host: The name or address of node 0.
        nodes: The number of nodes. On several nodes a loopback interface is of no use.
        requested_name: The name of the interface; by default it is the one that leads to node 0.

    Raises:
        InterfaceError: If there is no such interface.
    """
    interfaces = [
        Interface(name, entry.address)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET
    ]
    if requested_name is not None:
        matching = [entry for entry in interfaces if entry.name == requested_name]
        if not matching:
            raise InterfaceError(
                f"no interface '{requested_name}' with an IPv4 address on {socket.gethostname()}; "
                f"there are {', '.join(sorted({entry.name for entry in interfaces}))}"
            )
        # Of several addresses, the one that the other nodes connect to.
        rendezvous_addresses = ipv4_addresses(rendezvous_host)
        return next((entry for entry in matching if entry.address in rendezvous_addresses), matching[0])
    address = _source_address_to(rendezvous_host)
    if nodes > 1 and ipaddress.ip_address(address).is_loopback:
        # Debian resolves a machine's own name to a loopback address, which no other machine reaches.
        address = _source_address_to(DOCUMENTATION_ADDRESS)
    name = next((entry.name for entry in interfaces if entry.address == address), None)
    if name is None or (nodes > 1 and ipaddress.ip_address(address).is_loopback):
        raise InterfaceError(f"{socket.gethostname()} has no interface that leads to {rendezvous_host}; name one")
    return Interface(name, address)


def check_rendezvous_interface(interface: Interface, rendezvous_host: str) -> None:
    """Check on node 0 that the other nodes connect to this interface, and not over another network.

    A name that is resolved to a loopback address is accepted: only the machine itself resolves it so.

    Raises:
        InterfaceError: If they connect to another address.
    """
    rendezvous_addresses = sorted(
        entry for entry in ipv4_addresses(rendezvous_host) if not ipaddress.ip_address(entry).is_loopback
    )
    if rendezvous_addresses and interface.address not in rendezvous_addresses:
        raise InterfaceError(
            f"the other nodes connect to {rendezvous_host} at {rendezvous_addresses[0]}, "
            f"but interface {interface.name} has {interface.address}: "
            "name this host by its address there, or name the interface of that network"
        )


def _source_address_to(host: str) -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # No packet is sent: the system only chooses the route.
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    except OSError as problem:
        raise InterfaceError(
            f"{host} can't be reached from {socket.gethostname()} ({problem.strerror or problem})"
        ) from None
