"""A program that reports its training: proven across rank counts, and its steps decomposed."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Harness

PROGRAM = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
import harness

dist.init_process_group("gloo")
torch.manual_seed(0)
samples = TensorDataset(torch.randn(2048, 256), torch.randint(0, 10, (2048,)))
loader = DataLoader(samples, batch_size=64 // dist.get_world_size(), sampler=DistributedSampler(samples))
model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
model = DistributedDataParallel(model, bucket_cap_mb=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(100):
    for features, labels in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(features), labels)
        loss.backward()
        optimizer.step()
        harness.report(loss=loss, parameters=model)
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    harness = Harness(tmp_path_factory.mktemp("program"), preloaded=True)
    (harness.folder / "train.py").write_text(PROGRAM)
    program = ("--script", "train.py", "--launcher", "torchrun", "--ranks", "1,2", "--steps", "40")
    document = harness.lean_sweep(*program, "--scaling", "strong", keeping=("decompose",))
    return {cell["ranks"]: cell for cell in document["cells"]}


def test_losses_of_two_ranks_are_those_of_one(cells):
    proof = cells[2]["same_work"]
    assert (proof["verdict"], cells[1]["same_work"]["verdict"]) == ("same", "same")
    assert 0 < proof["deviation"] < 1e-5
    assert "against 1 rank" in proof["label"]


def test_the_step_is_decomposed_without_help_of_the_program(cells):
    parts = cells[2]["decomposition"]["parts_s"]
    assert {"data", "forward", "backward", "optimizer", "exposed"} <= parts.keys()
    total_s = sum(part["value"] for part in parts.values())
    assert total_s == pytest.approx(cells[2]["decomposition"]["step_s"]["value"])
    assert cells[1]["decomposition"]["parts_s"]["exposed"]["value"] == 0


def test_the_document_says_how_samples_were_counted(cells):
    assert cells[2]["program"]["counted"] == "DataLoader"
    assert cells[2]["program"]["whole"] is None
