"""Decomposes the steps of a program after its window: the same times as of this project's own work.

Blocks of ordinary steps alternate with blocks in which the exchange is deferred (:mod:`bench.rank.program.exchange`):
such a step without its exchange is the rank's own time, as a step without communication is in
:mod:`bench.rank.decompose`. In these blocks the parts of a step that can be told apart are timed: waiting for a batch
of a DataLoader, the forward pass of a DistributedDataParallel, the backward pass, the optimizer's step. What else a
program does is unattributed. On a GPU parts are not timed: each would have to be waited for.

What takes much longer than the steps around it, such as a checkpoint or an evaluation, is no part of a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.core.case import Case
from bench.core.step_measures import PhaseTimes
from bench.host.logs import describe_exception
from bench.rank.clock import synchronize
from bench.rank.program.exchange import NO_EXCHANGE, CannotObserveError, Exchange, find_exchanges, root_module
from bench.rank.program.step_parts import StepParts
from bench.rank.tensors import digest_tensors

BLOCKS = 4
BLOCK_S = 0.1
MIN_BLOCK_STEPS, MAX_BLOCK_STEPS = 3, 100
SLOW_STEP_S = 0.5
"""Of steps that take longer, a block has one that counts."""
INTERRUPTED = 3
"""A step that takes so many times the median is left out."""
ENDED = "the program ended before the steps after its window could be observed"
WHOLE = "the program was let end by itself (--whole): no steps after its window are observed"

Fields = dict[str, Any]
"""Fields of a :class:`bench.core.records.RankRecord`."""


class Decomposition:
    """An observer (:class:`bench.rank.program.observers.Observer`) of the steps after the window.

    Args:
        case: The case.
    """

    def __init__(self, case: Case) -> None:
        self._case, self._world = case, case.ranks
        self._whole = bool(case.workload_options.get("whole"))
        self._block = 0
        """The steps of a block. The first one is not counted: it finds the caches as the other kind left them."""
        self._steps = 1
        self._reason: str | None = None
        self._exchanges: list[Exchange] = []
        self._device = "cpu"
        self._parts: StepParts | None = None
        self._together: list[float] = []
        self._own: list[float] = []
        self._by_part: list[dict[str, float]] = []
        self._taken = 0
        self._before_s, self._exchange_s = 0.0, 0.0

    def steps(self, step_s: float | None) -> int:
        """How many steps it needs: blocks of a tenth of a second; where the steps are given, about as many again."""
        if self._whole:
            return 0
        given = (self._case.steps or 0) // (2 * BLOCKS)
        wanted = given if step_s is None else math.ceil(BLOCK_S / max(step_s, 1e-9))
        least = 1 if step_s is not None and step_s > SLOW_STEP_S else MIN_BLOCK_STEPS
        return 2 * BLOCKS * (1 + max(least, min(MAX_BLOCK_STEPS, wanted)))

    def install(self, imports: object) -> None:
        """Nothing is looked at before the window has ended."""

    def begin(self, steps: int) -> None:
        """Find the exchange; the step that begins now is the first one that is observed."""
        self._steps, self._block = steps, steps // (2 * BLOCKS)
        try:
            self._prepare()
        except CannotObserveError as problem:
            self._reason = str(problem)
        except Exception as problem:
            # The window has been measured: nothing that follows ends the program.
            self._reason = describe_exception(problem)
        else:
            self._begin_step()

    def _prepare(self) -> None:
        self._exchanges = find_exchanges()
        if not self._exchanges and self._world > 1:
            raise CannotObserveError(NO_EXCHANGE)
        for exchange in self._exchanges:
            exchange.on_exchange = self._leave_out
        parameter = next((parameter for one in self._exchanges for parameter in one.parameters()), None)
        self._device = "cpu" if parameter is None or parameter.device.type == "cpu" else str(parameter.device)
        if self._device == "cpu":
            # Of several models, forward passes are not told apart from what surrounds them.
            only = self._exchanges[0] if len(self._exchanges) == 1 else None
            self._parts = StepParts(root_module(only.parameters()) if only is not None else None)

    def step_ended(self) -> None:
        """Take the times of a step, and prepare the next one."""
        if self._reason is not None:
            return
        synchronize(self._device)
        now_s = time.perf_counter()
        step_s = now_s - self._before_s
        parts = self._parts.take() if self._parts is not None else {}
        if self._taken % self._block:
            if self._is_deferred:
                self._own.append(max(0.0, step_s - self._exchange_s))
                self._by_part.append(parts)
            else:
                self._together.append(step_s)
        self._taken += 1
        self._begin_step()

    def _leave_out(self, spent_s: float) -> None:
        self._exchange_s += spent_s
        if self._parts is not None:
            self._parts.leave_out(spent_s)

    @property
    def _is_deferred(self) -> bool:
        """Whether the step that is being taken is one with a deferred exchange: every second block is."""
        return self._taken // self._block % 2 == 1

    def _begin_step(self) -> None:
        for exchange in self._exchanges:
            exchange.deferred = self._is_deferred and self._taken < self._steps
        self._exchange_s = 0.0
        self._before_s = time.perf_counter()

    def finish(self) -> Fields:
        """The times of the steps, or why there are none."""
        if self._parts is not None:
            self._parts.restore()
        for exchange in self._exchanges:
            exchange.restore()
        if self._whole:
            return {"phases_reason": WHOLE}
        if self._reason is None and self._taken < self._steps:
            self._reason = ENDED
        if self._reason is not None:
            return {"phases_reason": self._reason}
        kept = uninterrupted(self._own)
        names = [name for name in (self._by_part[0] if self._by_part else ()) if any(p[name] for p in self._by_part)]
        together = [self._together[number] for number in uninterrupted(self._together)]
        digest = digest_tensors(parameter for one in self._exchanges for parameter in one.parameters())
        own = tuple(self._own[number] for number in kept)
        phases = PhaseTimes(
            together_s=tuple(together),
            alone_s={name: tuple(self._by_part[number][name] for number in kept) for name in names},
            digest=digest,
            # Alone, a rank's ordinary step is its own time.
            alone_step_s=own if self._world > 1 else None,
        )
        return {"phases": phases}


def uninterrupted(times_s: Sequence[float]) -> list[int]:
    """The numbers of the steps without those that something interrupted (pure)."""
    limit_s = INTERRUPTED * median(times_s)
    return [number for number, time_s in enumerate(times_s) if time_s <= limit_s]
