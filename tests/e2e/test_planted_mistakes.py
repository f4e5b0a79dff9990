"""Backends with a mistake in them: the same-work check must take their numbers away."""

from __future__ import annotations

import pytest

from e2e.conftest import ROOT

BASE = '''
"""A backend with a planted mistake."""
from contextlib import contextmanager
from bench.backends import Backend
from bench.backends.ddp import DdpOptions, process_group
from bench.case import Role

class Wrong(Backend):
    name = "wrong"
    summary = "makes a mistake"
    transports = {{"cpu": ("gloo",)}}

    def launch(self, case):
        return (Role(name="rank", count=case.ranks),)

    @contextmanager
    def session(self, case, me):
        with process_group(case, me, "gloo", DdpOptions()) as session:
{mistake}
            yield session

BACKEND = Wrong()
'''
SUMMED = """
            inner = session.wrap
            def wrap(model, optimizer):
                model, optimizer = inner(model, optimizer)
                step = optimizer.step
                def summed():
                    for parameter in model.parameters():
                        parameter.grad.mul_(session.world)
                    step()
                optimizer.step = summed
                return model, optimizer
            session.wrap = wrap
"""
NOT_EXCHANGED = """
            session.wrap = lambda model, optimizer: (model, optimizer)
"""
SEEDED_APART = """
            inner = session.wrap
            def wrap(model, optimizer):
                import torch
                wrapped = inner(model, optimizer)
                if session.rank:
                    with torch.no_grad():
                        next(model.parameters()).add_(1e-4)
                return wrapped
            session.wrap = wrap
"""


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (SUMMED, "deviate by"),
        (NOT_EXCHANGED, "rank 1 holds other parameters than rank 0"),
        (SEEDED_APART, "rank 1 holds other parameters than rank 0"),
    ],
    ids=["summed", "not exchanged", "another start"],
)
def test_a_mistake_in_the_exchange_is_caught(planted, mistake, said):
    harness = planted({"bench/backends/wrong.py": BASE.format(mistake=mistake)})
    document = harness.lean_sweep("--backends", "wrong,ddp", "--workloads", "synthetic", "--ranks", "2", status=4)
    wrong = next(cell for cell in document["cells"] if cell["backend"] == "wrong")
    assert wrong["outcome"] == "invalid"
    assert wrong["throughput"] is None
    assert wrong["same_work"]["verdict"] == "different"
    assert said in wrong["reason"]
    right = next(cell for cell in document["cells"] if cell["backend"] == "ddp")
    assert (right["outcome"], right["same_work"]["verdict"]) == ("ok", "same")


@pytest.mark.parametrize(
    ("workload", "file", "right", "wrong"),
    [
        ("mnist", "bench/training.py", "order[rank:usable:world]", "order[0:usable:world]"),
        ("synthetic", "bench/workloads/synthetic.py", "* global_batch + session.rank", "* global_batch"),
    ],
)
def test_a_rank_that_reads_another_s_shard_is_caught(planted, workload, file, right, wrong):
    text = (ROOT / file).read_text()
    assert text.count(right) == 1
    harness = planted({file: text.replace(right, wrong)})
    document = harness.lean_sweep("--backends", "ddp", "--workloads", workload, "--ranks", "2", status=4)
    (cell,) = document["cells"]
    assert (cell["outcome"], cell["throughput"]) == ("invalid", None)
    assert "did not take the reference's samples" in cell["reason"]
