"""A training loop that an observer watches, as one rank: FOLDER RANKS RANK. Prints what the observer knows."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from bench.core.case import Case
from bench.rank.program.decomposition import Decomposition
from bench.rank.tensors import digest_tensors

STEPS_BEFORE = 3


def train(world: int, rank: int, observer: Decomposition, *, observed: bool) -> str:
    """Train a model; the digest of its parameters."""
    torch.manual_seed(0)
    samples = TensorDataset(torch.randn(1024, 64), torch.randint(0, 10, (1024,)))
    batches: Any = iter(DataLoader(samples, batch_size=8, sampler=range(rank, 1024, world)))
    plain = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(3)), torch.nn.Linear(64, 10))
    # Small buckets: several messages a step, of which the last one is not the only one.
    model = DistributedDataParallel(plain, bucket_cap_mb=0.02)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    extra = observer.steps(None)
    for step in range(STEPS_BEFORE + extra):
        if observed and step == STEPS_BEFORE:
            observer.begin(extra)
        images, labels = next(batches)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        if observed and step >= STEPS_BEFORE:
            observer.step_ended()
    return digest_tensors(plain.parameters())


def main(folder: str, ranks: str, number: str) -> None:
    world, rank = int(ranks), int(number)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}", rank=rank, world_size=world)
    observer = Decomposition(
        Case(workload="script", backend="torchrun", transport="own", ranks=world, batch=1, steps=40)
    )
    digests = {name: train(world, rank, observer, observed=name == "observed") for name in ("plain", "observed")}
    phases = observer.finish()["phases"].model_dump()
    print(json.dumps({"fields": {"phases": phases}, **digests}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
