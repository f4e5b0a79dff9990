"""Links of a given rate between network namespaces: the commands that create them, and what they really carry.

A node is a network namespace whose only interface is one end of a veth pair; the other end is a port of a bridge in a
namespace of its own, the hub. A node holds one or several ranks, which reach each other inside it without a link. A
token bucket filter at either end limits the rate in each direction. The rate counts whole Ethernet frames, as that of a
real link does: TCP's payload is at most 1448 of 1514 bytes. Only the rate is shaped: the latency is that of the
machine.

The functions that return commands for ``ip`` and ``tc`` are pure. :mod:`bench.host.namespaces` runs the commands.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from statistics import median

from bench.core.case import Case
from bench.core.records import Link

MIN_BITS_S = 64e3
"""The lowest rate: below it, a trial would spend its whole time limit on the first message."""
UNSHAPED = "unshaped"
NODE_INTERFACE = "eth0"
HUB = "hub"
FIRST_ADDRESS = ipaddress.IPv4Address("10.77.0.1")
NETWORK_BITS = 16
UNITS = {"gbit": 1e9, "mbit": 1e6, "kbit": 1e3}
"""The units of ``tc`` in bits per second, the largest first."""

# The time at full rate that a bucket holds. With less, late timers cost throughput; with more, short messages pass as
# if the link were not shaped.
BURST_S = 0.0006
MIN_BURST_BYTES = 4 * 1514
# A packet of the network stack, with the headers of all its segments, must fit into the bucket, or is split in
# software.
MAX_PACKET_BYTES = 65536
PAYLOAD_SHARE = 0.94
# The queue of a link, in seconds at full rate, as of a switch. With more, the two directions of a slow link starve each
# other.
QUEUE_S = 0.05
MIN_QUEUE_BYTES = 2**16

PORT = 7077
ROUND_TRIPS = 50
CHUNK_BYTES = 2**18
WINDOW_S = 0.8
MAX_WINDOW_S = 3.0
# The least payload that a slow link is measured by, so that a single packet does not matter.
WINDOW_BYTES = 1000 * 1448
# The time in which buckets empty and TCP finds its rate. With less, one direction may still starve the other.
SETTLE_S = 0.5
SOCKET_TIMEOUT_S = 10.0


def parse_rate(text: str) -> str:
    """A rate in its canonical spelling: ``1gbit``, ``2.5gbit``, ``100mbit``, ``64kbit`` or ``unshaped``.

    Raises:
        ValueError: If the text is no rate, or one below 64 kbit/s.
    """
    if text == UNSHAPED:
        return text
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([kmg]bit)", text.strip().lower())
    bits_s = float(match.group(1)) * UNITS[match.group(2)] if match else 0.0
    unit = next((unit for unit, factor in UNITS.items() if bits_s >= factor), None)
    if unit is None or bits_s < MIN_BITS_S:
        raise ValueError(f"expected a rate like 100mbit or 1gbit, or {UNSHAPED}")
    return f"{bits_s / UNITS[unit]:.9g}{unit}"


def rate_bytes_s(net: str) -> float | None:
    """The rate of a link in each direction, in bytes per second; ``None`` where it is not shaped."""
    if net == UNSHAPED:
        return None
    return float(net[:-4]) * UNITS[net[-4:]] / 8


def ranks_per_namespace(case: Case) -> int:
    """The number of ranks in each network namespace: those of a node, or one where the case has a single node."""
    return case.ranks_on_a_node if case.ranks_per_node else 1


def node_address(node: int) -> str:
    """The address of a node on the links."""
    return str(FIRST_ADDRESS + node)


def hub_commands(namespaces: Sequence[str]) -> list[str]:
    """Commands for ``ip -batch`` in the hub's namespace: create the bridge, and a port for each node."""
    lines = [f"link add {HUB} type bridge stp_state 0 mcast_snooping 0", *_link_up_commands(HUB)]
    for port, namespace in zip(port_names(len(namespaces)), namespaces, strict=True):
        lines += [
            f"link add {port} type veth peer name {NODE_INTERFACE} netns {namespace}",
            f"link set {port} master {HUB}",
            *_link_up_commands(port),
        ]
    return lines


def node_commands(node: int, net: str) -> list[str]:
    """Commands for ``ip -batch`` in a node's namespace: set its address, and limit packets to the size of its
    bucket."""
    lines = ["link set lo up", f"address add {node_address(node)}/{NETWORK_BITS} dev {NODE_INTERFACE}"]
    rate = rate_bytes_s(net)
    if rate is not None:
        packet = min(MAX_PACKET_BYTES, int(burst_bytes(rate) * PAYLOAD_SHARE))
        lines.append(f"link set {NODE_INTERFACE} gso_max_size {packet}")
    return [*lines, *_link_up_commands(NODE_INTERFACE)]


def _link_up_commands(device: str) -> list[str]:
    # Without an IPv6 address: a framework might choose it, and its neighbour discovery is traffic of no rank.
    return [f"link set {device} addrgenmode none", f"link set {device} up"]


def shaping_commands(devices: Sequence[str], net: str) -> list[str]:
    """Commands for ``tc -batch``: a token bucket filter on each device; none where the links are not shaped."""
    rate = rate_bytes_s(net)
    if rate is None:
        return []
    burst = burst_bytes(rate)
    queue = burst + max(MIN_QUEUE_BYTES, int(rate * QUEUE_S))
    return [f"qdisc add dev {device} root tbf rate {net} burst {burst} limit {queue}" for device in devices]


def port_names(nodes: int) -> list[str]:
    """The names of the hub's ports, one for each node."""
    return [f"port{node}" for node in range(nodes)]


def burst_bytes(rate: float) -> int:
    """The size of the token bucket for a rate in bytes per second."""
    return max(MIN_BURST_BYTES, round(rate * BURST_S))


def measure_link(net: str, enter_node: Sequence[Callable[[], None]]) -> Link:
    """Measure a link between two nodes: its rate with transfers in both directions at once, and its round-trip time.

    Args:
        net: The rate of the link, as :func:`parse_rate` returns it.
        enter_node: Two functions that move this thread into the network namespace of node 0 and of node 1. A socket
            belongs to the namespace in which it was created, whichever thread uses it later.

    Raises:
        OSError: If the nodes can't communicate.
    """
    rate = rate_bytes_s(net)
    enter_node[0]()
    with socket.create_server((node_address(0), PORT)) as listener:
        enter_node[1]()
        near = socket.create_connection((node_address(0), PORT), timeout=SOCKET_TIMEOUT_S)
        far, _ = listener.accept()
    with near, far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(SOCKET_TIMEOUT_S)
        round_trip_s = median(_round_trip(near, far) for _ in range(ROUND_TRIPS))
        window_s = max(WINDOW_S, min(MAX_WINDOW_S, WINDOW_BYTES / rate)) if rate else WINDOW_S
        achieved = _measure_both_directions(near, far, window_s)
    return Link(net=net, wanted_bytes_s=rate, achieved_bytes_s=achieved, round_trip_s=round_trip_s)


def _round_trip(near: socket.socket, far: socket.socket) -> float:
    began = time.perf_counter()
    for sender, receiver in ((near, far), (far, near)):
        sender.sendall(b"?")
        receiver.recv(1)
    return time.perf_counter() - began


def _measure_both_directions(near: socket.socket, far: socket.socket, window_s: float) -> float:
    """Send in both directions as fast as the link allows; returns the bytes per second of the slower direction."""
    start_s = time.perf_counter() + SETTLE_S
    end_s = start_s + window_s
    with ThreadPoolExecutor(max_workers=4) as threads:
        for end in (near, far):
            threads.submit(_send, end)
        receiving = [threads.submit(_receive, end, start_s, end_s) for end in (near, far)]
        wait(receiving)
        for end in (near, far):
            # The other end may be closed by now, and this one with it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
    return min(received.result() for received in receiving)


def _send(end: socket.socket) -> None:
    """Send until the connection is shut down."""
    chunk = bytes(CHUNK_BYTES)
    with suppress(OSError):
        while True:
            end.send(chunk)


def _receive(end: socket.socket, start_s: float, end_s: float) -> float:
    """Bytes per second from the first arrival after ``start_s`` to the first after ``end_s``."""
    buffer = bytearray(CHUNK_BYTES)
    first_s, received_bytes = None, 0
    while True:
        count = end.recv_into(buffer)
        now_s = time.perf_counter()
        if first_s is None:
            first_s = now_s if now_s >= start_s else None
            continue
        received_bytes += count
        if now_s >= end_s:
            return received_bytes / (now_s - first_s)
