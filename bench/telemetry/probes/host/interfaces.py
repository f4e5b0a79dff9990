"""What a machine sends and receives over its network, each byte once.

A packet passes several interfaces on its way: a VLAN, a bond or a bridge and the physical interface below it, the
``veth`` of a container, a tunnel. Only the lowest ones count: physical interfaces; inside a container, where there are
none, those whose other end is outside it. The kernel's links in ``/sys/class/net`` say which is which.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.core.telemetry import HOST, Sample
from bench.telemetry.probes.host.kernel_files import KernelFile

NETWORK_QUANTITIES = ("network_bytes", "loopback_bytes")
LOOPBACKS = ("lo", "lo0")
ETHERNET_AND_INFINIBAND = (1, 32)
"""Types of interfaces (``ARPHRD_*`` in ``linux/if_arp.h``) that are no tunnels."""


class NetworkInterface(NamedTuple):
    """What ``/sys/class/net`` says of an interface other than loopback."""

    name: str
    number: int
    physical: bool = False
    """It belongs to a device: on a bus, or of the hypervisor."""
    stacked: bool = False
    """It sends through other interfaces of this machine: a VLAN, a bond, a bridge, a macvlan."""
    linked: bool = False
    """Its other end is another interface: of another network namespace, if it is not stacked."""
    bridge_port: bool = False
    tunnel: bool = False


def lowest_interfaces(interfaces: Collection[NetworkInterface]) -> tuple[str, ...]:
    """The interfaces over which bytes leave this machine or container, without those above them (pure)."""
    lowest = [interface for interface in interfaces if not interface.stacked]
    physical = [interface for interface in lowest if interface.physical]
    no_tunnels = [interface for interface in lowest if not interface.tunnel]
    # A container's own; that of a container inside this one is a port of a bridge.
    leaving = [interface for interface in no_tunnels if interface.linked and not interface.bridge_port]
    return tuple(sorted(interface.name for interface in physical or leaving or no_tunnels or lowest))


def read_interfaces(folder: Path) -> list[NetworkInterface]:
    """The interfaces in a folder like ``/sys/class/net``, without loopback interfaces and those that vanish meanwhile.

    Raises:
        OSError: If the folder can't be read.
    """
    interfaces = []
    for entry in folder.iterdir():
        with suppress(OSError, ValueError):
            index, flags = int((entry / "ifindex").read_text()), int((entry / "flags").read_text(), 16)
            names = {child.name for child in entry.iterdir()}
            if flags & 0x8:  # IFF_LOOPBACK
                continue
            interfaces.append(
                NetworkInterface(
                    entry.name,
                    index,
                    physical="device" in names,
                    stacked="bridge" in names or any(name.startswith("lower_") for name in names),
                    linked=int((entry / "iflink").read_text()) not in (0, index),
                    bridge_port="brport" in names,
                    tunnel="tun_flags" in names or int((entry / "type").read_text()) not in ETHERNET_AND_INFINIBAND,
                )
            )
    return interfaces


class InterfaceChoice(NamedTuple):
    """The interfaces that count, or the reason why they are unknown."""

    names: tuple[str, ...]
    reason: str | None = None


def choose_interfaces(
    present: Collection[str],
    folder: Path = Path("/sys/class/net"),
    index_of: Callable[[str], int] = socket.if_nametoindex,
) -> InterfaceChoice:
    """The interfaces of this process's network namespace that count.

    Args:
        present: The names of all interfaces of the namespace.
        folder: The folder that ``/sys/class/net`` is. It may be of another namespace: that in which it was mounted.
        index_of: The index of an interface of the namespace.
    """
    others = sorted(set(present) - set(LOOPBACKS))
    if len(others) < 2:
        return InterfaceChoice(tuple(others))
    try:
        interfaces = read_interfaces(folder)
        same = {interface.name for interface in interfaces} == set(others)
        if same and all(index_of(interface.name) == interface.number for interface in interfaces):
            return InterfaceChoice(lowest_interfaces(interfaces))
        reason = f"{folder} is not of this network namespace"
    except OSError as problem:
        reason = f"{folder} can't be read ({problem.strerror})"
    return InterfaceChoice((), f"{reason}: which of {', '.join(others)} carry the same bytes is unknown")


class InterfaceCounters:
    """The bytes that each interface of this process's network namespace has sent and received.

    Args:
        proc: The folder that ``/proc`` is.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._file = KernelFile(proc / "net" / "dev")

    def read(self) -> dict[str, int]:
        """Those so far, by the name of the interface."""
        if sys.platform == "linux":
            return parse_counters(self._file.read().decode())
        counters = psutil.net_io_counters(pernic=True)
        return {name: counter.bytes_sent + counter.bytes_recv for name, counter in counters.items()}


def parse_counters(text: str) -> dict[str, int]:
    """The bytes received and sent by each interface in the text of ``/proc/net/dev`` (pure)."""
    counters = {}
    # Two lines of headings. A name may contain a colon, as that of an alias does.
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        columns = rest.split()
        counters[name.strip()] = int(columns[0]) + int(columns[8])
    return counters


class NetworkReader:
    """Counts the bytes that were sent and received.

    Args:
        ports: The interfaces to count in the hub of a trial's network (:mod:`bench.host.links`): each port carries what
            a node sends and receives, so that a transfer is counted at both ends, as on separate machines. ``None``:
            this is no hub, and the lowest interfaces count.
        read_counters: The bytes sent and received so far, by interface; by default :class:`InterfaceCounters`.
        choose: Which of these interfaces count.
    """

    def __init__(
        self,
        ports: Sequence[str] | None = None,
        read_counters: Callable[[], Mapping[str, int]] | None = None,
        choose: Callable[[Collection[str]], InterfaceChoice] = choose_interfaces,
    ) -> None:
        self.ports, self.read_counters, self.choose = ports, read_counters or InterfaceCounters().read, choose
        self.choice: InterfaceChoice | None = None if ports is None else InterfaceChoice(tuple(ports))
        self.last: dict[str, int] = {}

    def read(self) -> list[Sample]:
        """The bytes so far."""
        counters = self.read_counters()
        # Once: a set that changes would make the sum jump. An interface that is gone keeps what it has counted.
        self.choice = self.choice or self.choose(counters)
        self.last |= counters
        outward = Sample(HOST, "network_bytes", None, self.choice.reason)
        if self.choice.reason is None:
            outward = Sample(HOST, "network_bytes", float(sum(self.last.get(name, 0) for name in self.choice.names)))
        if self.ports is not None:
            reason = "each node is a namespace with a loopback of its own"
            return [outward, Sample(HOST, "loopback_bytes", None, reason)]
        # What is sent on the loopback interface is received on it: each byte is counted twice.
        return [outward, Sample(HOST, "loopback_bytes", sum(self.last.get(name, 0) for name in LOOPBACKS) / 2)]
