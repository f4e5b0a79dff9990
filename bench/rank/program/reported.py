"""What a program reports of its training by ``harness.report``: losses by step, and the parameters of its model.

A report takes a microsecond or two in the steps that are measured: numbers are kept where they were computed, and read
after the window. Parameters are digested after it too. Nothing here raises in the program: what can't be used is kept
as a reason.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from bench.core.reported import MAX_LOSSES, Reported, ReportedLoss, ReportedParameters
from bench.core.same_work import NotFinite
from bench.core.text import one_line
from bench.host.logs import MAX_ERROR_LENGTH
from bench.rank.program.autograd_graph import coarsest_type
from bench.rank.program.model_traits import why_random
from bench.rank.tensors import digest_tensors

PACKAGE = "harness"


class Reports:
    """What one rank has reported so far.

    Args:
        steps: How many steps of the program's optimizer have ended.
    """

    def __init__(self, steps: Callable[[], int]) -> None:
        self._steps, self._pid = steps, os.getpid()
        self._sums: dict[int, tuple[Any, float]] = {}
        """By step, Σ weight·loss and Σ weight; the loss may be a tensor that is still being computed."""
        self._last: tuple[int, Any] | None = None
        self._arithmetic: str | None = None
        self._parameters: Any = None
        self._problem: str | None = None

    def report(
        self, loss: Any = None, parameters: Any = None, step: int | None = None, samples: float | None = None
    ) -> None:
        """See :func:`harness.report`."""
        # A worker of a DataLoader is a copy of this process.
        if os.getpid() != self._pid:
            return
        try:
            if loss is not None:
                self._keep_loss(loss, self._steps() if step is None else int(step), samples)
            if parameters is not None:
                self._parameters = parameters
        except Exception as problem:
            self._problem = self._problem or one_line(f"harness.report: {problem}", MAX_ERROR_LENGTH)

    def _keep_loss(self, loss: Any, step: int, samples: float | None) -> None:
        if not self._sums and self._last is None:
            self._arithmetic = coarsest_type(loss)
        value, weight = _own_copy(loss), 1.0 if samples is None else float(samples)
        if step < 0 or not 0 < weight < math.inf:
            raise ValueError(f"step {step} or samples {samples} is no number of steps or samples")
        self._last = step, value
        total = self._sums.get(step)
        if total is not None:
            self._sums[step] = total[0] + value * weight, total[1] + weight
        elif len(self._sums) < MAX_LOSSES:
            self._sums[step] = value * weight, weight

    def collect(self) -> Reported | None:
        """What was reported, with the digest of the parameters as they are now; ``None`` without any report.

        Waits for the device. It is called at the end of the same step on all ranks.
        """
        if not self._sums and self._parameters is None and self._problem is None:
            return None
        values = {step: (float(total) / weight, weight) for step, (total, weight) in sorted(self._sums.items())}
        parameters, random, problem = None, None, self._problem
        if self._parameters is not None:
            try:
                tensors, random = parameters_in(self._parameters), why_random(self._parameters)
                sharded = any(is_shard(tensor) for tensor in tensors)
                digest = digest_tensors(getattr(tensor, "_local_tensor", tensor) for tensor in tensors)
                parameters = ReportedParameters(step=self._steps(), digest=digest, sharded=sharded)
            except Exception as failure:
                problem = problem or one_line(f"harness.report: parameters can't be read: {failure}", MAX_ERROR_LENGTH)
        losses = (
            ReportedLoss(step=step, value=value, samples=weight)
            for step, (value, weight) in values.items()
            if math.isfinite(value)
        )
        return Reported(
            losses=tuple(losses),
            parameters=parameters,
            arithmetic=self._arithmetic,
            random=one_line(random, MAX_ERROR_LENGTH) if random else None,
            problem=problem,
        )

    def first_not_finite(self) -> NotFinite | None:
        """The first loss that is no finite number, of those that are kept: the first steps, and the last one."""
        found = {step: float(total) / weight for step, (total, weight) in self._sums.items()}
        if self._last is not None:
            found[self._last[0]] = found.get(self._last[0], float(self._last[1]))
        steps = sorted(found)
        first = next((step for step in steps if not math.isfinite(found[step])), None)
        if first is None:
            return None
        later = (math.isfinite(found[step]) for step in steps if step > first)
        where = f"step {first} of the program"
        return NotFinite(name="reported loss", value=str(found[first]), step=first, where=where, lasting=not any(later))


_current: Reports | None = None


def start(steps: Callable[[], int]) -> Reports:
    """Keep what this process reports from now on.

    Args:
        steps: How many steps of the program's optimizer have ended.
    """
    global _current
    _current = Reports(steps)
    if not any(isinstance(finder, _HarnessOfARank) for finder in sys.meta_path):
        sys.meta_path.append(_HarnessOfARank())
    return _current


def report(**values: Any) -> None:
    """Called by :func:`harness.report`, with the same arguments."""
    if _current is not None:
        _current.report(**values)


class _HarnessOfARank:
    """Finds a module ``harness`` with the function ``report`` where there is none: a node has no other part of it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == PACKAGE else None  # type: ignore[arg-type]  # Loader is a protocol

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["report"] = report


def _own_copy(loss: Any) -> Any:
    """The value of a loss that later changes of it don't change: a number, or a tensor where reading it would wait."""
    if type(loss) is float:
        return loss
    if not _is_tensor(loss):
        try:
            return float(loss)
        except (TypeError, ValueError):
            raise ValueError(f"loss is of type {type(loss).__name__}, not a scalar") from None
    if loss.numel() != 1:
        raise ValueError(f"loss is a tensor of shape {tuple(loss.shape)}, not a scalar")
    return loss.item() if loss.device.type == "cpu" else loss.detach().double().clone().reshape(())


def parameters_in(given: Any) -> list[Any]:
    """The tensors of a module, a state dictionary, a tensor or an iterable of tensors.

    Raises:
        TypeError: It is none of them.
    """
    if hasattr(given, "parameters"):
        return list(given.parameters())
    values: Iterable[Any] = given.values() if isinstance(given, Mapping) else [given] if _is_tensor(given) else given
    tensors = [value for value in values if _is_tensor(value)]
    if not tensors:
        raise TypeError(f"{type(given).__name__} holds no parameters")
    return tensors


def is_shard(tensor: Any) -> bool:
    """Whether a tensor is a rank's part of a parameter: of ``fully_shard``, or of ``FullyShardedDataParallel``."""
    return hasattr(tensor, "_local_tensor") or type(tensor).__name__ == "FlatParameter"


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "shape")
