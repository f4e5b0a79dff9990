"""PyTorch DistributedDataParallel over torch.distributed: gloo on CPU, NCCL on GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

from pydantic import Field

from bench.backends.ddp_compression import DTYPES, Compression, PowerSgd, compress
from bench.backends.ddp_sharding import shard_optimizer
from bench.backends.torch_distributed import (
    PROCESS_GROUP_COLLECTIVES,
    ProcessGroupSession,
    join_torch_distributed,
    process_group_roles,
)
from bench.core.case import Case, Role
from bench.core.collectives import Collective
from bench.core.gradients import GradientBuckets
from bench.core.rank_info import RankInfo
from bench.core.records import MIB
from bench.core.same_work import Tolerance
from bench.plugins.backend import FLOAT32_TOLERANCE, Backend, MakeOptimizer, Options, Session, rounding_tolerance

# torch 2.13's defaults (torch/nn/parallel/distributed.py, BucketCapacityConfig): a small first bucket lets the exchange
# begin early. A size that is given, 25 included, is that of every bucket.
DEFAULT_FIRST_MB, DEFAULT_MB = 1.0, 25.0


class DdpOptions(Options):
    bucket_cap_mb: float | None = Field(
        None, gt=0, description="gradients are exchanged in buckets of this many MiB; else 25, the first one 1"
    )
    gradient_as_bucket_view: bool = Field(False, description="gradients are views of the buckets: one copy less")
    static_graph: bool = Field(False, description="promise DDP that every step uses the same parameters")
    find_unused_parameters: bool = Field(
        False, description="find the parameters that a step does not use; else a step that leaves one out fails"
    )
    compression: Compression = Field("none", description="send gradients as they are, rounded, or by PowerSGD")
    powersgd_rank: int = Field(1, ge=1, description="powersgd: the rank of the matrices that approximate a gradient")
    optimizer_sharding: Literal["none", "zero"] = Field(
        "none", description="zero: each rank keeps the state of some parameters, and broadcasts them (ZeRO stage 1)"
    )


class DdpSession(ProcessGroupSession):
    """A session whose models are wrapped in DistributedDataParallel.

    Args:
        rank: Number of this rank.
        world: Number of ranks.
        device: ``"cpu"`` or ``"cuda:<n>"``.
        options: The options of :class:`Ddp`.
        transport: torch.distributed's backend.
    """

    unused_option = "ddp.find_unused_parameters"
    """The option that lets a step leave parameters out."""

    def __init__(self, rank: int, world: int, device: str, options: DdpOptions, transport: str) -> None:
        super().__init__(rank, world, device)
        self.options, self.transport = options, transport
        self.model: Any = None
        self.power_sgd: PowerSgd | None = None
        self.exchanging = True
        if device != "cpu" and transport != "nccl":
            self.host_wait_reason = f"{transport} exchanges in the host's memory: a step waits there for the device"

    @property
    def grouping(self) -> GradientBuckets | None:
        # With a sharded optimizer, parameters are sent beside the gradients.
        if self.options.compression == "powersgd" or self.options.optimizer_sharding != "none":
            return None
        bucket_mb = self.options.bucket_cap_mb
        first_mb, max_mb = (DEFAULT_FIRST_MB, DEFAULT_MB) if bucket_mb is None else (bucket_mb, bucket_mb)
        share = 1.0 if self.options.compression == "none" else 0.5
        return GradientBuckets(
            first_bytes=int(first_mb * MIB), most_bytes=int(max_mb * MIB), laid_out=True, share=share
        )

    @property
    def unused_parameters_remedy(self) -> str | None:
        return None if self.options.find_unused_parameters else f"--set {self.unused_option}=true"

    def parallelize(self, model: Any) -> Any:
        from torch.nn.parallel import DistributedDataParallel

        self.model = DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device != "cpu" else None,
            bucket_cap_mb=self.options.bucket_cap_mb,
            gradient_as_bucket_view=self.options.gradient_as_bucket_view,
            static_graph=self.options.static_graph,
            find_unused_parameters=self.options.find_unused_parameters,
        )
        self.power_sgd = compress(self.model, self.options.compression, self.options.powersgd_rank)
        return self.model

    def build_optimizer(self, model: Any, make: MakeOptimizer) -> Any:
        if self.options.optimizer_sharding == "none":
            return super().build_optimizer(model, make)
        return shard_optimizer(model, make, lambda: self.exchanging)

    def saved_state(self, model: Any, optimizer: Any) -> dict[str, Any]:
        if self.options.optimizer_sharding == "none":
            return super().saved_state(model, optimizer)
        # Each rank numbers the parameters of its share from 0.
        return {"model": model.state_dict(), "optimizer": {f"rank {self.rank}": optimizer.state_dict()}}

    def whole_state(self, model: Any, optimizer: Any) -> dict[str, Any]:
        if self.options.optimizer_sharding == "none":
            return super().whole_state(model, optimizer)
        optimizer.consolidate_state_dict(to=0)
        return {"model": model.state_dict(), "optimizer": optimizer.whole_state_dict() if self.rank == 0 else {}}

    def withheld_gradient(self, parameter: Any) -> Any:
        return self.power_sgd.withheld(parameter) if self.power_sgd else None

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        before, self.exchanging = self.exchanging, False
        try:
            # Without a parallel model no step communicates.
            with self.model.no_sync() if self.model is not None else nullcontext():
                yield
        finally:
            self.exchanging = before

    def settings(self) -> dict[str, str]:
        options = {name: str(value) for name, value in self.options.model_dump().items()}
        if self.options.bucket_cap_mb is None:
            options["bucket_cap_mb"] = f"{DEFAULT_MB:g}, the first {DEFAULT_FIRST_MB:g} (torch's default)"
        return {"transport": self.transport, **options}


class Ddp(Backend):
    name = "ddp"
    summary = "PyTorch DistributedDataParallel"
    transports = {"cpu": ("gloo",), "cuda": ("nccl", "gloo")}  # noqa: RUF012 - declared read-only by the contract
    options = DdpOptions

    def launch(self, case: Case) -> tuple[Role, ...]:
        return process_group_roles(case)

    def collectives(self, case: Case) -> Mapping[Collective, tuple[bool, ...] | str]:
        return PROCESS_GROUP_COLLECTIVES

    def unsupported_reason(self, case: Case) -> str | None:
        refused = _graph_refused(case) if case.workload_options.get("cuda_graph") else None
        return super().unsupported_reason(case) or refused

    def tolerance(self, case: Case) -> Tolerance:
        compression = DdpOptions(**case.backend_options).compression
        if compression == "powersgd":
            return Tolerance(value=FLOAT32_TOLERANCE.value, label="float32, with what PowerSGD sends later")
        return rounding_tolerance(DTYPES[compression], case.ranks) if compression in DTYPES else FLOAT32_TOLERANCE

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        options = DdpOptions(**case.backend_options)

        def make_session(rank: int, world: int, device: str) -> DdpSession:
            return DdpSession(rank, world, device, options, case.transport)

        with join_torch_distributed(case, me, case.transport, make_session) as session, named_unused_parameters():
            yield session


def _graph_refused(case: Case) -> str | None:
    """Why a step can't be captured as a CUDA graph with its exchange, or ``None``."""
    options = DdpOptions(**case.backend_options)
    if case.transport != "nccl":
        return f"cuda_graph captures the exchange, and {case.transport}'s is on the host: --set ddp.transport=nccl"
    reasons = {
        "ddp.compression is a function that the host calls in each backward pass": options.compression != "none",
        "ddp.optimizer_sharding=zero decides on the host what each rank updates": options.optimizer_sharding != "none",
        "ddp.find_unused_parameters copies to the host what each step used": options.find_unused_parameters,
    }
    reason = next((reason for reason, applies in reasons.items() if applies), None)
    return f"cuda_graph can't capture the exchange: {reason}" if reason else None


@contextmanager
def named_unused_parameters(option: str = DdpSession.unused_option) -> Iterator[None]:
    """Replace DDP's error about a parameter without a gradient, several lines long, by one with our option's name."""
    try:
        yield
    except RuntimeError as problem:
        if "find_unused_parameters" not in str(problem):
            raise
        raise RuntimeError(
            "a step used only some of the model's parameters, and DDP waits for the gradients of all: "
            f"--set {option}=true"
        ) from problem


BACKEND = Ddp()
