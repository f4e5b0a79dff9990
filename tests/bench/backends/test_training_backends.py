"""Sharded optimizer and mixed precision under a real process group of one rank."""

from __future__ import annotations

import copy

import pytest

from bench.backends.ddp import DdpOptions, DdpSession
from bench.backends.fsdp import BACKEND as FSDP
from bench.backends.fsdp import FsdpOptions, FsdpSession
from bench.plugins.backend import FLOAT32_TOLERANCE, Session
from bench.rank.training_proof import prove_training
from bench.workloads.synthetic import WORKLOAD as SYNTHETIC
from reports.analysis.same_work import judge_same_work
from tests.support.builders import make_case, make_record

pytestmark = [
    pytest.mark.frameworks,
    # torch.distributed.optim compiles its functional optimizers by it.
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def process_group(tmp_path_factory):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    meeting = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def case(**backend_options):
    return make_case(
        ranks=1,
        batch=12,
        workload_options={"hidden": 16, "optimizer": "adamw", "clip": 0.5},
        backend_options=backend_options,
    )


def judged(fsdp_case, reference):
    session = FsdpSession(0, 1, "cpu", FsdpOptions(**fsdp_case.backend_options), "gloo")
    work = SYNTHETIC.build(fsdp_case, session)
    proof = prove_training(work, lambda: SYNTHETIC.build(fsdp_case, reference), 2, FLOAT32_TOLERANCE)
    return judge_same_work([make_record(0, 1, proof=proof)])


@pytest.mark.parametrize("units", ["blocks", "model"])
def test_the_reference_of_mixed_precision_rounds_as_the_sharded_model_does(units):
    mixed = case(param_dtype="bf16", units=units)
    found = judged(mixed, FSDP.reference_session(mixed, "cpu"))
    assert (found.verdict, found.label) == ("same", "float32, rounding of bfloat16")
    assert found.deviation < 1e-5
    assert "module." not in found.quantity


def test_the_rounding_of_mixed_precision_is_not_hidden():
    found = judged(case(param_dtype="bf16"), Session())
    assert found.verdict == "different"
    assert found.deviation > FLOAT32_TOLERANCE.value


def test_a_sharded_optimizer_is_restored_and_becomes_whole():
    import torch

    session = DdpSession(0, 1, "cpu", DdpOptions(optimizer_sharding="zero"), "gloo")
    work = SYNTHETIC.build(case(), session)
    work.step()
    saved, before = work.save(), [tensor.clone() for tensor in work.snapshot()]
    with session.no_sync():
        work.step()
        work.step()
    assert not all(torch.equal(*pair) for pair in zip(work.snapshot(), before, strict=True))
    work.restore(saved)
    assert all(torch.equal(*pair) for pair in zip(work.snapshot(), before, strict=True))
    state = copy.deepcopy(work.optimizer.state_dict()["state"])
    assert {int(entry["step"]) for entry in state.values()} == {1}
    work.optimizer.consolidate_state_dict(to=0)
    assert work.optimizer.whole_state_dict()["state"].keys() == state.keys()
