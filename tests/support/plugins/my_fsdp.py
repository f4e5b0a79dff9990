"""A backend in a user's own file: fully_shard (FSDP2) over the whole model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from bench.backends.torch_distributed import ProcessGroupSession, join_torch_distributed
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.plugins.backend import Backend, Options, Session


class MyOptions(Options):
    reshard_after_forward: bool = Field(True, description="free gathered parameters after the forward pass")


class MySession(ProcessGroupSession):
    no_sync_reason = "its parameters are gathered in every pass"
    reshard_after_forward = True

    def parallelize(self, model: Any) -> Any:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.split(":")[0], (self.world,))
        return fully_shard(model, mesh=mesh, reshard_after_forward=self.reshard_after_forward)

    def full_tensor(self, parameter: Any) -> Any:
        return parameter.detach().full_tensor()


class MyFsdp(Backend):
    name = "my_fsdp"
    summary = "fully_shard over the whole model"
    packages = ("torch", "typing-extensions")
    transports = {"cpu": ("gloo",), "cuda": ("nccl",)}  # noqa: RUF012
    options = MyOptions

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks),)

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        with join_torch_distributed(case, me, case.transport, MySession) as session:
            session.reshard_after_forward = MyOptions(**case.backend_options).reshard_after_forward
            yield session


BACKEND = MyFsdp()
