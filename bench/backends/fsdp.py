"""PyTorch fully_shard (FSDP2) over torch.distributed: gloo on CPU, NCCL on GPUs.

Each rank holds a shard of every parameter, gradient and optimizer state. Parameters are gathered for the forward and
backward passes; gradients are reduced and scattered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from bench.backends.fsdp_precision import DTYPES, ReferenceSession
from bench.backends.torch_distributed import (
    PROCESS_GROUP_COLLECTIVES,
    ProcessGroupSession,
    join_torch_distributed,
    process_group_roles,
)
from bench.core.case import Case, Role
from bench.core.collectives import Collective
from bench.core.gradients import ShardedUnits
from bench.core.rank_info import RankInfo
from bench.core.same_work import Tolerance
from bench.plugins.backend import FLOAT32_TOLERANCE, Backend, Options, Session, rounding_tolerance
from bench.rank.blocks import blocks_of, innermost


class FsdpOptions(Options):
    units: Literal["blocks", "model"] = Field(
        "blocks", description="what is gathered at once: each block (child of the model, or of a ModuleList), or all"
    )
    reshard_after_forward: bool = Field(True, description="free gathered parameters after the forward pass")
    param_dtype: Literal["float32", "bf16"] = Field(
        "float32", description="what parameters are gathered as, and forward and backward passes compute in"
    )
    reduce_dtype: Literal["float32", "bf16", "fp16"] = Field("float32", description="what gradients are reduced as")
    cpu_offload: bool = Field(
        False, description="parameters, gradients and optimizer state are kept in the host's memory: cuda only"
    )

    @property
    def mixed_precision(self) -> bool:
        return (self.param_dtype, self.reduce_dtype) != ("float32", "float32")


class FsdpSession(ProcessGroupSession):
    """A session whose models are sharded by ``torch.distributed.fsdp.fully_shard``.

    Args:
        rank: Number of this rank.
        world: Number of ranks.
        device: ``"cpu"`` or ``"cuda:<n>"``.
        options: The options of :class:`Fsdp`.
        transport: torch.distributed's backend.
    """

    no_sync_reason = (
        "a sharded model gathers its parameters in every forward and backward pass, so that a step can't be taken "
        "without communication"
    )

    def __init__(self, rank: int, world: int, device: str, options: FsdpOptions, transport: str) -> None:
        super().__init__(rank, world, device)
        self.options, self.transport = options, transport
        self.model: Any = None
        self.unit_bytes: tuple[int, ...] = ()

    @property
    def sharded_units(self) -> ShardedUnits | None:
        if not self.unit_bytes:
            return None
        return ShardedUnits(
            unit_bytes=self.unit_bytes,
            gathered_again=self.options.reshard_after_forward,
            # On CPUs torch 2.13 waits for each collective operation before it goes on.
            overlaps=self.device != "cpu",
            gather_share=0.5 if self.options.param_dtype != "float32" else 1.0,
            reduce_share=0.5 if self.options.reduce_dtype != "float32" else 1.0,
        )

    def parallelize(self, model: Any) -> Any:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

        self.unit_bytes = unit_sizes(self._units(model))
        mesh = init_device_mesh(self.device.split(":")[0], (self.world,))
        offload = CPUOffloadPolicy() if self.options.cpu_offload else OffloadPolicy()
        for unit in self._units(model):
            fully_shard(
                unit,
                mesh=mesh,
                reshard_after_forward=self.options.reshard_after_forward,
                mp_policy=self._precision(whole=unit is model),
                offload_policy=offload,
            )
        self.model = model
        return model

    def _units(self, model: Any) -> tuple[Any, ...]:
        return (*(blocks_of(model) if self.options.units == "blocks" else ()), model)

    def _precision(self, *, whole: bool) -> Any:
        """The policy of a unit. The output of the whole model is float32 again, so that its loss is no rounded one."""
        import torch
        from torch.distributed.fsdp import MixedPrecisionPolicy

        if not self.options.mixed_precision:
            return MixedPrecisionPolicy()
        return MixedPrecisionPolicy(
            param_dtype=getattr(torch, DTYPES[self.options.param_dtype]),
            reduce_dtype=getattr(torch, DTYPES[self.options.reduce_dtype]),
            output_dtype=torch.float32 if whole else None,
        )

    def compiled_modules(self, model: Any) -> list[Any]:
        return innermost(blocks_of(model)) if self.options.units == "blocks" else [model]

    def full_tensor(self, parameter: Any) -> Any:
        # NCCL gathers on the device only, and offloaded shards are in the host's memory.
        return parameter.detach().to(self.device).full_tensor()

    def whole_state(self, model: Any, optimizer: Any) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        model_state, optimizer_state = get_state_dict(model, optimizer, options=whole)
        return {"model": model_state, "optimizer": optimizer_state}

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        # Parameters are gathered all the same; whole gradients are kept instead of their shards.
        self.model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.model.set_requires_gradient_sync(True)

    def settings(self) -> dict[str, str]:
        return {"transport": self.transport, **{name: str(value) for name, value in self.options.model_dump().items()}}


def unit_sizes(units: Sequence[Any]) -> tuple[int, ...]:
    """The bytes of the parameters of each unit that has any, without those of units before it: inner ones come first.

    The last unit, the whole model, has the rest.
    """
    seen: set[Any] = set()
    sizes = []
    for unit in units:
        own = [parameter for parameter in unit.parameters() if parameter not in seen]
        seen.update(own)
        sizes.append(sum(parameter.numel() * parameter.element_size() for parameter in own))
    return tuple(size for size in sizes if size)


class Fsdp(Backend):
    name = "fsdp"
    summary = "PyTorch fully_shard (FSDP2): parameters, gradients and optimizer state are sharded"
    transports = {"cpu": ("gloo",), "cuda": ("nccl",)}  # noqa: RUF012 - declared read-only by the contract
    options = FsdpOptions
    unsupported_options = {  # noqa: RUF012 - declared read-only by the contract
        "channels_last": "fully_shard takes contiguous parameters only",
        "cuda_graph": "a graph replays the addresses of its parameters, and those of a sharded model are gathered anew",
    }

    def launch(self, case: Case) -> tuple[Role, ...]:
        return process_group_roles(case)

    def unsupported_reason(self, case: Case) -> str | None:
        options = FsdpOptions(**case.backend_options)
        if case.device == "cpu" and options.cpu_offload:
            return "fsdp.cpu_offload=true is for GPUs: on CPUs the parameters are in the host's memory already"
        if options.param_dtype == "bf16" and case.workload_options.get("precision") == "fp16":
            return "fsdp.param_dtype=bf16 and precision=fp16 cast to two types: choose one of them"
        return super().unsupported_reason(case)

    def tolerance(self, case: Case) -> Tolerance:
        dtype = FsdpOptions(**case.backend_options).reduce_dtype
        if dtype == "float32":
            return FLOAT32_TOLERANCE
        # The backward passes of a step add up in the type of the reduction too.
        passes = int(case.workload_options.get("accumulate", 1))
        return rounding_tolerance(DTYPES[dtype], case.ranks + passes - 1)

    def reference_session(self, case: Case, device: str) -> Session:
        options = FsdpOptions(**case.backend_options)
        if options.param_dtype == "float32":
            return super().reference_session(case, device)
        return ReferenceSession(device, DTYPES[options.param_dtype], by_blocks=options.units == "blocks")

    def collectives(self, case: Case) -> Mapping[Collective, tuple[bool, ...] | str]:
        return PROCESS_GROUP_COLLECTIVES

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        options = FsdpOptions(**case.backend_options)

        def make_session(rank: int, world: int, device: str) -> FsdpSession:
            return FsdpSession(rank, world, device, options, case.transport)

        # The norm of offloaded gradients is summed over the ranks in the host's memory, which NCCL can't do.
        transport = "cpu:gloo,cuda:nccl" if options.cpu_offload else case.transport
        with join_torch_distributed(case, me, transport, make_session) as session:
            yield session


BACKEND = Fsdp()
