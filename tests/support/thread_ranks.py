"""Ranks as threads of one process: a real exchange of gradients without processes, for tests of the same-work check."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import MethodType
from typing import Any

from bench.core.case import Case
from bench.core.same_work import SameWork, Tolerance
from bench.plugins.backend import FLOAT32_TOLERANCE, Session
from bench.plugins.workload import Workload
from bench.rank.kept_results import KeptResults
from bench.rank.training_proof import prove_training
from bench.rank.verify import reference_case
from reports.analysis.same_work import judge_same_work
from tests.support.builders import make_record

TIMEOUT_S = 60


class ThreadGroup:
    """What the ranks of a group share."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.barrier = threading.Barrier(world, timeout=TIMEOUT_S)
        self.slots: list[Any] = [None] * world


class ThreadSession(Session):
    """A rank that is a thread. Its optimizer's step first replaces gradients by their mean over the ranks."""

    def __init__(self, rank: int, group: ThreadGroup) -> None:
        super().__init__(rank, group.world)
        self.group = group
        self.exchanging = True
        self.parameters: list[Any] = []

    def build_optimizer(self, model, make):
        self.parameters = list(model.parameters())
        optimizer = make(self.parameters)
        update = optimizer.step

        def exchange_and_update(optimizer):
            self.exchange()
            update()

        # A method, as schedules of the learning rate expect.
        optimizer.step = MethodType(exchange_and_update, optimizer)
        return optimizer

    def exchange(self):
        if self.exchanging:
            for parameter in self.parameters:
                parameter.grad = self.mean(parameter.grad)

    def mean(self, gradient):
        return self.all_reduce_sum(gradient) / self.world

    def all_reduce_sum(self, tensor):
        self.group.slots[self.rank] = tensor.clone()
        self.group.barrier.wait()
        total = sum(self.group.slots[1:], start=self.group.slots[0].clone())
        self.group.barrier.wait()
        return total

    @contextmanager
    def exchanged_gradients(self):
        self.exchange()
        before, self.exchanging = self.exchanging, False
        yield
        self.exchanging = before


def prove(
    workload: Workload,
    case: Case,
    session_type: Callable[[int, ThreadGroup], ThreadSession] = ThreadSession,
    tolerance: Tolerance = FLOAT32_TOLERANCE,
    steps: int = 3,
    results: KeptResults | None = None,
) -> SameWork:
    """The verdict on the ranks of a case: each takes the verified steps in a thread."""
    # Else the first optimizer step imports it, in all threads at once.
    import torch._dynamo  # noqa: F401

    group = ThreadGroup(case.ranks)
    works = [workload.build(case, session_type(rank, group)) for rank in range(case.ranks)]

    def run(work: Any):
        device = work.session.device

        def build_reference():
            return workload.build(reference_case(case, workload), Session(device=device))

        make_reference = build_reference if work.session.rank == 0 else None
        try:
            return prove_training(work, make_reference, steps, tolerance, results)
        except BaseException:
            group.barrier.abort()
            raise

    with ThreadPoolExecutor(case.ranks) as pool:
        proofs = list(pool.map(run, works))
    return judge_same_work([make_record(rank, case.ranks, proof=proof) for rank, proof in enumerate(proofs)])
