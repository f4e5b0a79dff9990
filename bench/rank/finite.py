"""Whether the results of all steps were numbers: a run whose loss became NaN is none.

The result of a step stays where it was computed until the measured window has ended, so that no step waits for the
device: keeping it takes one to two microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bench.core.same_work import NotFinite
from bench.plugins.workload import Work
from bench.rank.tensors import is_finite


class StepResults:
    """The results of the steps of one rank, warm-up included."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._results: list[Any] = []

    def keep_after(self, step: Callable[[], Any], every: int = 1) -> Callable[[], Any]:
        """The step, whose result is kept; the step itself where the work has no result of a step.

        Neither are results kept that overwrite each other, of steps so short that ``every`` of them are timed together.
        """
        if not self._has_results or (every > 1 and _share_memory(self._results)):
            return step
        last_result, keep = self._work.last_result, self._results.append

        def step_and_keep() -> None:
            step()
            keep(last_result())

        return step_and_keep

    def keep_last(self) -> None:
        """Keep the result of the last step, where those of the steps before it were not kept."""
        if self._has_results and _share_memory(self._results):
            self._results.append(self._work.last_result())

    @property
    def _has_results(self) -> bool:
        return type(self._work).last_result is not Work.last_result

    def first_not_finite(self, verified: Sequence[float], warmup_steps: int) -> NotFinite | None:
        """The first result that is no finite number. Waits for the device.

        Args:
            verified: The results of the verified steps, which came before.
            warmup_steps: How many of the steps since then were warm-up.
        """
        if _share_memory(self._results):
            return find_not_finite(self._results[-1:], self._work.result_name)
        values = [*verified, *_to_numbers(self._results)]
        index = next((index for index, value in enumerate(values) if not math.isfinite(value)), None)
        if index is None:
            return None
        return NotFinite(
            name=self._work.result_name,
            value=str(values[index]),
            step=index + 1,
            where=_step_in_phase(index, (len(verified), warmup_steps)),
            lasting=not any(map(math.isfinite, values[index:])),
        )


def _step_in_phase(index: int, sizes: tuple[int, int]) -> str:
    """``warm-up step 3``. ``index`` counts from 0, ``sizes``: the numbers of verified and warm-up steps."""
    for phase, size in zip(("verified", "warm-up"), sizes, strict=True):
        if index < size:
            return f"{phase} step {index + 1}"
        index -= size
    return f"measured step {index + 1}"


def find_not_finite(tensors: Sequence[Any], name: str = "parameter") -> NotFinite | None:
    """The first value that is no finite number, which says nothing of the step.

    Args:
        tensors: The tensors after the last step; by default a model's parameters.
        name: What they are.
    """
    for tensor in tensors:
        if not is_finite(tensor):
            return NotFinite(name=name, value=str(float(tensor[~tensor.isfinite()][0])))
    return None


def _share_memory(results: Sequence[Any]) -> bool:
    """Whether steps overwrite each other's results, as those of a captured CUDA graph do: only the last is known."""
    return len(results) > 1 and hasattr(results[0], "data_ptr") and results[0].data_ptr() == results[1].data_ptr()


def _to_numbers(results: Sequence[Any]) -> list[float]:
    """Numbers, or scalar tensors of one device and type, as numbers; ``None`` becomes 0."""
    if results and hasattr(results[0], "isfinite"):
        import torch

        numbers: list[float] = torch.stack(list(results)).tolist()
        return numbers
    return [0.0 if result is None else float(result) for result in results]
