"""The mean of a large random array in chunks; no rank ever holds the whole array.

Chunk (i, j) is drawn from a generator seeded with (seed, i, j), so that the numbers are the same on whichever rank.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from pydantic import Field, model_validator

from bench.core.case import Case
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload


class ArrayMeanOptions(Options):
    rows: int = Field(10_000, ge=1, description="rows of the array (of each rank's share under weak scaling)")
    columns: int = Field(10_000, ge=1, description="columns of the array")
    chunk: int = Field(1_000, ge=1, description="height and width of a chunk; must divide rows and columns")

    @model_validator(mode="after")
    def _divides(self) -> ArrayMeanOptions:
        if self.rows % self.chunk or self.columns % self.chunk:
            raise ValueError(f"chunk {self.chunk} does not divide {self.rows}×{self.columns}")
        return self


class ArrayMeanWork(Work):
    """A step is one mean of the whole array."""

    unit = "elements"
    result_name = "mean"
    warmup_steps = 1
    min_steps = 3
    max_steps = 200

    def __init__(self, options: ArrayMeanOptions, case: Case, session: Session) -> None:
        rows = options.rows * (case.ranks if case.scaling == "weak" else 1)
        self.grid_shape = (rows // options.chunk, options.columns // options.chunk)
        self.block_shape = (options.chunk, options.chunk)
        self.seed, self.session = case.seed, session
        self.amount_per_step = rows * options.columns
        self.mean = 0.0

    def step(self) -> None:
        if self.injected_delay_s:
            time.sleep(self.injected_delay_s)
        # The function may be sent to other processes, and must not carry the session along.
        self.mean = self.session.blocks_mean(
            self.grid_shape, self.block_shape, partial(random_block, self.seed, self.block_shape)
        )

    def last_result(self) -> Any:
        return self.mean

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        self.step()
        return (), (self.mean,)

    def snapshot(self) -> list[Any]:
        import torch

        return [torch.tensor([self.mean], dtype=torch.float64)]


def random_block(seed: int, block_shape: tuple[int, int], row: int, column: int) -> Any:
    """Chunk (row, column): float64 of shape ``block_shape``, uniform in [0, 1)."""
    import numpy as np

    return np.random.default_rng([seed, row, column]).random(block_shape)


class ArrayMean(Workload):
    name = "array_mean"
    summary = "the mean of a 10,000×10,000 random array in chunks"
    kind = "array"
    options = ArrayMeanOptions
    devices = ("cpu",)
    uses_batch = False
    keeps_results = True
    tolerance = 1e-12

    def build(self, case: Case, session: Session) -> Work:
        return ArrayMeanWork(ArrayMeanOptions(**case.workload_options), case, session)


WORKLOAD = ArrayMean()
