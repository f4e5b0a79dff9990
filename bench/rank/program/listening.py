"""Keeps the store where a program's ranks meet to one address: by itself torch would listen on every interface."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from bench.core.rank_info import RankInfo
from bench.host.network import bind_address, listen_at

RENDEZVOUS_MODULE = "torch.distributed.rendezvous"
"""It makes the store of ``init_process_group``, by its name ``TCPStore``."""


def told_port(env: Mapping[str, str]) -> int | None:
    """Where the ranks are told to meet, if rank 0 is to serve the store there and not torchrun's agent (pure)."""
    port = env.get("MASTER_PORT", "")
    return int(port) if port.isdigit() and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True" else None


class BoundStores:
    """Makes the stores that this process serves listen at the rendezvous address alone.

    Rank 0 listens from the beginning, so that ranks that are faster wait for it instead of trying again ever later.

    Args:
        me: The rank of this process.
        first_port: Where the ranks are told to meet; ``None``: they are told nothing.
    """

    def __init__(self, me: RankInfo, first_port: int | None) -> None:
        self.me = me
        self._listeners: dict[int, socket.socket] = {}
        if first_port is not None and me.rank == 0:
            self._listeners[first_port] = listen_at(bind_address(me.rendezvous_host, me.own_host), first_port)

    def bind(self, rendezvous: ModuleType) -> None:
        """Have torch's rendezvous, when it is imported, serve its stores where this says. Never raises."""
        make_store: Callable[..., Any] | None = getattr(rendezvous, "TCPStore", None)
        if make_store is None:
            return

        def make_bound_store(*arguments: Any, **options: Any) -> Any:
            return make_store(*arguments, **options, **self._listening(options))

        rendezvous.TCPStore = make_bound_store  # type: ignore[attr-defined]

    def _listening(self, options: dict[str, Any]) -> dict[str, int]:
        """What makes a store listen where it should, if this process serves it."""
        host, port = options.get("host_name"), options.get("port")
        if not options.get("is_master") or not isinstance(host, str) or not isinstance(port, int) or port == 0:
            return {}
        listener = self._listeners.pop(port, None)
        try:
            listener = listener or listen_at(bind_address(host, self.me.own_host), port)
        except OSError:
            # A second store at a port shares the server of the first; else torch says what is wrong.
            return {}
        return {"master_listen_fd": listener.detach()}
