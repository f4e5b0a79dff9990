"""A workload in a user's own file whose loss is not a number from its twelfth step on."""

from __future__ import annotations

import math
from typing import Any

from bench.core.case import Case
from bench.plugins.backend import Session
from bench.plugins.workload import Work, Workload
from bench.workloads.training import Training

FIRST_NAN = 12


class Batches:
    """Random rows, the same in every step; those of the twelfth step hold a NaN."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.targets, self.steps = inputs, targets, 0

    def next(self) -> tuple[Any, Any]:
        self.steps += 1
        return (self.inputs * math.nan if self.steps == FIRST_NAN else self.inputs), self.targets

    def last_samples(self) -> tuple[int, ...]:
        return ()


class MyDiverging(Workload):
    name = "my_diverging"
    summary = "a layer whose loss becomes NaN"

    def build(self, case: Case, session: Session) -> Work:
        import torch

        torch.manual_seed(case.seed)
        inputs = torch.randn(case.global_batch // session.world, 20, device=session.device)
        targets = torch.zeros(len(inputs), 5, device=session.device)
        return Training(
            session, torch.nn.Linear(20, 5), torch.nn.MSELoss(), Batches(inputs, targets), case.global_batch
        )


WORKLOAD = MyDiverging()
