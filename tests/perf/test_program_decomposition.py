"""A model of ours, and the same one in a user's own program: is as much of their steps exposed communication?

Ours leaves the exchange out of some steps, the program's is deferred. Both are decomposed in their own processes; the
two alternate.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import pytest

from bench.core.case import Case, roles_to_start
from bench.plugins import registry
from harness.planning.program import read_program
from harness.sites.base.contract import TrialRequest
from harness.sites.local.site import SITE
from reports.analysis.step_times import split_step
from tests.perf.conftest import spread

PAIRS, BATCH = 8, 128
MODEL = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 10))
samples, labels = torch.randn(BATCH, 784), torch.randint(0, 10, (BATCH,))
{start}
criterion = nn.CrossEntropyLoss()
for _ in range(100_000):
    optimizer.zero_grad()
    criterion(model(samples), labels).backward()
    optimizer.step()
"""
DDP = """
torch.distributed.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
"""
HOROVOD = """
import horovod.torch as hvd
hvd.init()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
"""


def exposed_share(case: Case) -> float:
    """The share of a step that is exposed communication, in one trial."""
    with tempfile.TemporaryDirectory() as folder:
        request = TrialRequest(case, roles_to_start(registry.load_backend(case.backend).launch(case)), Path(folder))
        ending = SITE.start(request).wait(case.timeout_s)
    assert ending.outcome == "ok", (ending.reason, ending.log_tail)
    split = split_step(ending.ranks)
    assert split is not None, ending.ranks[0].phases_reason
    return split.exposed_s / split.step_s


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("backend", "transport", "launcher", "launcher_transport", "start"),
    [("ddp", "gloo", "torchrun", "own", DDP), ("horovod", "gloo", "horovodrun", "any", HOROVOD)],
    ids=["ddp", "horovod"],
)
def test_exposed_communication(
    benchmark, tell, tmp_path, backend, transport, launcher, launcher_transport, start, ranks
):
    text = MODEL.replace("{start}", start.strip()).replace("BATCH", str(BATCH // ranks))
    (tmp_path / "train.py").write_text(text)
    ours = Case(
        workload="synthetic",
        backend=backend,
        transport=transport,
        ranks=ranks,
        batch=BATCH,
        verify_steps=0,
        window_s=0.3,
    )
    theirs = Case(
        workload="script",
        workload_options={"command": "train.py", "samples_per_step": str(BATCH)},
        backend=launcher,
        transport=launcher_transport,
        ranks=ranks,
        batch=1,
        window_s=0.3,
        program=read_program("train.py", tmp_path),
    )
    shares: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: shares.append((exposed_share(ours), exposed_share(theirs))), rounds=PAIRS, iterations=1)
    benchmark.extra_info |= {"shares": shares}
    differences = [program - own for own, program in shares]
    tell(
        f"exposed share of ours: median {statistics.median(own for own, _ in shares):.3f}, of the program "
        f"{statistics.median(program for _, program in shares):.3f}; difference {spread(differences, 'pairs')}"
    )
