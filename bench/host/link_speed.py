"""What a link between two namespaces really carries: both ways at once, and the round trip of a small message."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from statistics import median

from bench.core.records import Link
from bench.host.links import node_address, rate_bytes_s

PORT = 7077
ROUND_TRIPS = 50
CHUNK_BYTES = 2**18
WINDOW_S = 0.8
MAX_WINDOW_S = 3.0
# Of a slow link at least this much, so that a packet more or less does not count.
WINDOW_BYTES = 1000 * 1448
# Until the buckets are empty and TCP has found its pace: with less, one direction may still starve the other.
SETTLE_S = 0.5
SOCKET_TIMEOUT_S = 10.0


def measure_link(net: str, enter_node: Sequence[Callable[[], None]]) -> Link:
    """The slower direction of a transfer both ways at once, in payload bytes a second, and the median round trip.

    ``enter``: two functions that move this thread into the namespace of node 0 and of node 1. A socket belongs to the
    namespace that it was made in, whoever uses it later.
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
    """Send as fast as the link takes it, both ways; returns the slower direction's bytes a second."""
    start_s = time.perf_counter() + SETTLE_S
    end_s = start_s + window_s
    with ThreadPoolExecutor(max_workers=4) as threads:
        for end in (near, far):
            threads.submit(_send, end)
        receiving = [threads.submit(_receive, end, start_s, end_s) for end in (near, far)]
        wait(receiving)
        for end in (near, far):
            # The other end may have gone by now, and this one with it.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
    return min(received.result() for received in receiving)


def _send(end: socket.socket) -> None:
    """Until the connection is shut down."""
    chunk = bytes(CHUNK_BYTES)
    with suppress(OSError):
        while True:
            end.send(chunk)


def _receive(end: socket.socket, start_s: float, end_s: float) -> float:
    """Bytes a second from the first arrival after ``start_s`` to the first after ``end_s``."""
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
