"""The contract of a backend: what carries the gradients between ranks.

A new backend is one new file in this folder that defines ``BACKEND``, an instance of :class:`Backend`. The class
is importable without the framework; frameworks are imported inside :meth:`Backend.session` and the role
functions, which run in ranks only.
"""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.core.case import Case, Device, Role
from bench.core.rank_info import RankInfo
from bench.core.records import GradientBuckets, Tolerance

Shape2D = tuple[int, int]

FLOAT32_TOLERANCE = Tolerance(value=1e-3, label="float32")


class Options(BaseModel):
    """The knobs of a backend or a workload. Every field has a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Session:
    """A rank's view of the others while a case runs. This base is the session of one rank alone."""

    def __init__(self, rank: int = 0, world: int = 1, device: str = "cpu") -> None:
        self.rank, self.world, self.device = rank, world, device

    @property
    def grouping(self) -> GradientBuckets | None:
        """How it puts gradients together for the exchange; ``None`` where that is not known, or there is none."""
        return None

    def wrap(self, model: Any, optimizer: Any) -> tuple[Any, Any]:
        """Make ``loss.backward(); optimizer.step()`` exchange gradients, so that every rank steps by their mean.

        The optimizer is new, without a state, and has the same settings on every rank.
        """
        return model, optimizer

    def all_reduce_sum(self, tensor: Any) -> Any:
        """The element-wise sum over the ranks, of any shape; may be ``tensor`` itself, changed in place."""
        return tensor

    def barrier(self) -> None:
        """Return when every rank has come here."""
        if self.world > 1:
            import torch

            # Reading the value waits for it, also where the exchange itself is asynchronous.
            float(self.all_reduce_sum(torch.zeros(1)))

    def largest(self, value: float) -> float:
        """The largest of the ranks' values, known to all of them."""
        import torch

        slots = torch.zeros(self.world, dtype=torch.float64)
        slots[self.rank] = value
        return float(self.all_reduce_sum(slots).max())

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Training steps inside exchange nothing; the caller puts the parameters back afterwards."""
        yield

    def blocks_mean(self, grid_shape: Shape2D, block_shape: Shape2D, make_block: Callable[[int, int], Any]) -> float:
        """The mean of an array of ``blocks`` rows × columns of blocks, each ``side`` elements, made by ``make_block``.

        Each rank sums every ``world``-th block and one reduction adds the sums; one block at a time is held.
        """
        import torch

        total = 0.0
        for block_index in range(self.rank, grid_shape[0] * grid_shape[1], self.world):
            total += float(make_block(*divmod(block_index, grid_shape[1])).sum())
        total_sum = self.all_reduce_sum(torch.tensor([total], dtype=torch.float64))
        return float(total_sum[0]) / (grid_shape[0] * grid_shape[1] * block_shape[0] * block_shape[1])

    def settings(self) -> dict[str, str]:
        """What was in force in this session: versions and knobs, defaults spelled out."""
        return {}


class Backend(ABC):
    """What a backend declares, and the thin functions that run it."""

    name: str
    summary: str
    requires: tuple[str, ...] = ("torch",)
    """Importable modules without which it can't run."""
    preload: tuple[str, ...] = ()
    """What its ranks import, loaded once by the parent they are forked from, beside torch."""
    remedy: str = 'pip install "scaling-harness[frameworks]"'
    transports: Mapping[Device, tuple[str, ...]]
    """By device; the first one is the default."""
    options: type[Options] = Options
    machinery: Mapping[str, str] = {}
    """Workload kinds that it runs by other means than the rest, with a sentence that says which."""

    def unsupported_reason(self, case: Case) -> str | None:
        """Why this combination makes no sense on any machine, or ``None``."""
        supported = self.transports.get(case.device, ())
        if not supported:
            return f"{self.name} does not run on {case.device}"
        if case.transport not in supported:
            return f"{self.name} has no transport '{case.transport}' on {case.device} ({', '.join(supported)})"
        return None

    def unavailable_reason(self, case: Case) -> str | None:
        """Why it can't run here, with the remedy, or ``None``. Loads no framework."""
        missing = [module for module in self.requires if importlib.util.find_spec(module) is None]
        return f"{', '.join(missing)} not installed: {self.remedy}" if missing else None

    @abstractmethod
    def launch(self, case: Case) -> tuple[Role, ...]:
        """The processes it needs (pure)."""

    @abstractmethod
    def session(self, case: Case, me: RankInfo) -> AbstractContextManager[Session]:
        """Join the other ranks; leave them at the end. Runs in a rank."""

    def tolerance(self, case: Case) -> Tolerance:
        """How far its result may be from a single process's."""
        return FLOAT32_TOLERANCE

    def role(self, name: str) -> Callable[[Case, RankInfo, Path], None] | None:
        """The function behind a role other than ``rank``, or ``None``. Runs in that role's process."""
        return None


def set_environment(variables: Mapping[str, str | None]) -> None:
    """Set them in this process's environment; those that are ``None`` are unset, so that the default holds."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


__all__ = ["FLOAT32_TOLERANCE", "Backend", "Options", "Session", "Shape2D", "set_environment"]
