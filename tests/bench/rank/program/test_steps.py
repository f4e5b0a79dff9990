"""Which optimizer steps count: nested ones once, of several optimizers the first one's."""

from __future__ import annotations

import gc

import pytest

from bench.rank.program.steps import STATE_INITIALIZERS, OptimizerSteps
from tests.support.programs import program_case, run_ranks


class Optimizer:
    """Calls the hooks as torch's function around a step does."""

    def __init__(self, steps, inner=None):
        self.steps, self.inner = steps, inner

    def step(self, error=None):
        self.steps.before(self, (), {})
        if self.inner is not None:
            self.inner.step(error)
        elif error is not None:
            raise error
        self.steps.after(self, (), {})


@pytest.fixture
def ended():
    return []


@pytest.fixture
def steps(ended):
    return OptimizerSteps(ended.append)


def test_a_nested_step_counts_once(steps, ended):
    optimizer = Optimizer(steps, Optimizer(steps, Optimizer(steps)))
    optimizer.step()
    optimizer.step()
    assert ended == [optimizer, optimizer]
    assert steps.optimizers == 1


@pytest.mark.parametrize(("module", "function"), sorted(STATE_INITIALIZERS))
def test_a_step_that_only_makes_the_state_of_an_optimizer_does_not_count(steps, ended, module, function):
    names = {"__name__": module}
    exec(f"def {function}(optimizer):\n    optimizer.step()", names)
    optimizer = Optimizer(steps)
    names[function](optimizer)
    assert (ended, steps.optimizers) == ([], 0)
    optimizer.step()
    assert ended == [optimizer]


@pytest.mark.frameworks
def test_the_functions_that_make_the_state_of_an_optimizer_are_where_they_are_looked_for():
    for module, function in STATE_INITIALIZERS:
        library = pytest.importorskip(module)
        assert callable(getattr(library, function))


def test_a_step_that_fails_does_not_hide_later_ones(steps, ended):
    optimizer = Optimizer(steps, Optimizer(steps))
    with pytest.raises(ValueError, match="no gradient"):
        optimizer.step(ValueError("no gradient"))
    optimizer.step()
    optimizer.step()
    assert ended == [optimizer, optimizer]


def test_the_first_of_several_optimizers_marks_the_steps(steps, ended):
    discriminator, generator = Optimizer(steps), Optimizer(steps)
    for _ in range(3):
        discriminator.step()
        generator.step()
    assert ended == [discriminator] * 3
    assert steps.optimizers == 2


def test_an_optimizer_takes_the_place_of_one_that_was_deleted(steps, ended):
    first = Optimizer(steps)
    first.step()
    ended.clear()
    del first
    gc.collect()
    second = Optimizer(steps)
    second.step()
    assert ended == [second]


REAL = """
import torch
from torch.utils.data import DataLoader, TensorDataset

model = torch.nn.Linear(8, 2)
optimizer = torch.optim.AdamW(model.parameters())
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
scaler = torch.amp.GradScaler("cpu")
data = TensorDataset(torch.randn(96, 8), torch.randint(0, 2, (96,)))
loader = DataLoader(data, batch_size=8, num_workers=WORKERS, drop_last=True)
test_loader = DataLoader(TensorDataset(torch.randn(64, 8)), batch_size=16)
"""
TRAIN = """
def main():
    for epoch in range(1000):
        for number, (x, y) in enumerate(loader):
            loss = torch.nn.functional.cross_entropy(model(x), y) / 3
            scaler.scale(loss).backward()
            if number % 3 == 2:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                schedule.step()
        with torch.no_grad():
            for (x,) in test_loader:
                model(x)
        torch.save(model.state_dict(), "checkpoint.pt")

if __name__ == "__main__":
    main()
"""


@pytest.mark.frameworks
def test_a_program_of_real_torch_with_accumulation_evaluation_and_checkpoints(tmp_path):
    text = REAL.replace("WORKERS", "0") + TRAIN
    (rank,) = run_ranks(program_case(text, tmp_path, steps=20), tmp_path, substitute=False, limit_s=120)
    assert rank.status == 0, rank.output
    run = rank.record.program
    # Three batches of eight a step; batches of the evaluation are none of the training.
    assert (run.amount_per_step, run.loaders, run.optimizers) == (24.0, 1, 1)
    assert run.checkpoints == (run.steps - 1) // 4
    assert run.evaluation_s > 0


@pytest.mark.frameworks
def test_workers_of_a_data_loader_are_copies_that_count_nothing(tmp_path):
    text = REAL.replace("WORKERS", "2") + TRAIN
    (rank,) = run_ranks(program_case(text, tmp_path, steps=8, warmup=2), tmp_path, substitute=False, limit_s=120)
    assert rank.status == 0, rank.output
    assert (rank.record.program.amount_per_step, rank.record.program.exit_problem) == (24.0, None)


@pytest.mark.frameworks
def test_a_step_of_horovods_optimizer_counts_once(tmp_path):
    pytest.importorskip("horovod.torch")
    text = """
import horovod.torch as hvd
import torch
hvd.init()
model = torch.nn.Linear(8, 2)
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.1), named_parameters=model.named_parameters()
)
for _ in range(12):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).sum().backward()
    optimizer.step()
"""
    options = {"whole": True, "samples_per_step": "4"}
    (rank,) = run_ranks(program_case(text, tmp_path, options=options), tmp_path, substitute=False, limit_s=120)
    assert rank.status == 0, rank.output
    assert rank.record.program.steps == 12


@pytest.mark.frameworks
def test_a_program_that_asks_for_more_ranks_than_run(tmp_path):
    text = """
import torch.distributed as dist
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:29999", rank=0, world_size=4)
"""
    (rank,) = run_ranks(program_case(text, tmp_path), tmp_path, substitute=False, limit_s=120)
    assert rank.error.startswith("train.py asks torch.distributed for 4 ranks, and 1 run")


@pytest.mark.frameworks
def test_a_distributed_checkpoint_that_is_being_saved_is_whole(tmp_path):
    text = """
import torch, torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.utils.data import DataLoader, TensorDataset

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = torch.nn.Linear(2000, 2000)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(64, 2000)), batch_size=4)
step = 0
while True:
    for (x,) in loader:
        model(x).sum().backward()
        optimizer.step()
        step += 1
        if step == 5:
            dcp.save(model.state_dict(), checkpoint_id="blocking")
        if step == 14:
            dcp.async_save(model.state_dict(), checkpoint_id="async")
"""
    (rank,) = run_ranks(program_case(text, tmp_path, steps=12, warmup=3), tmp_path, substitute=False, limit_s=120)
    assert rank.status == 0, rank.output
    run = rank.record.program
    # The pause of an asynchronous one is that of the call.
    assert run.checkpoints == 2
    assert run.checkpoint_s > 0
    for folder in ("blocking", "async"):
        # Written last, when all else is.
        assert (tmp_path / folder / ".metadata").stat().st_size > 0
        assert sum(path.stat().st_size for path in (tmp_path / folder).glob("*.distcp")) > 2000 * 2000 * 4


@pytest.mark.frameworks
def test_ranks_of_two_nodes_are_stopped_at_the_same_step(tmp_path):
    text = """
import torch, torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(64, 8)), batch_size=4)
try:
    for _ in range(100_000):
        for (x,) in loader:
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
finally:
    dist.destroy_process_group()
"""
    case = program_case(text, tmp_path, ranks=2, ranks_per_node=1, decompose=False)
    first, second = run_ranks(case, tmp_path, substitute=False, limit_s=120)
    assert (first.status, second.status) == (0, 0), second.output
    assert (first.record.node, second.record.node) == (0, 1)
    assert first.record.program.steps == second.record.program.steps
    assert first.record.warmup_steps == second.record.warmup_steps
    assert len(first.record.step_s) == len(second.record.step_s)
    assert second.record.program.exit_problem is None
