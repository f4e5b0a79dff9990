"""A workload in a user's own file: a perceptron on made-up data."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bench.core.case import Case
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload
from bench.workloads.training import Training


class MyOptions(Options):
    hidden: int = Field(64, ge=1, description="width of the hidden layer")


class Rows:
    """The batch of a step k is rows k·B to (k+1)·B; each rank takes every N-th."""

    def __init__(self, inputs: Any, targets: Any, global_batch: int, session: Session) -> None:
        self.inputs, self.targets = inputs.to(session.device), targets.to(session.device)
        self.global_batch, self.session, self.steps = global_batch, session, 0

    def next(self) -> tuple[Any, Any]:
        self.rows = [row % len(self.inputs) for row in self._numbers()]
        self.steps += 1
        return self.inputs[self.rows], self.targets[self.rows]

    def _numbers(self) -> range:
        first = self.steps * self.global_batch
        return range(first + self.session.rank, first + self.global_batch, self.session.world)

    def last_samples(self) -> tuple[int, ...]:
        return tuple(self.rows)


class MyMlp(Workload):
    name = "my_mlp"
    summary = "a perceptron on made-up data"
    options = MyOptions

    def build(self, case: Case, session: Session) -> Work:
        import torch
        from torch import nn

        options = MyOptions(**case.workload_options)
        torch.manual_seed(case.seed)
        model = nn.Sequential(nn.Linear(20, options.hidden), nn.ReLU(), nn.Linear(options.hidden, 5))
        rows = Rows(torch.randn(1024, 20), torch.randint(0, 5, (1024,)), case.global_batch, session)
        return Training(session, model, nn.CrossEntropyLoss(), rows, case.global_batch)


WORKLOAD = MyMlp()
