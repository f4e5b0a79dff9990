"""The allreduce alone, over message sizes: the cost of the exchange without compute to hide it.

The measured window times the largest message; the times of every size are in the record's ``messages``, on a CPU those
of the last steps of the window among them.
Bandwidths are functions of those times (:mod:`bench.core.collectives`). Other operations, and other types, are in the
workload ``collectives``; this one exchanges as training does, by the session's ``all_reduce_sum``.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import ByteSize, Field, model_validator

from bench.core.case import Case
from bench.core.collectives import message_sizes
from bench.core.records import Reading
from bench.core.step_measures import MessageTiming
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload
from bench.workloads.collectives.timing import LastSteps, time_operation

SIZE_FACTOR = 4


class AllreduceOptions(Options):
    smallest: ByteSize = Field(ByteSize(1024), ge=4, multiple_of=4, description="smallest message, such as 1KiB")
    largest: ByteSize = Field(
        ByteSize(64 * 2**20), ge=4, multiple_of=4, description="largest message, for example 64MiB"
    )

    @model_validator(mode="after")
    def _ordered(self) -> AllreduceOptions:
        if self.smallest > self.largest:
            raise ValueError("smallest is larger than largest")
        return self

    def sizes(self) -> tuple[int, ...]:
        """From the smallest, each ``SIZE_FACTOR`` times the one before, ending with the largest; in bytes."""
        return message_sizes(int(self.smallest), int(self.largest), SIZE_FACTOR)


class AllreduceWork(Work):
    """A step is one allreduce of the largest message."""

    unit = "bytes"
    result_name = "mean of a message"
    warmup_steps = 2
    min_steps = 5
    max_steps = 200

    def __init__(self, options: AllreduceOptions, seed: int, session: Session) -> None:
        import torch

        self.session, self.sizes, self.seed = session, options.sizes(), seed
        self.buffer = torch.zeros(self.sizes[-1] // 4, device=session.device)
        self.amount_per_step = self.sizes[-1]
        # One element each, as there is nothing yet.
        self.results: list[Any] = [torch.zeros(1).expand(size // 4) for size in self.sizes]
        self.last_steps = LastSteps(session)

    def step(self) -> None:
        if self.injected_delay_s:
            time.sleep(self.injected_delay_s)
        self.last_steps.take(lambda: self.session.all_reduce_sum(self.buffer))

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        """Reduce one message of each size: rank r contributes the elements i with i mod N = r, and zeros elsewhere."""
        import torch

        means = []
        for number, size in enumerate(self.sizes):
            generator = torch.Generator().manual_seed(self.seed + number)
            full_message = torch.rand(size // 4, generator=generator)
            own_part = torch.zeros_like(full_message)
            own_part[self.session.rank :: self.session.world] = full_message[self.session.rank :: self.session.world]
            self.results[number] = self.session.all_reduce_sum(own_part).to("cpu")
            means.append(float(self.results[number].mean(dtype=torch.float64)))
        return tuple((size,) if self.session.rank == 0 else () for size in self.sizes), tuple(means)

    def snapshot(self) -> list[Any]:
        return list(self.results)

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        return (), tuple(self._time(size) for size in self.sizes)

    def _time(self, size: int) -> MessageTiming:
        message = self.buffer[: size // 4]
        times_s = self.last_steps.times_s() if size == self.sizes[-1] else None
        times_s = times_s or time_operation(lambda: self.session.all_reduce_sum(message), self.session)
        return MessageTiming(message_bytes=size, times_s=times_s)


class Allreduce(Workload):
    name = "allreduce"
    summary = "the exchange alone, from 1 KiB to 64 MiB"
    kind = "collective"
    options = AllreduceOptions
    scalings = ("weak",)
    uses_batch = False
    keeps_results = True
    tolerance = 1e-6

    def unsupported_reason(self, case: Case) -> str | None:
        return "an allreduce needs at least 2 ranks: --ranks 2" if case.ranks < 2 else None

    def build(self, case: Case, session: Session) -> Work:
        return AllreduceWork(AllreduceOptions(**case.workload_options), case.seed, session)


WORKLOAD = Allreduce()
