"""Joins a torch.distributed process group; shared by the backends whose ranks communicate through one. No backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from bench.core.case import Case, Role
from bench.core.collectives import ROOT, Collective
from bench.core.rank_info import RankInfo
from bench.host.network import bind_address, listen_at, wait_for_listener
from bench.host.resources import use_device
from bench.plugins.backend import Session
from bench.rank.flight_recorder import set_recorder_variables

STORE_PREFIX = "ranks"

_kept_alive: list[Any] = []


class ProcessGroupSession(Session):
    """A session whose ranks are those of torch.distributed's default process group."""

    def all_reduce_sum(self, tensor: Any) -> Any:
        import torch.distributed as dist

        on_device = tensor.to(self.device)
        dist.all_reduce(on_device)
        return on_device

    def checkpoint_group(self) -> Any:
        import torch.distributed as dist

        group = dist.new_group(backend="gloo")
        _kept_alive.append(group)
        return group

    def prepare_collective(self, operation: Collective, send: Any, receive: Any) -> Callable[[], Any]:
        import torch.distributed as dist

        # The names up to torch 2.12 warn from 2.13 on.
        all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        if operation == "send_recv":
            return _prepare_send_recv(send, receive, self.rank, self.world)
        operations: dict[Collective, Callable[[], Any]] = {
            "all_reduce": lambda: dist.all_reduce(receive),
            "broadcast": lambda: dist.broadcast(receive, ROOT),
            "all_gather": lambda: all_gather(receive, send),
            "reduce_scatter": lambda: reduce_scatter(receive, send),
            "all_to_all": lambda: dist.all_to_all_single(receive, send),
        }
        return operations[operation]


def _prepare_send_recv(send: Any, receive: Any, rank: int, world: int) -> Callable[[], Any]:
    """Each rank sends to the next one while it receives from the one before."""
    import torch.distributed as dist

    exchange = [
        dist.P2POp(dist.isend, send, (rank + 1) % world),
        dist.P2POp(dist.irecv, receive, (rank - 1) % world),
    ]

    def perform() -> None:
        for transfer in dist.batch_isend_irecv(exchange):
            transfer.wait()

    return perform


PROCESS_GROUP_COLLECTIVES: Mapping[Collective, tuple[bool, ...]] = {
    "all_reduce": (True,),
    "broadcast": (True,),
    "all_gather": (False, True),
    "reduce_scatter": (False, True),
    "all_to_all": (False,),
    "send_recv": (False,),
}
"""See :meth:`bench.plugins.backend.Backend.collectives`."""


def process_group_roles(case: Case) -> tuple[Role, ...]:
    """The ranks of a case: the site's agents or torchrun can start them, and NCCL bypasses the network (pure)."""
    by_nccl = case.transport == "nccl"
    return (Role(name="rank", count=case.ranks, launchers=("torchrun",), bypasses_network=by_nccl),)


SessionT = TypeVar("SessionT", bound=ProcessGroupSession)


@contextmanager
def join_torch_distributed(
    case: Case, me: RankInfo, transport: str, make_session: Callable[[int, int, str], SessionT]
) -> Iterator[SessionT]:
    """Initialize torch.distributed over the address in ``me``; destroy the process group on exit.

    Args:
        case: The case to measure: its device and its timeout are used.
        me: The number of this rank, and the address where rank 0 is met.
        transport: A backend of torch.distributed: ``"gloo"`` or ``"nccl"``.
        make_session: Takes rank, number of ranks and device, and returns the session to yield.
    """
    import torch.distributed as dist

    device = use_device(case, me.local_rank)
    # A thread of NCCL's process group ends the process where another one of its threads hangs, after 8 minutes.
    os.environ["TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC"] = str(case.library_timeout_s)
    set_recorder_variables()
    timeout = timedelta(seconds=case.library_timeout_s)
    store = _serve_store(me, timeout) if hosts_store(me, os.environ) else _join_store(me, timeout, case.timeout_s)
    dist.init_process_group(transport, store=store, rank=me.rank, world_size=me.world, timeout=timeout)
    session = make_session(me.rank, me.world, device)
    # Freeing a group joins Gloo's threads while it holds the interpreter's lock, which such a thread may be waiting
    # for. The rank's process ends right afterwards: what is kept until then is never freed that way.
    _kept_alive.append((dist.group.WORLD, session))
    try:
        yield session
    finally:
        dist.destroy_process_group()


def hosts_store(me: RankInfo, env: Mapping[str, str]) -> bool:
    """Whether this rank serves the store where the ranks meet (pure): rank 0 does, unless torchrun's agent does."""
    return me.rank == 0 and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _serve_store(me: RankInfo, timeout: timedelta) -> Any:
    """torch's store on one interface; by itself it would listen on every interface."""
    from torch.distributed import PrefixStore, TCPStore

    host = bind_address(me.rendezvous_host, me.own_host)
    listener = listen_at(host, me.rendezvous_port)
    store = TCPStore(
        host,
        me.rendezvous_port,
        me.world,
        is_master=True,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return PrefixStore(STORE_PREFIX, store)


def _join_store(me: RankInfo, timeout: timedelta, connect_timeout_s: float) -> Any:
    from torch.distributed import PrefixStore, TCPStore

    wait_for_listener(me.rendezvous_host, me.rendezvous_port, connect_timeout_s)
    store = TCPStore(me.rendezvous_host, me.rendezvous_port, me.world, timeout=timeout, wait_for_workers=False)
    return PrefixStore(STORE_PREFIX, store)
