"""Links of a stated rate between nodes made on one machine, as the lines that ``ip`` and ``tc`` are given (pure).

A node is a network namespace whose only way out is one end of a veth pair; the other end is a port of a bridge in a
namespace of its own, the hub. It holds one rank, or as many as were asked for: those reach each other inside it. A
token bucket on either end lets the rate through, in each direction. The rate counts whole Ethernet frames, as a real
link's does: TCP's payload is at most 1448 of 1514 bytes. Only the rate is shaped: the round trip stays that of the
machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from bench.core.case import Case

MIN_BITS_S = 64e3
"""Below, a trial would spend its whole time on the first message."""
UNSHAPED = "unshaped"
NODE_INTERFACE = "eth0"
HUB = "hub"
FIRST_ADDRESS = ipaddress.IPv4Address("10.77.0.1")
NETWORK_BITS = 16
UNITS = {"gbit": 1e9, "mbit": 1e6, "kbit": 1e3}
"""As tc writes them, in bits a second; the largest first."""

# What may pass at once: less, and late timers cost throughput; more, and short messages pass as if nothing were shaped.
BURST_S = 0.0006
MIN_BURST_BYTES = 4 * 1514
# A whole packet of the stack's, headers of all its segments included, must fit the bucket or is cut up in software.
MAX_PACKET_BYTES = 65536
PAYLOAD_SHARE = 0.94
# As much as a switch may hold back before it drops. More, on a slow link, lets the two directions starve each other.
QUEUE_S = 0.05
MIN_QUEUE_BYTES = 2**16


def parse_rate(text: str) -> str:
    """``1gbit``, ``2.5gbit``, ``100mbit``, ``64kbit`` or ``unshaped``, in one spelling. Raises ``ValueError``."""
    if text == UNSHAPED:
        return text
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([kmg]bit)", text.strip().lower())
    bits_s = float(match.group(1)) * UNITS[match.group(2)] if match else 0.0
    unit = next((unit for unit, factor in UNITS.items() if bits_s >= factor), None)
    if unit is None or bits_s < MIN_BITS_S:
        raise ValueError(f"expected a rate like 100mbit or 1gbit, or {UNSHAPED}")
    return f"{bits_s / UNITS[unit]:.9g}{unit}"


def rate_bytes_s(net: str) -> float | None:
    """What a link lets through each way, in bytes a second; ``None`` where it is not shaped."""
    if net == UNSHAPED:
        return None
    return float(net[:-4]) * UNITS[net[-4:]] / 8


def ranks_per_namespace(case: Case) -> int:
    """How many ranks share a namespace and reach each other without the links: one, where nothing was said."""
    return case.ranks_on_a_node if case.ranks_per_node else 1


def node_address(node: int) -> str:
    """Where the ranks of this node are met by the others."""
    return str(FIRST_ADDRESS + node)


def hub_commands(namespaces: Sequence[str]) -> list[str]:
    """For ``ip -batch`` in the hub's namespace: the bridge, and a port for each node."""
    lines = [f"link add {HUB} type bridge stp_state 0 mcast_snooping 0", *_link_up_commands(HUB)]
    for port, namespace in zip(port_names(len(namespaces)), namespaces, strict=True):
        lines += [
            f"link add {port} type veth peer name {NODE_INTERFACE} netns {namespace}",
            f"link set {port} master {HUB}",
            *_link_up_commands(port),
        ]
    return lines


def node_commands(node: int, net: str) -> list[str]:
    """For ``ip -batch`` in the namespace of a node: its address, and packets no larger than its bucket."""
    lines = ["link set lo up", f"address add {node_address(node)}/{NETWORK_BITS} dev {NODE_INTERFACE}"]
    rate = rate_bytes_s(net)
    if rate is not None:
        packet = min(MAX_PACKET_BYTES, int(burst_bytes(rate) * PAYLOAD_SHARE))
        lines.append(f"link set {NODE_INTERFACE} gso_max_size {packet}")
    return [*lines, *_link_up_commands(NODE_INTERFACE)]


def _link_up_commands(device: str) -> list[str]:
    # An IPv6 address of its own would be one that a framework might choose, and its discovery traffic of no rank's.
    return [f"link set {device} addrgenmode none", f"link set {device} up"]


def shaping_commands(devices: Sequence[str], net: str) -> list[str]:
    """For ``tc -batch``: a token bucket on each device; none where nothing is shaped."""
    rate = rate_bytes_s(net)
    if rate is None:
        return []
    burst = burst_bytes(rate)
    queue = burst + max(MIN_QUEUE_BYTES, int(rate * QUEUE_S))
    return [f"qdisc add dev {device} root tbf rate {net} burst {burst} limit {queue}" for device in devices]


def port_names(nodes: int) -> list[str]:
    return [f"port{node}" for node in range(nodes)]


def burst_bytes(rate: float) -> int:
    return max(MIN_BURST_BYTES, round(rate * BURST_S))
