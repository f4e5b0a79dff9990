"""A workload that counts what its options say, and returns what they say."""

from __future__ import annotations

import decimal
from typing import Any

from pydantic import Field

from bench.core.case import Case
from bench.core.records import Reading
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload

AMOUNTS: dict[str, Any] = {
    "none": None,
    "text": "eight",
    "nan": float("nan"),
    "huge": 10**400,
    "decimal": decimal.Decimal(8),
    "missing": ...,
}
READINGS: dict[str, Any] = {
    "nothing": ((), ()),
    "nan": ((Reading(name="score", value=float("nan"), unit="1"),), ()),
    "text": "scores",
    "objects": ([object()], [object()]),
    "unit": ((Reading(name="score", value=2.5, unit=""),), ()),
}


class CountingOptions(Options):
    unit: str = Field("tokens", description="what it counts")
    amount: str = Field("8", description="how much of it in a step: a number, or a name of what is none")
    further: str = Field("nothing", description="what it returns beside")


class CountingWork(Work):
    def __init__(self, options: CountingOptions) -> None:
        self.unit, self.further = options.unit, options.further
        amount = AMOUNTS[options.amount] if options.amount in AMOUNTS else float(options.amount)
        if amount is not ...:
            self.amount_per_step = amount

    def step(self) -> None:
        sum(range(1000))

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        return (), ()

    def snapshot(self) -> list[Any]:
        return []

    def finish(self) -> Any:
        return READINGS[self.further]


class Counting(Workload):
    name = "counting"
    summary = "a little arithmetic"
    kind = "array"
    options = CountingOptions
    devices = ("cpu",)
    uses_batch = False

    def build(self, case: Case, session: Session) -> Work:
        return CountingWork(CountingOptions(**case.workload_options))


WORKLOAD = Counting()
