"""Where Horovod's ranks meet: the rendezvous server, and the hosts that it takes ranks to be on. No backend."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bench.backends.horovod_rendezvous import RendezvousServer
from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.host.links import ranks_per_namespace
from bench.host.namespaces import use_hostname
from bench.host.network import (
    LOOPBACK,
    address_of_own_name,
    bind_address,
    select_interface,
    wait_for_listener,
)

RENDEZVOUS_PORT_VARIABLE = "HOROVOD_GLOO_RENDEZVOUS_PORT"
"""Set where horovodrun has started a rank."""


def place_among_hosts(case: Case, me: RankInfo) -> RankInfo:
    """This rank as Horovod numbers it (pure): it connects the ranks of a host over the loopback interface; namespaces
    share none, so each is a host."""
    if case.net is None:
        return me
    ranks_per_host = ranks_per_namespace(case)
    return replace(me, local_rank=me.rank % ranks_per_host, local_world=ranks_per_host)


def address_of_host(me: RankInfo, transport: str, env: Mapping[str, str]) -> str | None:
    """The address that this host's name is to stand for while Horovod looks it up; ``None``: as it is.

    Args:
        me: The rank of this process.
        transport: ``gloo``, ``mpi`` or ``nccl``.
        env: The environment variables that the rank inherited.
    """
    # horovodrun gives the interface and no address.
    if RENDEZVOUS_PORT_VARIABLE in env:
        return select_interface("", 1, env["HOROVOD_GLOO_IFACE"]).address
    found = address_of_own_name()
    if me.own_host is None and (found is None or (transport != "mpi" and not _is_loopback(found))):
        # All ranks are on this machine, whose name stands for nothing, or for an address that others reach.
        return LOOPBACK.address
    return me.own_host


@contextmanager
def rendezvous_server(me: RankInfo, timeout_s: float) -> Iterator[None]:
    """Rank 0 serves the rendezvous; the others wait until it answers, since Horovod retries for 1.5 s only."""
    if me.rank:
        wait_for_listener(me.rendezvous_host, me.rendezvous_port, timeout_s)
        yield
        return
    server = RendezvousServer(bind_address(me.rendezvous_host, me.own_host), me.rendezvous_port)
    server.start()
    try:
        yield
    finally:
        server.close()


@contextmanager
def resolving_hostname_as(address: str | None) -> Iterator[None]:
    """Inside, this host's name resolves to ``address``. Raises ``RuntimeError`` where that is needed and not possible.

    Horovod 0.28.1 ignores the interface for its process sets and uses the address that the host's name resolves to. In
    a namespace that is another machine's address, on Debian a loopback address, and where the name does not resolve
    Horovod dies of a segmentation fault.
    """
    with contextlib.ExitStack() as stack:
        found = address_of_own_name()
        if address is not None and found != address:
            try:
                stack.enter_context(use_hostname(address))
            except PermissionError:
                name = socket.gethostname()
                if found is None:
                    raise RuntimeError(
                        f"the name {name} of this host stands for no address, and Horovod goes by it: give it "
                        f"{address} in /etc/hosts (`echo {address} {name} >> /etc/hosts`)"
                    ) from None
                if _is_loopback(found):
                    raise RuntimeError(
                        f"the name {name} stands for {found} on its own host, where no other host "
                        f"reaches it, and Horovod goes by it: give it {address} in /etc/hosts there"
                    ) from None
        yield


def _is_loopback(address: str | None) -> bool:
    return address is not None and ipaddress.ip_address(address).is_loopback
