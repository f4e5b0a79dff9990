"""The protocol ``unix://`` for Dask: its own connections, over Unix sockets in a folder of the trial.

Where all processes of a trial's cluster are on one machine, nobody else reaches them there, since the folder can be
entered by its owner alone; nothing needs to be encrypted, which takes most of the time of an exchange. Dask's messages,
their serialization and their streams are those of its ``tcp://``. It takes addresses for ones of hosts and ports, so
that an address stays one here: ``unix://127.0.0.1:8786`` is the file ``8786.dask`` in the folder.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.host.network import LISTENER_POLL_INTERVAL_S

PREFIX = "unix://"
MAX_PATH_BYTES = 107
"""Of the file of a Unix socket."""
LISTENERS_PER_PROCESS = 100
MAX_PORT = 2**22 * LISTENERS_PER_PROCESS
"""Linux has no process id above 2²²."""
SEND_BUFFER_BYTES = 4 * 2**20
"""The kernel may allow less. A gradient that fits needs no second turn of the event loop."""

_listeners = itertools.count()


def socket_file(folder: Path, port: int) -> Path:
    """The file that stands for a port (pure)."""
    return folder / f"{port}.dask"


def fits(folder: Path) -> bool:
    """Whether the paths of sockets in this folder are short enough for the kernel (pure)."""
    return len(os.fsencode(socket_file(folder, MAX_PORT))) <= MAX_PATH_BYTES


def wait_for_socket(folder: Path, port: int, timeout_s: float) -> None:
    """Return once a server listens at a file.

    Raises:
        TimeoutError: If there is none within ``timeout_s`` seconds.
    """
    deadline, path = time.monotonic() + timeout_s, socket_file(folder, port)
    while True:
        with closing(socket.socket(socket.AF_UNIX)) as trial:
            if trial.connect_ex(os.fspath(path)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no scheduler listens at {path} after {timeout_s:g} s")
        time.sleep(LISTENER_POLL_INTERVAL_S)


class LocalSocket(socket.socket):
    """A Unix socket that answers as one of TCP does: with a host and a port."""

    address: tuple[str, int] = ("127.0.0.1", 0)

    def accept(self) -> tuple[socket.socket, Any]:
        connection, _ = super().accept()
        accepted = LocalSocket(fileno=connection.detach())
        accepted.address = self.address
        _enlarge_buffer(accepted)
        return accepted, self.address

    def getsockname(self) -> tuple[str, int]:
        return self.address

    def setsockopt(self, *arguments: Any) -> None:
        # Dask sets TCP's keep-alive, which a connection inside of one kernel does not need.
        if arguments[0] != socket.SOL_TCP:
            super().setsockopt(*arguments)


def _enlarge_buffer(local_socket: socket.socket) -> None:
    local_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def register(folder: Path) -> None:
    """Let Dask connect this process to others by the files of sockets in a folder, which exists."""
    from distributed.comm import tcp
    from distributed.comm.addressing import parse_host_port
    from distributed.comm.registry import backends
    from tornado.iostream import IOStream, StreamClosedError
    from tornado.tcpserver import TCPServer

    class LocalConnector(tcp.TCPConnector):
        prefix = PREFIX

        async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Any:
            local_socket = LocalSocket(socket.AF_UNIX)
            local_socket.address = parse_host_port(address)
            _enlarge_buffer(local_socket)
            stream = IOStream(local_socket, max_buffer_size=tcp.MAX_BUFFER_SIZE)
            try:
                await stream.connect(os.fspath(socket_file(folder, local_socket.address[1])))
            except StreamClosedError as problem:
                tcp.convert_stream_closed_error(self, problem)
            return tcp.TCP(stream, PREFIX + address, PREFIX + address, deserialize)

    class LocalListener(tcp.TCPListener):
        prefix = PREFIX
        port: int
        tcp_server: Any

        async def start(self) -> None:
            # A number that no other process of the machine has.
            self.port = self.port or os.getpid() * LISTENERS_PER_PROCESS + next(_listeners)
            listener = LocalSocket(socket.AF_UNIX)
            listener.address = self.bound_address = (self.ip, self.port)
            listener.setblocking(False)
            listener.bind(os.fspath(socket_file(folder, self.port)))
            listener.listen(socket.SOMAXCONN)
            self.tcp_server = TCPServer(max_buffer_size=tcp.MAX_BUFFER_SIZE)
            self.tcp_server.handle_stream = self._handle_stream  # as its base does
            self.tcp_server.add_sockets([listener])

    class LocalBackend(tcp.TCPBackend):
        _connector_class = LocalConnector
        _listener_class = LocalListener

    backends[PREFIX.removesuffix("://")] = LocalBackend()
