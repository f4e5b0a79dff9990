"""A result that stops being a number is named by its step, and costs the window nothing."""

from __future__ import annotations

import math

import pytest

from bench.backends.single import BACKEND
from bench.plugins.workload import Work, Workload
from bench.rank import loop
from bench.rank.finite import StepResults
from tests.bench.rank.test_loop import SingleRank
from tests.support.builders import make_case


class Descent(Work):
    """A loss that is ``replaced[k]`` in step k, and falls otherwise."""

    amount_per_step = 1

    def __init__(self, replaced):
        self.replaced, self.taken = replaced, 0

    def step(self):
        self.taken += 1

    def verify(self, steps):
        losses = []
        for _ in range(steps):
            self.step()
            losses.append(self.last_result())
        return (), tuple(losses)

    def snapshot(self):
        return []

    def last_result(self):
        return self.replaced(self.taken) or 1 / max(1, self.taken)


class DescentWorkload(Workload):
    name, summary, kind = "descent", "", "collective"

    def __init__(self, replaced):
        self.replaced = replaced

    def build(self, case, session):
        self.work = Descent(self.replaced)
        return self.work


def measure(replaced, **changes):
    case = make_case(ranks=1, **{"steps": 20, "warmup": 8, "verify_steps": 0, "decompose": False, **changes})
    return loop.measure(case, BACKEND, DescentWorkload(replaced), SingleRank(), loop.RankContext(0.0))


def from_step(first, value):
    return lambda step: value if step >= first else None


@pytest.mark.parametrize(
    ("first", "value", "description"),
    [
        (12, math.nan, "loss is nan from step 12 on (measured step 4)"),
        (9, math.inf, "loss is inf from step 9 on (measured step 1)"),
        (28, -math.inf, "loss is -inf from step 28 on (measured step 20)"),
        (8, math.nan, "loss is nan from step 8 on (warm-up step 8)"),
    ],
)
def test_the_first_step_is_named(first, value, description):
    assert measure(from_step(first, value)).not_finite.description == description


def test_a_loss_that_recovers_is_named_by_its_step():
    found = measure(lambda step: math.inf if step in (12, 15) else None).not_finite
    assert found.description == "loss is inf in step 12 (measured step 4)"


def test_verified_steps_count_too():
    results = StepResults(Descent(from_step(3, math.nan)))
    step = results.keep_after(lambda: None)
    for _ in range(4):
        step()
    assert results.first_not_finite((0.5, 0.4), warmup_steps=1) is None
    found = results.first_not_finite((0.5, math.nan), warmup_steps=1)
    assert found.description == "loss is nan in step 2 (verified step 2)"


def test_finite_results_are_none():
    assert measure(from_step(99, math.nan)).not_finite is None


def test_a_work_without_results_is_stepped_as_it_is():
    class Silent(Descent):
        last_result = Work.last_result

    step = object()
    assert StepResults(Silent(None)).keep_after(step) is step


@pytest.mark.frameworks
@pytest.mark.parametrize("captured", [True, False], ids=["overwritten", "kept"])
def test_results_that_later_steps_overwrite_are_known_after_the_last_step_only(captured):
    """As a captured CUDA graph leaves them."""
    torch = pytest.importorskip("torch")
    buffer = torch.zeros(())

    class Captured(Descent):
        def last_result(self):
            value = from_step(12, math.nan)(self.taken) or 1.0
            return buffer.fill_(value) if captured else torch.tensor(value)

    work = Captured(None)
    results = StepResults(work)
    step = results.keep_after(work.step)
    for _ in range(20):
        step()
    found = results.first_not_finite((), warmup_steps=8).description
    kept = "loss is nan from step 12 on (measured step 4)"
    assert found == ("a loss is nan after the measured window" if captured else kept)


class Overwritten(float):
    """A result in memory that the next step overwrites, as those of a CUDA graph are."""

    def data_ptr(self):
        return 1

    def isfinite(self):
        return Overwritten(math.isfinite(self))

    def all(self):
        return bool(self)

    def sum(self):
        return self

    def __getitem__(self, where):
        return self

    def __invert__(self):
        return self


def test_results_that_overwrite_each_other_are_not_kept_step_by_step():
    work = Descent(lambda step: Overwritten("nan") if step > 5 else Overwritten(1.0))
    results = StepResults(work)
    step = results.keep_after(work.step)
    for _ in range(3):
        step()
    assert results.keep_after(work.step, every=1) != work.step
    in_blocks = results.keep_after(work.step, every=40)
    assert in_blocks == work.step, "nothing is done beside the step"
    for _ in range(3):
        in_blocks()
    results.keep_last()
    assert results.first_not_finite((), 3).description == "a loss is nan after the measured window"


def test_results_that_stay_are_kept_in_blocks_too():
    work = Descent(from_step(5, math.nan))
    results = StepResults(work)
    step = results.keep_after(work.step, every=40)
    for _ in range(6):
        step()
    results.keep_last()
    assert results.first_not_finite((), 2).description == "loss is nan from step 5 on (measured step 3)"
