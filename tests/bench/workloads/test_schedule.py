"""A schedule of the learning rate is a part of the step: proven, and restored by the decomposition."""

from __future__ import annotations

import pytest

from bench.plugins.backend import Options, Session
from bench.plugins.workload import Workload
from bench.workloads.synthetic import PoolFeed
from bench.workloads.training import StepOptions, Training
from tests.support.builders import make_case
from tests.support.thread_ranks import prove

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.frameworks


class Scheduled(Workload):
    name, summary, options = "scheduled", "", Options

    def __init__(self, own_pace: bool = False):
        self.own_pace = own_pace

    def build(self, case, session):
        torch.manual_seed(case.seed)
        feed = PoolFeed(torch.randn(96, 6), torch.randn(96, 4), case.global_batch, session)
        factor = 0.5 if self.own_pace and session.world > 1 else 0.1

        def make_schedule(optimizer):
            return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor**step)

        options = StepOptions(optimizer="adamw", clip=0.5)
        loss = torch.nn.MSELoss()
        return Training(
            session,
            torch.nn.Linear(6, 4),
            loss,
            feed,
            case.global_batch,
            options=options,
            make_schedule=make_schedule,
        )


def test_the_reference_follows_the_schedule():
    found = prove(Scheduled(), make_case(ranks=2, batch=8))
    assert (found.verdict, found.reason) == ("same", None)


def test_a_schedule_that_depends_on_the_number_of_ranks_is_caught():
    found = prove(Scheduled(own_pace=True), make_case(ranks=2, batch=8))
    assert (found.verdict, found.reason[:9]) == ("different", "update of")


def test_a_restored_step_is_at_the_rate_that_was_saved():
    work = Scheduled().build(make_case(ranks=1, batch=8), Session())
    work.step()
    saved, rates = work.save(), [group["lr"] for group in work.optimizer.param_groups]
    work.step()
    assert [group["lr"] for group in work.optimizer.param_groups] == pytest.approx([rate / 10 for rate in rates])
    work.restore(saved)
    work.step()
    assert [group["lr"] for group in work.optimizer.param_groups] == pytest.approx([rate / 10 for rate in rates])
