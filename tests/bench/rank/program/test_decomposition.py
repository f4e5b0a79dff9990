"""The decomposition of a program's steps after its window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.rank.program.decomposition import BLOCKS, Decomposition, uninterrupted
from bench.rank.program.exchange import CannotObserveError, ddp_problem, find_exchanges
from bench.rank.program.step_parts import StepParts
from reports.analysis.step_times import split_step
from tests.support.builders import make_case, make_program_record

LOOP = Path(__file__).with_name("observed_loop.py")


def test_an_evaluation_in_a_step_is_left_out():
    assert uninterrupted([1.0, 1.2, 9.0, 0.9]) == [0, 1, 3]


@pytest.mark.parametrize(("step_s", "in_block"), [(None, 3), (0.02, 5), (0.4, 3), (4.0, 1), (1e-6, 100)])
def test_blocks_take_a_tenth_of_a_second_within_bounds(step_s, in_block):
    assert Decomposition(make_case(steps=8)).steps(step_s) == 2 * BLOCKS * (1 + in_block)


def test_a_program_that_ends_by_itself_is_observed_in_no_step_and_says_why():
    whole = Decomposition(make_case(workload_options={"whole": True}))
    assert whole.steps(0.01) == 0
    assert "--whole" in whole.finish()["phases_reason"]


@pytest.mark.frameworks
def test_a_deferred_exchange_changes_no_parameter_and_gives_all_parts(tmp_path):
    arguments = [sys.executable, str(LOOP), str(tmp_path / "rendezvous"), "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*arguments, str(rank)], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    ranks = [json.loads(output.splitlines()[-1]) for output in outputs]
    assert len({rank[name] for rank in ranks for name in ("observed", "plain")}) == 1
    for rank in ranks:
        phases = rank["fields"]["phases"]
        own, parts = phases["alone_step_s"], phases["alone_s"]
        assert parts.keys() == {"data", "forward", "backward", "optimizer"}
        assert all(sum(parts[name][step] for name in parts) <= own[step] for step in range(len(own)))
    assert ranks[0]["fields"]["phases"]["digest"] == ranks[1]["fields"]["phases"]["digest"]


@pytest.fixture
def group(tmp_path):
    """A process group of one rank."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def parallel(**options):
    import torch
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(torch.nn.Linear(4, 4), **options)


@pytest.mark.frameworks
class TestNotObserved:
    def test_a_hook_of_the_program_stays(self, group):
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        module = parallel()
        assert ddp_problem(module) is None
        module.register_comm_hook(None, fp16_compress_hook)
        assert "a communication hook of its own" in ddp_problem(module)

    def test_so_does_one_that_is_built_in(self, group):
        import torch.distributed as dist

        module = parallel()
        module._register_builtin_comm_hook(dist.BuiltinCommHookType.ALLREDUCE)
        with pytest.raises(CannotObserveError, match="a communication hook of its own"):
            find_exchanges()

    def test_a_static_graph(self, group):
        assert "static_graph=True" in ddp_problem(parallel(static_graph=True))

    def test_an_exchange_by_hand_is_not_found(self):
        observer = Decomposition(make_case(ranks=2))
        observer.begin(observer.steps(0.1))
        observer.step_ended()
        assert "no DistributedDataParallel and no DistributedOptimizer" in observer.finish()["phases_reason"]

    def test_one_rank_without_either_has_no_exchange_but_the_parts_that_torch_shows(self):
        import torch

        model = torch.nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        observer = Decomposition(make_case(ranks=1, steps=1))
        steps = observer.steps(None)
        observer.begin(steps)
        for _ in range(steps):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            observer.step_ended()
        phases = observer.finish()["phases"]
        assert phases.alone_s.keys() == {"backward", "optimizer"}
        record = make_program_record(phases=phases)
        split = split_step([record])
        assert split.forward_s is split.data_s is None
        assert split.exposed_s == pytest.approx(0)
        assert split.unattributed_s == pytest.approx(split.step_s - split.backward_s - split.optimizer_s)

    def test_what_a_closure_of_the_optimizer_computes_is_no_part_of_its_step(self):
        import torch

        model = torch.nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def closure():
            optimizer.zero_grad()
            loss = model(torch.ones(2, 4)).sum()
            time.sleep(0.01)
            parts.leave_out(-1.0)
            loss.backward()
            return loss

        parts = StepParts(model)
        optimizer.step(closure)
        times = parts.take()
        parts.restore()
        assert all(times[name] > 0 for name in ("forward", "backward"))
        assert times["optimizer"] >= 1.01, "its own time, and what was added to it while no other part was going on"
        assert times["forward"] + times["backward"] < 1, "and to no other part"

    def test_a_part_that_an_exception_ends_does_not_stay_open(self):
        import torch

        class Failing(torch.nn.Module):
            def forward(self, values):
                raise ValueError("a bad batch")

        model = Failing()
        parts = StepParts(model)
        weight = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        with pytest.raises(ValueError, match="a bad batch"):
            model(weight)
        parts.take()
        optimizer.step()
        times = parts.take()
        parts.restore()
        assert times["forward"] == 0 < times["optimizer"]

    def test_a_program_that_ends_before(self):
        observer = Decomposition(make_case(ranks=1))
        observer.begin(observer.steps(0.1))
        observer.step_ended()
        assert "the program ended before" in observer.finish()["phases_reason"]
