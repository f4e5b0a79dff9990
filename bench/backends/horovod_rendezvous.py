"""The store where Horovod's ranks meet over Gloo: a small HTTP server that answers once a key is there.

Horovod's own server (``horovod.runner.http.http_server``) starts a thread for each request, lets five connections wait
(the others try again after 1, 3 and 7 s), and sends an answer in two parts, the second of which waits for the client's
delayed acknowledgement (40 ms). Its clients ask for a key that is missing every 10 ms. N ranks on a machine make some
10·N² requests: 64 of them were still joining after minutes. Here one thread serves all, and a request for a key that is
missing is answered when the key is set.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.host.network import listen_at

BACKLOG = 4096
"""Connections that may wait to be accepted: those of all ranks at once. The kernel may allow fewer."""
HOLD_S = 1.0
"""How long a request for a missing key waits for it; then the client is told, and may look at its own time limit."""
REQUEST_LIMIT_S = 10.0
"""How long a client may take to send its request, or to take the answer."""
MAX_REQUEST_BYTES = 16 * 1024**2
RECEIVE_BYTES = 64 * 1024
END_OF_HEADERS = b"\r\n\r\n"
OK, BAD_REQUEST, NOT_FOUND = b"200 OK", b"400 Bad Request", b"404 Not Found"
RANK_KEY = "rank_"
"""Before the number of a rank: the key under which Gloo keeps the name of its host."""


class Request(NamedTuple):
    """A request: ``GET``, ``PUT`` or ``DELETE`` of a key in a scope (a group of ranks)."""

    method: str
    scope: str
    key: str
    value: bytes


class BadRequest(ValueError):
    """These bytes are no request that the store understands."""


def parse_request(received: bytes) -> Request | None:
    """Read a request (pure).

    Args:
        received: The bytes received so far.

    Returns:
        ``None`` where a part of it is still missing.

    Raises:
        BadRequest: It is none, or a value is larger than :data:`MAX_REQUEST_BYTES`.
    """
    head, separator, body = received.partition(END_OF_HEADERS)
    if not separator:
        if len(received) > RECEIVE_BYTES:
            raise BadRequest("its headers do not end")
        return None
    first, *headers = head.decode("latin-1").split("\r\n")
    length = 0
    for header in headers:
        name, _, value = header.partition(":")
        if name.strip().lower() == "content-length":
            if not value.strip().isdigit() or int(value) > MAX_REQUEST_BYTES:
                raise BadRequest(f"its length is{value}")
            length = int(value)
    words = first.split(" ")
    parts = words[1].split("/") if len(words) > 1 else []
    if words[0] not in ("GET", "PUT", "DELETE") or len(parts) != 3:
        raise BadRequest(first)
    return Request(words[0], parts[1], parts[2], body[:length]) if len(body) >= length else None


def build_answer(status: bytes, value: bytes = b"") -> bytes:
    """An answer as one message (pure)."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(value), value)


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    since_s: float
    received: bytearray = field(default_factory=bytearray)
    unsent: memoryview | None = None
    awaited: tuple[str, str] | None = None
    """The scope and the key that its client waits for."""
    watched: int = 0
    """The events that the selector waits for; 0: none, as most requests are answered when they are accepted."""


class RendezvousServer:
    """Serves the store in a thread from :meth:`start` to :meth:`close`.

    A rank that leaves a scope (``DELETE`` of its number) takes its own keys with it: the same scope can be joined anew.

    Args:
        host: The one address of this machine that it listens at.
        port: The port.

    Raises:
        OSError: If that is not possible; where another process has taken the port, with the remedy.
    """

    def __init__(self, host: str, port: int) -> None:
        self._listener = listen_at(host, port)
        self._listener.listen(BACKLOG)
        if sys.platform == "linux":
            # A connection is accepted once its request has come, or after a second. Other systems know no such option.
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        self._listener.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._values: dict[tuple[str, str], bytes] = {}
        self._waiting: defaultdict[tuple[str, str], list[_Connection]] = defaultdict(list)
        self._connections: set[_Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._serve, name="horovod-rendezvous", daemon=True)

    def start(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and all connections with it."""
        self._wake.close()
        self._thread.join()

    def _serve(self) -> None:
        try:
            looked_s = time.monotonic()
            while True:
                # Without connections it sleeps: nothing of it runs while ranks train.
                for key, _ in self._selector.select(HOLD_S / 2 if self._connections else None):
                    if key.fileobj is self._woken:
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._go_on(key.data)
                if time.monotonic() - looked_s > HOLD_S / 2:
                    looked_s = time.monotonic()
                    self._end_waits(looked_s)
        finally:
            for connection in list(self._connections):
                self._end(connection)
            self._listener.close()
            self._selector.close()
            self._woken.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.setblocking(False)
                connection = _Connection(accepted, time.monotonic())
                self._connections.add(connection)
                self._go_on(connection)
                if connection in self._connections and not connection.watched:
                    self._watch(connection, selectors.EVENT_READ)

    def _watch(self, connection: _Connection, events: int) -> None:
        change = self._selector.modify if connection.watched else self._selector.register
        change(connection.socket, events, connection)
        connection.watched = events

    def _go_on(self, connection: _Connection) -> None:
        """Take what a connection has sent, or send what it has not taken yet."""
        if connection not in self._connections:
            # Another event of the same look has answered it, and ended it.
            return
        try:
            if connection.unsent is not None:
                self._send(connection)
                return
            received = connection.socket.recv(RECEIVE_BYTES)
            if not received:
                self._end(connection)
                return
            connection.received += received
            if connection.awaited is None and (request := parse_request(bytes(connection.received))) is not None:
                self._carry_out(request, connection)
        except BlockingIOError:
            return
        except BadRequest:
            self._answer(connection, BAD_REQUEST)
        except OSError:
            self._end(connection)

    def _carry_out(self, request: Request, connection: _Connection) -> None:
        path = (request.scope, request.key)
        if request.method == "GET":
            if (value := self._values.get(path)) is not None:
                self._answer(connection, OK, value)
            else:
                connection.awaited, connection.since_s = path, time.monotonic()
                self._waiting[path].append(connection)
            return
        if request.method == "PUT":
            self._values[path] = request.value
            for waiting in self._waiting.pop(path, []):
                self._answer(waiting, OK, request.value)
        else:
            self._values.pop(path, None)
            self._values.pop((request.scope, RANK_KEY + request.key), None)
        self._answer(connection, OK)

    def _answer(self, connection: _Connection, status: bytes, value: bytes = b"") -> None:
        if connection not in self._connections:
            return
        connection.awaited, connection.since_s = None, time.monotonic()
        connection.unsent = memoryview(build_answer(status, value))
        try:
            self._send(connection)
        except OSError:
            self._end(connection)

    def _send(self, connection: _Connection) -> None:
        assert connection.unsent is not None
        with suppress(BlockingIOError):
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        if connection.unsent:
            self._watch(connection, selectors.EVENT_WRITE)
        else:
            self._end(connection)

    def _end_waits(self, now_s: float) -> None:
        for connection in list(self._connections):
            waited_s = now_s - connection.since_s
            if connection.awaited is not None and waited_s > HOLD_S:
                self._waiting[connection.awaited].remove(connection)
                self._answer(connection, NOT_FOUND)
            elif connection.awaited is None and waited_s > REQUEST_LIMIT_S:
                self._end(connection)

    def _end(self, connection: _Connection) -> None:
        if connection.awaited is not None:
            self._waiting[connection.awaited].remove(connection)
        self._connections.discard(connection)
        if connection.watched:
            self._selector.unregister(connection.socket)
        with suppress(OSError):
            # A process that was forked meanwhile may hold it open.
            connection.socket.shutdown(socket.SHUT_RDWR)
        connection.socket.close()
