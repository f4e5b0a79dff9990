"""The contract of a backend: how the ranks of a case are started, and how they exchange gradients.

A backend is one file that defines ``BACKEND``, an instance of a subclass of :class:`Backend`. The file must be
importable without the framework: import frameworks inside :meth:`Backend.session`, the methods of the session and role
functions, which run in ranks only.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from bench.core.case import Case, Device, Role, Scalar
from bench.core.collectives import Collective
from bench.core.gradients import GradientBuckets, ShardedUnits
from bench.core.rank_info import RankInfo
from bench.core.same_work import Tolerance
from bench.host.installation import frameworks_remedy, is_installed

Shape2D = tuple[int, int]
MakeOptimizer = Callable[[Iterable[Any]], Any]
"""``make(parameters) → torch.optim.Optimizer``."""

FLOAT32_TOLERANCE = Tolerance(value=1e-3, label="float32")


ROUNDING = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 0.0)}
"""Of a floating-point type: the largest error of a rounding, relative and of numbers that are too small for that."""


def rounding_tolerance(dtype: str, ranks: int) -> Tolerance:
    """The bound of an exchange that adds gradients as numbers of a type in :data:`ROUNDING` (pure).

    Each rank rounds its gradient, each of ``ranks`` − 1 additions rounds a sum of at most ``ranks`` times the mean
    size, and the mean is rounded, or each gradient after its division: ``ranks`` + 1 roundings of the mean size of the
    ranks' gradients, or of numbers that are too small.
    """
    relative, absolute = ROUNDING[dtype]
    return Tolerance(value=(ranks + 1) * relative, absolute=(ranks + 1) * absolute, label=f"{dtype} gradients")


class Options(BaseModel):
    """The options of a plugin. Every field has a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    execution: ClassVar[Mapping[str, Scalar | None]] = {}
    """Fields of a workload's options that change how its operations are executed and not what they compute, each with
    the value that changes nothing. The reference of the same-work check is built with these values."""
    always_named: ClassVar[frozenset[str]] = frozenset()
    """Fields whose value is a part of a case though it is the default: a user's file may give another default than the
    field has elsewhere."""

    def unsupported_reason(self, case: Case) -> str | None:
        """Why a case with these options can't run on any machine, in one line; ``None`` where it can. Pure.

        Called of a workload's options.
        """
        return None

    def unavailable_reason(self, case: Case) -> str | None:
        """Why a case with these options can't run on this machine, in one line with the remedy; ``None`` where it can.

        Called of a workload's options. Loads no framework.
        """
        return None


class Session:
    """One rank's membership in the group of ranks, for the length of a case. This base class is a group of one.

    A training workload calls, in this order and on every rank: :meth:`parallelize` once, :meth:`build_optimizer` once,
    then for each step ``loss.backward()`` and ``optimizer.step()``, which must update every rank by the mean of all
    ranks' gradients. With gradient accumulation, all backward passes of a step but the last are inside :meth:`no_sync`;
    what changes gradients before the update, such as clipping, is inside :meth:`exchanged_gradients`.

    Args:
        rank: Number of this rank, from 0.
        world: Number of ranks.
        device: A torch device: ``"cpu"`` or ``"cuda:<n>"``.
    """

    no_sync_reason: str | None = None
    """Why a step of this session can't be taken without communication, in one sentence; ``None`` where :meth:`no_sync`
    does that. With a reason, the decomposition of the step is reported as not measured, and :meth:`no_sync` is used for
    gradient accumulation alone."""

    host_wait_reason: str | None = None
    """Why the exchange of a step waits on the host for the device, in one sentence, so that no step can be enqueued
    ahead of it; ``None`` where it happens on the device. See :mod:`bench.rank.device_busy`."""

    checkpoint_reason: str | None = None
    """Why the state of model and optimizer can't be saved as :mod:`bench.rank.checkpoint` does, in one sentence."""

    def __init__(self, rank: int = 0, world: int = 1, device: str = "cpu") -> None:
        self.rank, self.world, self.device = rank, world, device

    @property
    def unused_parameters_remedy(self) -> str | None:
        """What lets a step leave trained parameters without a gradient, as the end of a sentence, where its exchange
        waits for all of them; ``None`` where it does not."""
        return None

    @property
    def grouping(self) -> GradientBuckets | None:
        """How gradients are grouped into messages; ``None`` where nothing is exchanged or the grouping is unknown."""
        return None

    @property
    def sharded_units(self) -> ShardedUnits | None:
        """How the parallel model is sharded; ``None`` where each rank holds it whole, or that is unknown."""
        return None

    def parallelize(self, model: Any) -> Any:
        """Prepare a model for training by all ranks.

        Args:
            model: A ``torch.nn.Module`` on :attr:`device`, with the same parameters on every rank.

        Returns:
            The module to call in the forward pass: the model itself, changed in place or not, or a wrapper around it.
            Its ``parameters()`` correspond to the model's, in order.
        """
        return model

    def compiled_modules(self, model: Any) -> list[Any]:
        """The modules of a model, before it is parallel, that are compiled where that is asked for: the model itself,
        unless this session does something between its blocks, which a compiled graph can't hold.

        Args:
            model: The model, on :attr:`device`.
        """
        return [model]

    def build_optimizer(self, model: Any, make: MakeOptimizer) -> Any:
        """Make the optimizer of a parallel model.

        Args:
            model: What :meth:`parallelize` returned.
            make: Takes an iterable of parameters and returns a ``torch.optim.Optimizer`` over them.

        Returns:
            A ``torch.optim.Optimizer``, or an object around one, which it has as ``optimizer``, with ``step``,
            ``zero_grad``, ``state_dict`` and ``load_state_dict``.
        """
        return make(model.parameters())

    def full_tensor(self, parameter: Any) -> Any:
        """The whole value of a parameter of the parallel model, wherever its shards are. Called on every rank.

        Args:
            parameter: One of the parameters of what :meth:`parallelize` returned, or the gradient of one.

        Returns:
            A detached tensor of the parameter's whole shape, on any device. It may share memory with the parameter.
        """
        return parameter.detach()

    def gradient(self, parameter: Any) -> Any:
        """The mean gradient of a parameter, or its shard, just before the optimizer's update. Called on every rank.

        Args:
            parameter: One of the parameters of what :meth:`parallelize` returned.

        Returns:
            A tensor that :meth:`full_tensor` takes; ``None`` where a step does not use the parameter.
        """
        return parameter.grad

    def withheld_gradient(self, parameter: Any) -> Any:
        """What this rank's exchange has kept back of a parameter's gradients, to send it in a later step.

        So does a lossy exchange with error feedback: the mean gradient of a step is the exchanged one and the growth of
        the ranks' mean of what they keep back, which the same-work check uses.

        Args:
            parameter: One of the parameters of what :meth:`parallelize` returned.

        Returns:
            A tensor of the parameter's shape; ``None`` where nothing is kept back, then on all ranks.
        """
        return None

    def saved_state(self, model: Any, optimizer: Any) -> dict[str, Any]:
        """The state of model and optimizer as this rank holds it, to be saved by ``torch.distributed.checkpoint``.

        Args:
            model: What :meth:`parallelize` returned.
            optimizer: What :meth:`build_optimizer` returned.

        Returns:
            Tensors by name, also nested; shards are ``DTensor``, or have names that no other rank uses.
        """
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    def whole_state(self, model: Any, optimizer: Any) -> dict[str, Any]:
        """The same without shards on rank 0; on other ranks anything. Called on every rank."""
        return self.saved_state(model, optimizer)

    def checkpoint_group(self) -> Any:
        """A process group of torch.distributed for what the ranks exchange to save a checkpoint, beside training.

        Called on every rank. ``None`` where the ranks form no such group.
        """
        return None

    def all_reduce_sum(self, tensor: Any) -> Any:
        """The element-wise sum of a tensor over the ranks.

        Args:
            tensor: Of any shape and numeric type, the same on every rank; on any device.

        Returns:
            A tensor of the same shape and type. It may be ``tensor`` itself, changed in place.
        """
        return tensor

    def prepare_collective(self, operation: Collective, send: Any, receive: Any) -> Callable[[], Any]:
        """Prepare a collective operation for timing: what can be done once is done here. Called on every rank.

        Args:
            operation: One that the backend names (:meth:`Backend.collectives`).
            send: What this rank hands in: a flat, contiguous tensor on :attr:`device`, of
                :func:`bench.core.collectives.buffer_elements` elements, the same number on every rank. Sums are taken
                element by element; the root of a broadcast is rank 0; each rank sends to the next one (``send_recv``).
            receive: Where the result goes. In place it shares memory with ``send``: it is the same tensor, or of
                ``all_gather`` and ``reduce_scatter`` the whole, and the rank's own part of it.

        Returns:
            A function that performs the operation once for each call, and returns when the result can be used (on a
            GPU: on the current stream). It returns the result where that is a tensor that the library makes, else
            ``None``.
        """
        if operation != "all_reduce":
            raise NotImplementedError(f"{type(self).__name__} has no {operation}")
        return lambda: self.all_reduce_sum(send)

    def barrier(self) -> None:
        """Return once every rank has called it."""
        if self.world > 1:
            import torch

            # Reading the value waits for it, also where the exchange itself is asynchronous.
            float(self.all_reduce_sum(torch.zeros(1)))

    def largest(self, value: float) -> float:
        """The largest of the ranks' values, on every rank."""
        import torch

        slots = torch.zeros(self.world, dtype=torch.float64)
        slots[self.rank] = value
        return float(self.all_reduce_sum(slots).max())

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Backward passes inside this context add to the gradients and exchange none; the first one after it exchanges
        what has accumulated. Optimizer steps inside it use the rank's own gradients; the caller then restores the
        parameters. It may be entered again inside itself.

        A session that can't do without the exchange may exchange each pass: the sum is the same.
        """
        yield

    @contextmanager
    def exchanged_gradients(self) -> Iterator[None]:
        """Inside this context each parameter's gradient is the mean over the ranks (inside :meth:`no_sync` it is the
        rank's own), and ``optimizer.step()`` exchanges nothing more.

        To be overridden by sessions whose exchange ends in ``optimizer.step()``.
        """
        yield

    def blocks_mean(self, grid_shape: Shape2D, block_shape: Shape2D, make_block: Callable[[int, int], Any]) -> float:
        """The mean of an array that consists of a grid of blocks.

        Each rank sums every ``world``-th block, holding one block at a time; one reduction adds the sums.

        Args:
            grid_shape: Rows and columns of blocks.
            block_shape: Rows and columns of elements in a block.
            make_block: ``make_block(row, column)`` returns the block at that place of the grid.
        """
        import torch

        total = 0.0
        for block_index in range(self.rank, grid_shape[0] * grid_shape[1], self.world):
            total += float(make_block(*divmod(block_index, grid_shape[1])).sum())
        total_sum = self.all_reduce_sum(torch.tensor([total], dtype=torch.float64))
        return float(total_sum[0]) / (grid_shape[0] * grid_shape[1] * block_shape[0] * block_shape[1])

    def settings(self) -> dict[str, str]:
        """The settings in force in this session, by name: versions, and options with their defaults spelled out."""
        return {}


class Backend(ABC):
    """Declares a backend and starts its sessions.

    Subclasses define :attr:`name`, :attr:`summary`, :attr:`transports`, :meth:`launch` and :meth:`session`.
    """

    name: str
    summary: str
    requires: tuple[str, ...] = ("torch",)
    """Importable modules without which it can't run."""
    packages: tuple[str, ...] = ("torch",)
    """Distributions whose versions are recorded in the environment. Results are compared only where they are equal."""
    preload: tuple[str, ...] = ()
    """Modules that its ranks import, beside torch. They are loaded once, by the process that ranks are forked from."""
    remedy: str | None = None
    """How to install what :attr:`requires` names beside torch; ``None``: the extra ``frameworks`` has all of it."""
    transports: Mapping[Device, tuple[str, ...]]
    """The names of its transports for each device; the first one is the default."""
    options: type[Options] = Options
    starts_programs: bool = False
    """Whether it starts a user's programs, as a launcher does, instead of running workloads in sessions."""
    unsupported_options: Mapping[str, str] = {}
    """Options of a workload's :attr:`Options.execution` that its sessions can't take, each with the reason."""
    machinery: Mapping[str, str] = {}
    """For each kind of workload that it runs by other means than the other backends do, a sentence that says how."""

    def unsupported_reason(self, case: Case) -> str | None:
        """Why this backend can't run the case on any machine, in one line; ``None`` where it can. Pure."""
        supported = self.transports.get(case.device, ())
        if not supported:
            return f"{self.name} does not run on {case.device}"
        if case.transport not in supported:
            return f"{self.name} has no transport '{case.transport}' on {case.device} ({', '.join(supported)})"
        return None

    def unavailable_reason(self, case: Case) -> str | None:
        """Why it can't run the case on this machine, in one line with the remedy; ``None`` where it can.

        Loads no framework.
        """
        missing = [module for module in self.requires if not is_installed(module)]
        if not missing:
            return None
        steps = [frameworks_remedy()] if self.remedy is None or "torch" in missing else []
        return f"{', '.join(missing)} not installed: {', then '.join([*steps, *filter(None, [self.remedy])])}"

    @abstractmethod
    def launch(self, case: Case) -> tuple[Role, ...]:
        """The processes that the case needs, as values (pure). One role is usually named ``rank``.

        Roles that another role starts are named too (``started_by``): a site that keeps the backend's services itself
        starts these instead (:func:`bench.core.case.roles_to_start`).
        """

    @abstractmethod
    def session(self, case: Case, me: RankInfo) -> AbstractContextManager[Session]:
        """Join the other ranks on entry, leave them on exit. Runs in a rank.

        Args:
            case: The case to measure.
            me: The number of this rank, and the address where rank 0 is met.
        """

    def program_environment(self, case: Case, me: RankInfo) -> AbstractContextManager[Mapping[str, str | None]]:
        """The environment variables of a rank that runs a user's program, and what they refer to while it runs.

        For backends that :attr:`starts_programs`. Runs in the rank's process, before the program; it must load no
        framework, since the program may set variables that a framework reads when it is imported.

        Args:
            case: A case with a program.
            me: The number of this rank, and the address where rank 0 is met.

        Returns:
            A context that gives variables by name; those that are ``None`` are to be unset.
        """
        raise NotImplementedError(f"{self.name} starts no programs")

    def tolerance(self, case: Case) -> Tolerance:
        """How far exchanged gradients may deviate from a single process's: an exchange that rounds states its bound.

        See :mod:`bench.rank.training_proof` for what it is relative to.
        """
        return FLOAT32_TOLERANCE

    def reference_session(self, case: Case, device: str) -> Session:
        """A group of one rank, in which the reference of the same-work check is built.

        A backend that computes in other types than the workload asks for returns one whose model does so too.

        Args:
            case: The case to measure.
            device: A torch device: that of rank 0.
        """
        return Session(device=device)

    def collectives(self, case: Case) -> Mapping[Collective, tuple[bool, ...] | str]:
        """The collective operations of its sessions (:meth:`Session.prepare_collective`). Pure.

        Returns:
            By operation, whether the result can be in place: ``True``, ``False`` or both, the library's own way first;
            or why there is no such operation, in one line. An operation may be missing.
        """
        return {"all_reduce": (True,)}

    def role(self, name: str) -> Callable[[Case, RankInfo, Path], None] | None:
        """The function that a process of a role other than ``rank`` runs, or ``None`` for an unknown role.

        The function takes the case, the number and address of the process, and the trial's folder.
        """
        return None


def set_environment(variables: Mapping[str, str | None]) -> None:
    """Set variables of this process's environment; those that are ``None`` are unset."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


__all__ = [
    "FLOAT32_TOLERANCE",
    "Backend",
    "MakeOptimizer",
    "Options",
    "Session",
    "Shape2D",
    "rounding_tolerance",
    "set_environment",
]
