"""PyTorch DistributedDataParallel over torch.distributed: gloo on CPU, NCCL on GPUs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

from pydantic import Field

from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.core.records import MIB, GradientBuckets
from bench.host.network import bind_address, wait_for_listener
from bench.plugins.backend import Backend, Options, Session

# The harness ends a trial that takes too long, and asks for stacks first; torch's own timeout must not come before.
TORCH_TIMEOUT_MARGIN_S = 60
# What torch 2.13 does where nothing is said (torch/nn/parallel/distributed.py, BucketCapacityConfig): a small first
# bucket lets the exchange begin early. A size that is named, 25 too, is that of every bucket.
DEFAULT_FIRST_MB, DEFAULT_MB = 1.0, 25.0
STORE_PREFIX = "ranks"

_kept_alive: list[Any] = []


class DdpOptions(Options):
    bucket_cap_mb: float | None = Field(
        None, gt=0, description="gradients are exchanged in buckets of this many MiB; else 25, the first one 1"
    )
    gradient_as_bucket_view: bool = Field(False, description="gradients are views of the buckets: one copy less")
    static_graph: bool = Field(False, description="promise DDP that every step uses the same parameters")


class TorchDistributedSession(Session):
    """A session over an initialised torch.distributed process group."""

    def __init__(self, rank: int, world: int, device: str, options: DdpOptions, transport: str) -> None:
        super().__init__(rank, world, device)
        self.options, self.transport = options, transport
        self.model: Any = None

    @property
    def grouping(self) -> GradientBuckets:
        bucket_mb = self.options.bucket_cap_mb
        first_mb, max_mb = (DEFAULT_FIRST_MB, DEFAULT_MB) if bucket_mb is None else (bucket_mb, bucket_mb)
        return GradientBuckets(first_bytes=int(first_mb * MIB), most_bytes=int(max_mb * MIB), laid_out=True)

    def wrap(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        from torch.nn.parallel import DistributedDataParallel

        wrapped = DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device != "cpu" else None,
            bucket_cap_mb=self.options.bucket_cap_mb,
            gradient_as_bucket_view=self.options.gradient_as_bucket_view,
            static_graph=self.options.static_graph,
        )
        self.model = wrapped
        return wrapped, optimizer

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        # Before anything is wrapped there is nothing that could exchange.
        with self.model.no_sync() if self.model is not None else nullcontext():
            yield

    def all_reduce_sum(self, tensor: Any) -> Any:
        import torch.distributed as dist

        on_device = tensor.to(self.device)
        dist.all_reduce(on_device)
        return on_device

    def settings(self) -> dict[str, str]:
        options = {name: str(value) for name, value in self.options.model_dump().items()}
        if self.options.bucket_cap_mb is None:
            options["bucket_cap_mb"] = f"{DEFAULT_MB:g}, the first {DEFAULT_FIRST_MB:g} (torch's default)"
        return {"transport": self.transport, **options}


@contextmanager
def join_torch_distributed(
    case: Case,
    me: RankInfo,
    transport: str,
    options: DdpOptions,
    session_type: type[TorchDistributedSession] = TorchDistributedSession,
) -> Iterator[Session]:
    """Join ``MASTER_ADDR:MASTER_PORT``; the session is of this ``kind``."""
    import torch
    import torch.distributed as dist

    device = f"cuda:{me.local_rank}" if case.device == "cuda" else "cpu"
    if device != "cpu":
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=case.timeout_s + TORCH_TIMEOUT_MARGIN_S)
    store = _serve_store(me, timeout) if hosts_store(me, os.environ) else _join_store(me, timeout, case.timeout_s)
    dist.init_process_group(transport, store=store, rank=me.rank, world_size=me.world, timeout=timeout)
    session = session_type(me.rank, me.world, device, options, transport)
    # Freeing a group joins Gloo's threads while it holds the interpreter's lock, which such a thread may be waiting
    # for. A rank's process ends right afterwards: whatever lives until then is never freed that way.
    _kept_alive.append((dist.group.WORLD, session))
    try:
        yield session
    finally:
        dist.destroy_process_group()


def hosts_store(me: RankInfo, env: Mapping[str, str]) -> bool:
    """Whether the ranks meet at this one (pure): at rank 0, unless torchrun's agent serves them."""
    return me.rank == 0 and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _serve_store(me: RankInfo, timeout: timedelta) -> Any:
    """torch's store, which by itself would listen on every interface."""
    from torch.distributed import PrefixStore, TCPStore

    host = bind_address(me.rendezvous_host, me.own_host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, me.rendezvous_port), family=family)
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


class Ddp(Backend):
    name = "ddp"
    summary = "PyTorch DistributedDataParallel"
    transports = {"cpu": ("gloo",), "cuda": ("nccl", "gloo")}  # noqa: RUF012 - declared read-only by the contract
    options = DdpOptions

    def launch(self, case: Case) -> tuple[Role, ...]:
        by_nccl = case.transport == "nccl"
        return (Role(name="rank", count=case.ranks, launchers=("torchrun",), bypasses_network=by_nccl),)

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        with join_torch_distributed(case, me, case.transport, DdpOptions(**case.backend_options)) as session:
            yield session


BACKEND = Ddp()
