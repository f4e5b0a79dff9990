"""``harness.report`` in a rank: what it keeps, and what it does outside of one."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

import harness
from bench.core.reported import MAX_LOSSES
from bench.rank.program import reported


class Steps:
    """The steps of an optimizer that have ended."""

    def __init__(self):
        self.ended = 0

    def __call__(self):
        return self.ended


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(reported, "_current", None)
    return Steps()


@pytest.mark.slow
def test_outside_a_sweep_it_loads_nothing_and_does_nothing():
    code = "import sys, harness; harness.report(loss=object(), parameters=1); print([*sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "harness" in loaded
    assert not any(name in loaded for name in ("bench", "torch", "pydantic", "harness."))


@pytest.mark.slow
def test_a_node_without_the_harness_finds_report():
    code = (
        "import sys; from bench.rank.program import reported; reports = reported.start(lambda: 3)\n"
        "others = sys.meta_path[:-1]; del sys.meta_path[:-1]\n"
        "import harness; sys.meta_path[:0] = others\n"
        "harness.report(loss=2.0); print(reports.collect().losses[0].value)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "2.0\n"


def test_several_losses_of_a_step_are_one_mean_by_their_samples(steps):
    reports = reported.start(steps)
    harness.report(loss=1.0, samples=3)
    harness.report(loss=2.0, samples=1)
    steps.ended = 1
    harness.report(loss=7)
    losses = reports.collect().losses
    assert [(loss.step, loss.value, loss.samples) for loss in losses] == [(0, 1.25, 4.0), (1, 7.0, 1.0)]


def test_the_first_steps_are_kept_and_a_later_nan_is_found(steps):
    reports = reported.start(steps)
    for step in range(3 * MAX_LOSSES):
        harness.report(loss=math.nan if step >= MAX_LOSSES else 1.0, step=step)
    assert len(reports.collect().losses) == MAX_LOSSES
    assert reports.first_not_finite().step == 3 * MAX_LOSSES - 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"loss": "much"}, "loss is of type str"),
        ({"loss": [1.0]}, "loss is of type list"),
        ({"loss": 1.0, "step": -1}, "step -1"),
        ({"loss": 1.0, "samples": 0}, "samples 0"),
        ({"parameters": 5}, "can't be read"),
        ({"parameters": []}, "list holds no parameters"),
    ],
)
def test_what_cannot_be_used_is_a_reason_and_no_exception_in_the_program(steps, values, problem):
    reports = reported.start(steps)
    harness.report(**values)
    found = reports.collect()
    assert problem in found.problem
    assert "\n" not in found.problem


def test_nothing_reported_is_nothing(steps):
    assert reported.start(steps).collect() is None


@pytest.mark.frameworks
class TestTensors:
    def test_a_loss_that_is_changed_afterwards_and_a_loss_of_several_elements(self, steps):
        import torch

        reports = reported.start(steps)
        loss = torch.tensor(3.0, requires_grad=True) * 1
        harness.report(loss=loss)
        with torch.no_grad():
            loss.zero_()
        assert reports.collect().losses[0].value == 3.0
        harness.report(loss=torch.ones(2, 3))
        assert "shape (2, 3), not a scalar" in reports.collect().problem

    def test_the_type_of_an_autocast_forward_pass_is_found(self, steps):
        import torch

        reports, model = reported.start(steps), torch.nn.Linear(4, 4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.ones(2, 4)).float().mean()
        loss.backward()
        harness.report(loss=loss)
        assert reports.collect().arithmetic == "bfloat16"

    def test_parameters_are_digested_as_they_are_when_the_steps_end(self, steps):
        import torch

        reports, model = reported.start(steps), torch.nn.Linear(2, 2)
        harness.report(parameters=model)
        before = reports.collect().parameters.digest
        assert reports.collect().parameters.digest == before
        with torch.no_grad():
            model.bias.add_(1)
        assert reports.collect().parameters.digest != before
        of_state = reported.start(steps)
        harness.report(parameters=model.state_dict())
        assert of_state.collect().parameters.digest == reports.collect().parameters.digest

    @pytest.mark.parametrize(
        ("layer", "word"),
        [("Dropout", "dropout"), ("BatchNorm1d", "batch normalization"), ("Dropout0", None), ("SyncBatchNorm", None)],
    )
    def test_a_model_whose_losses_depend_on_the_number_of_ranks_is_named(self, steps, layer, word):
        from torch import nn

        layers = {
            "Dropout": lambda: nn.Dropout(0.1),
            "Dropout0": lambda: nn.Dropout(0.0),
            "BatchNorm1d": lambda: nn.BatchNorm1d(2),
            "SyncBatchNorm": lambda: nn.SyncBatchNorm(2),
        }
        reports = reported.start(steps)
        harness.report(parameters=nn.Sequential(nn.Linear(2, 2), layers[layer]()))
        random = reports.collect().random
        assert (random is None) if word is None else (word in random)
