"""PyTorch fully_shard (FSDP2) over torch.distributed: gloo on CPU, NCCL on GPUs.

Each rank holds a shard of every parameter, gradient and optimizer state. Parameters are gathered for the forward and
backward passes; gradients are reduced and scattered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from bench.backends.torch_distributed import ProcessGroupSession, join_torch_distributed, process_group_roles
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.plugins.backend import Backend, Options, Session


class FsdpOptions(Options):
    units: Literal["blocks", "model"] = Field(
        "blocks", description="what is gathered at once: each block (child of the model, or of a ModuleList), or all"
    )
    reshard_after_forward: bool = Field(True, description="free gathered parameters after the forward pass")


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

    def parallelize(self, model: Any) -> Any:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.split(":")[0], (self.world,))
        for unit in (*(blocks_of(model) if self.options.units == "blocks" else ()), model):
            fully_shard(unit, mesh=mesh, reshard_after_forward=self.options.reshard_after_forward)
        self.model = model
        return model

    def full_tensor(self, parameter: Any) -> Any:
        return parameter.detach().full_tensor()

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


def blocks_of(model: Any) -> list[Any]:
    """The modules to shard one by one, inner ones first: children of the model, and members of every ModuleList."""
    from torch import nn

    candidates = [
        *(member for module in model.modules() if isinstance(module, nn.ModuleList) for member in module),
        *model.children(),
    ]
    # A container without a forward pass of its own can't gather anything; its parameters go with the whole model.
    return [
        module
        for module in dict.fromkeys(candidates)
        if type(module).forward is not nn.Module.forward and any(True for _ in module.parameters())
    ]


class Fsdp(Backend):
    name = "fsdp"
    summary = "PyTorch fully_shard (FSDP2): parameters, gradients and optimizer state are sharded"
    transports = {"cpu": ("gloo",), "cuda": ("nccl",)}  # noqa: RUF012 - declared read-only by the contract
    options = FsdpOptions

    def launch(self, case: Case) -> tuple[Role, ...]:
        return process_group_roles(case)

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        options = FsdpOptions(**case.backend_options)

        def make_session(rank: int, world: int, device: str) -> FsdpSession:
            return FsdpSession(rank, world, device, options, case.transport)

        with join_torch_distributed(case, me, case.transport, make_session) as session:
            yield session


BACKEND = Fsdp()
