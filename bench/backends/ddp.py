"""PyTorch DistributedDataParallel over torch.distributed: gloo on CPU, NCCL on GPUs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

from pydantic import Field

from bench.backends import Backend, Options, Session
from bench.case import Case, Role
from bench.gradients import MIB, Grouping
from bench.identity import Identity
from bench.local import await_listener, where_to_listen

# The harness ends a trial that takes too long, and asks for stacks first; torch's own timeout must not come before.
HARNESS_FIRST_S = 60
# What torch 2.13 does where nothing is said (torch/nn/parallel/distributed.py, BucketCapacityConfig): a small first
# bucket lets the exchange begin early. A size that is named, 25 too, is that of every bucket.
DEFAULT_FIRST_MB, DEFAULT_MB = 1.0, 25.0
GROUP = "ranks"

_never_freed: list[Any] = []


class DdpOptions(Options):
    bucket_cap_mb: float | None = Field(
        None, gt=0, description="gradients are exchanged in buckets of this many MiB; else 25, the first one 1"
    )
    gradient_as_bucket_view: bool = Field(False, description="gradients are views of the buckets: one copy less")
    static_graph: bool = Field(False, description="promise DDP that every step uses the same parameters")


class ProcessGroupSession(Session):
    """A session over an initialised torch.distributed process group."""

    def __init__(self, rank: int, world: int, device: str, options: DdpOptions, transport: str) -> None:
        super().__init__(rank, world, device)
        self.options, self.transport = options, transport
        self.model: Any = None

    @property
    def grouping(self) -> Grouping:
        named = self.options.bucket_cap_mb
        first, most = (DEFAULT_FIRST_MB, DEFAULT_MB) if named is None else (named, named)
        return Grouping(first_bytes=int(first * MIB), most_bytes=int(most * MIB), laid_out=True)

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
    def unsynced(self) -> Iterator[None]:
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
def process_group(
    case: Case,
    me: Identity,
    transport: str,
    options: DdpOptions,
    kind: type[ProcessGroupSession] = ProcessGroupSession,
) -> Iterator[Session]:
    """Join ``MASTER_ADDR:MASTER_PORT``; the session is of this ``kind``."""
    import torch
    import torch.distributed as dist

    device = f"cuda:{me.local_rank}" if case.device == "cuda" else "cpu"
    if device != "cpu":
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=case.timeout_s + HARNESS_FIRST_S)
    store = _serve_store(me, timeout) if serves(me, os.environ) else _join_store(me, timeout, case.timeout_s)
    dist.init_process_group(transport, store=store, rank=me.rank, world_size=me.world, timeout=timeout)
    session = kind(me.rank, me.world, device, options, transport)
    # Freeing a group joins Gloo's threads while it holds the interpreter's lock, which such a thread may be waiting
    # for. A rank's process ends right afterwards: whatever lives until then is never freed that way.
    _never_freed.append((dist.group.WORLD, session))
    try:
        yield session
    finally:
        dist.destroy_process_group()


def serves(me: Identity, env: Mapping[str, str]) -> bool:
    """Whether the ranks meet at this one (pure): at rank 0, unless torchrun's agent serves them."""
    return me.rank == 0 and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _serve_store(me: Identity, timeout: timedelta) -> Any:
    """torch's store, which by itself would listen on every interface."""
    from torch.distributed import PrefixStore, TCPStore

    host = where_to_listen(me.meeting_host, me.own_host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, me.meeting_port), family=family)
    store = TCPStore(
        host, me.meeting_port, me.world, is_master=True, timeout=timeout, wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )  # fmt: skip
    return PrefixStore(GROUP, store)


def _join_store(me: Identity, timeout: timedelta, patience_s: float) -> Any:
    from torch.distributed import PrefixStore, TCPStore

    await_listener(me.meeting_host, me.meeting_port, patience_s)
    store = TCPStore(me.meeting_host, me.meeting_port, me.world, timeout=timeout, wait_for_workers=False)
    return PrefixStore(GROUP, store)


class Ddp(Backend):
    name = "ddp"
    summary = "PyTorch DistributedDataParallel"
    transports = {"cpu": ("gloo",), "cuda": ("nccl", "gloo")}  # noqa: RUF012 - declared read-only by the contract
    options = DdpOptions

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks),)

    @contextmanager
    def session(self, case: Case, me: Identity) -> Iterator[Session]:
        with process_group(case, me, case.transport, DdpOptions(**case.backend_options)) as joined:
            yield joined


BACKEND = Ddp()
