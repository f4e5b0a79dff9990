"""Collective operations alone, over message sizes, in the definitions of nccl-tests (:mod:`bench.core.collectives`).

The measured window times the largest message; the times of every size are in the record's ``messages``, on a CPU those
of the last steps of the window among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

from pydantic import ByteSize, Field, model_validator

from bench.core.case import Case
from bench.core.collectives import Collective, buffer_elements, message_elements, message_sizes
from bench.core.records import Reading
from bench.core.step_measures import MessageTiming
from bench.plugins import registry
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload
from bench.workloads.collectives.results import expected_result, handed_in, inexact_reason
from bench.workloads.collectives.timing import LastSteps, time_operation

DatatypeName = Literal["float32", "float64", "float16", "bfloat16", "int32", "int64"]
ELEMENT_BYTES: dict[str, int] = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int32": 4, "int64": 8}


class WrongResult(RuntimeError):
    """An operation gave another result than it must."""


class CollectivesOptions(Options):
    operation: Collective = Field("all_reduce", description="what the ranks do together")
    begin: ByteSize = Field(ByteSize(1024), ge=8, description="smallest message, such as 1KiB")
    end: ByteSize = Field(ByteSize(64 * 2**20), ge=8, description="largest message, for example 64MiB")
    factor: int = Field(4, ge=2, description="each message is so many times as large as the one before")
    in_place: bool | None = Field(
        None, description="whether the result replaces what a rank hands in; by default as the library does it"
    )
    datatype: DatatypeName = Field("float32", description="type of the elements")
    check: bool = Field(True, description="compare the result of each size before it is timed")

    @model_validator(mode="after")
    def _ordered(self) -> CollectivesOptions:
        if self.begin > self.end:
            raise ValueError(f"begin ({self.begin.human_readable()}) is larger than end ({self.end.human_readable()})")
        return self

    def elements(self, ranks: int) -> tuple[int, ...]:
        """The elements of the message of each size, ascending; sizes that are rounded to the same one are one."""
        sizes = message_sizes(int(self.begin), int(self.end), self.factor)
        element_bytes = ELEMENT_BYTES[self.datatype]
        return tuple(dict.fromkeys(message_elements(self.operation, size, element_bytes, ranks) for size in sizes))


class CollectivesWork(Work):
    """A step is one operation over the largest message.

    Args:
        options: The options of the workload.
        session: The ranks.
        ranks: Their number in the case; the session of the reference has one.
        in_place: Whether the result replaces what a rank hands in.
    """

    unit = "bytes"
    result_name = "result"
    warmup_steps = 2
    min_steps = 5
    max_steps = 200

    def __init__(self, options: CollectivesOptions, session: Session, ranks: int, *, in_place: bool) -> None:
        self.options, self.session, self.ranks, self.in_place = options, session, ranks, in_place
        self.element_bytes = ELEMENT_BYTES[options.datatype]
        self.elements = options.elements(ranks)
        self.amount_per_step = self.elements[-1] * self.element_bytes
        self.unproven_reason = None if options.check else "results were not compared (collectives.check=false)"
        self.wrong = [0.0] * ranks
        self.last_steps = LastSteps(session)

    @cached_property
    def _buffers(self) -> tuple[Any, Any]:
        """What a rank hands in, and where the result goes, of the largest message."""
        import torch

        sent, received = buffer_elements(self.options.operation, self.elements[-1], self.ranks)
        dtype = getattr(torch, self.options.datatype)
        result = torch.zeros(
            max(sent, received) if self.in_place else received, dtype=dtype, device=self.session.device
        )
        return (result if self.in_place else torch.zeros(sent, dtype=dtype, device=self.session.device)), result

    def _views(self, elements: int) -> tuple[Any, Any]:
        """What a rank hands in, and where the result goes, of a message: parts of one buffer where that is in place."""
        operation, rank = self.options.operation, self.session.rank
        sent, received = buffer_elements(operation, elements, self.ranks)
        send, receive = self._buffers
        own = slice(rank * (elements // self.ranks), (rank + 1) * (elements // self.ranks))
        if self.in_place and operation == "all_gather":
            return receive[:elements][own], receive[:elements]
        if self.in_place and operation == "reduce_scatter":
            return send[:elements], send[:elements][own]
        return send[:sent], receive[:received]

    def _operation(self, elements: int) -> Callable[[], Any]:
        return self.session.prepare_collective(self.options.operation, *self._views(elements))

    @cached_property
    def _largest(self) -> Callable[[], Any]:
        return self._operation(self.elements[-1])

    def step(self) -> None:
        if self.injected_delay_s:
            time.sleep(self.injected_delay_s)
        self.last_steps.take(self._largest)

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        """Perform the operation once for each size, and compare every element of every rank's result.

        Raises:
            WrongResult: On all ranks, where an element of one of them is wrong.
        """
        sizes = tuple((elements * self.element_bytes,) for elements in self.elements)
        if self.session.world > 1 and self.options.check:
            for elements in self.elements:
                self._check(elements)
        return sizes if self.session.rank == 0 else tuple(() for _ in sizes), (0.0,) * len(sizes)

    def _check(self, elements: int) -> None:
        import torch

        operation, rank = self.options.operation, self.session.rank
        send, receive = self._views(elements)
        receive.fill_(-1)
        send.copy_(handed_in(rank, 0, send.numel(), send.dtype))
        returned = self._operation(elements)()
        actual = (receive if returned is None else returned).to("cpu")
        expected = expected_result(operation, rank, self.ranks, elements, send.dtype)
        wrong = torch.zeros(self.ranks, dtype=torch.float64)
        wrong[rank] = int((actual != expected).sum()) if actual.shape == expected.shape else expected.numel()
        self.wrong = self.session.all_reduce_sum(wrong).to("cpu").tolist()
        worst = max(range(self.ranks), key=lambda one: self.wrong[one])
        if self.wrong[worst]:
            raise WrongResult(
                f"{operation} of {elements * self.element_bytes:,} bytes: {self.wrong[worst]:,.0f} of "
                f"{expected.numel():,} elements of the result are wrong on rank {worst}"
            )

    def snapshot(self) -> list[Any]:
        import torch

        return [torch.tensor(self.wrong, dtype=torch.float64)]

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        return (), tuple(
            MessageTiming(
                message_bytes=elements * self.element_bytes,
                times_s=self._times_s(elements),
                operation=self.options.operation,
                in_place=self.in_place,
            )
            for elements in self.elements
        )

    def _times_s(self, elements: int) -> tuple[float, ...]:
        times_s = self.last_steps.times_s() if elements == self.elements[-1] else None
        return times_s or time_operation(self._operation(elements), self.session)


class Collectives(Workload):
    name = "collectives"
    summary = "a collective operation alone, from 1 KiB to 64 MiB: all_reduce, all_gather, reduce_scatter, …"
    kind = "collective"
    options = CollectivesOptions
    scalings = ("weak",)
    uses_batch = False

    def unsupported_reason(self, case: Case) -> str | None:
        options = CollectivesOptions(**case.workload_options)
        ways = registry.backend_of(case).collectives(case).get(options.operation)
        if case.ranks < 2:
            return "a collective operation needs at least 2 ranks: --ranks 2"
        if ways is None or isinstance(ways, str):
            return ways or f"{case.backend} has no {options.operation}"
        if options.in_place is not None and options.in_place not in ways:
            return (
                f"{case.backend}'s {options.operation} has no result {'in' if options.in_place else 'out of'} place: "
                "leave collectives.in_place out"
            )
        summed = options.operation in ("all_reduce", "reduce_scatter")
        return inexact_reason(options.datatype, case.ranks) if options.check and summed else None

    def build(self, case: Case, session: Session) -> Work:
        options = CollectivesOptions(**case.workload_options)
        ways = registry.backend_of(case).collectives(case).get(options.operation)
        own_way = ways[0] if isinstance(ways, tuple) else False
        in_place = own_way if options.in_place is None else options.in_place
        return CollectivesWork(options, session, case.ranks, in_place=in_place)


WORKLOAD = Collectives()
