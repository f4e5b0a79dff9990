"""DeepSpeed's ZeRO over torch.distributed: gloo on CPU, NCCL on GPUs.

Stage 1 shards the optimizer's state over the ranks, stage 2 the gradients too, stage 3 the parameters too. Training
calls ``loss.backward()`` and ``optimizer.step()``; DeepSpeed's engine, which is made with the optimizer, sees the
former by hooks of its own and takes the latter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from bench.backends.torch_distributed import ProcessGroupSession, join_torch_distributed, process_group_roles
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.plugins.backend import Backend, MakeOptimizer, Options, Session, set_environment

SHARED_MEMORY_ALLREDUCE = "deepspeed_shm_comm"
NEVER = 2**31


class DeepspeedOptions(Options):
    stage: int = Field(
        2, ge=1, le=3, description="of ZeRO, which shards optimizer state, 2: gradients, 3: parameters too"
    )
    overlap_comm: bool = Field(False, description="reduce gradients during the backward pass")
    reduce_bucket_size: int = Field(500_000_000, ge=1, description="elements of gradients that are reduced at once")


class DeepspeedSession(ProcessGroupSession):
    """A session whose models are trained by a DeepSpeed engine.

    Args:
        rank: Number of this rank.
        world: Number of ranks.
        device: ``"cpu"`` or ``"cuda:<n>"``.
        options: The options of :class:`Deepspeed`.
        transport: torch.distributed's backend.
    """

    no_sync_reason = (
        "DeepSpeed's engine exchanges what ZeRO shards in the passes and in the step, and takes none without it"
    )
    checkpoint_reason = "the state of a DeepSpeed engine is saved by its own save_checkpoint, which is not measured"

    def __init__(self, rank: int, world: int, device: str, options: DeepspeedOptions, transport: str) -> None:
        super().__init__(rank, world, device)
        self.options, self.transport = options, transport
        self.engine: Any = None

    def parallelize(self, model: Any) -> Any:
        from torch import nn

        session = self

        class EngineModel(nn.Module):
            """The model, called through the engine."""

            def __init__(self) -> None:
                super().__init__()
                self.module = model

            def forward(self, *inputs: Any, **named: Any) -> Any:
                return session.engine(*inputs, **named)

        return EngineModel()

    def build_optimizer(self, model: Any, make: MakeOptimizer) -> Any:
        import deepspeed
        from torch.optim import Optimizer

        session = self

        class EngineOptimizer(Optimizer):
            """Has the parameters and settings that a schedule changes and hooks look at; the engine takes the step."""

            def step(self, closure: Any = None) -> None:
                # ZeRO's optimizer has the same groups, of flat shards.
                for own, group in zip(self.param_groups, session.engine.optimizer.param_groups, strict=True):
                    group.update({name: value for name, value in own.items() if name != "params"})
                session.engine.step()

        optimizer = make(model.module.parameters())
        seen = EngineOptimizer([dict(group) for group in optimizer.param_groups], {})
        self.engine, *_ = deepspeed.initialize(
            model=model.module, optimizer=optimizer, config=self._config(), dist_init_required=False
        )
        return seen

    def _config(self) -> dict[str, Any]:
        return {
            # Batches are ours: the engine gets one backward pass after the other.
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # Else it clips to a norm of 1.
            "gradient_clipping": 0.0,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": NEVER,
            "zero_optimization": self.options.model_dump(),
        }

    def full_tensor(self, parameter: Any) -> Any:
        if not hasattr(parameter, "ds_id"):
            return parameter.detach()
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()

    def gradient(self, parameter: Any) -> Any:
        from deepspeed.utils import safe_get_full_grad

        return safe_get_full_grad(parameter)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        # From stage 2 on gradients are reduced after every pass, and added up in their shards.
        self.engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.engine.set_gradient_accumulation_boundary(True)

    def settings(self) -> dict[str, str]:
        return {"transport": self.transport, **{name: str(value) for name, value in self.options.model_dump().items()}}


class Deepspeed(Backend):
    name = "deepspeed"
    summary = "DeepSpeed's ZeRO: optimizer state, gradients and parameters are sharded"
    requires = ("torch", "deepspeed")
    packages = ("torch", "deepspeed")
    remedy = "run `python -m pip install deepspeed`"
    transports = {"cpu": ("gloo",), "cuda": ("nccl",)}  # noqa: RUF012 - declared read-only by the contract
    options = DeepspeedOptions
    unsupported_options = {  # noqa: RUF012 - declared read-only by the contract
        "compile": "DeepSpeed's engine calls the model itself",
        "cuda_graph": "DeepSpeed's engine exchanges during the passes",
    }

    def launch(self, case: Case) -> tuple[Role, ...]:
        return process_group_roles(case)

    def unsupported_reason(self, case: Case) -> str | None:
        options = case.workload_options
        if options.get("clip") is not None:
            return "deepspeed clips in its engine's step, where the same-work check can't look: leave clip out"
        if options.get("precision", "float32") in ("bf16", "fp16") or options.get("autocast", "off") != "off":
            return "deepspeed turns off a torch.autocast that is not its own: leave precision at float32"
        return super().unsupported_reason(case)

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        options = DeepspeedOptions(**case.backend_options)
        set_environment(
            {"RANK": str(me.rank), "WORLD_SIZE": str(me.world), "LOCAL_RANK": str(me.local_rank)}
            | ({"DS_ACCELERATOR": "cpu"} if case.device == "cpu" else {})
        )
        import deepspeed

        # It is compiled when it is first used, which takes a minute and leaves a lock behind if it is interrupted.
        deepspeed.ops.__compatible_ops__[SHARED_MEMORY_ALLREDUCE] = False
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)

        def make_session(rank: int, world: int, device: str) -> DeepspeedSession:
            return DeepspeedSession(rank, world, device, options, case.transport)

        with join_torch_distributed(case, me, case.transport, make_session) as session:
            yield session


BACKEND = Deepspeed()
