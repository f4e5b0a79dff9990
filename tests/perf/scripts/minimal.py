"""What a careful person would write by hand: one model, one backend, one timed loop. Measured beside our cells.

python minimal.py ddp|horovod synthetic|mnist STEPS WARMUP GLOBAL_BATCH DATA.npz
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn

backend, workload, steps, warmup, batch, data = sys.argv[1:7]
steps, warmup, batch = int(steps), int(warmup), int(batch)
torch.set_num_threads(1)
torch.manual_seed(0)

if workload == "synthetic":
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 10))
else:
    model = nn.Linear(784, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
if backend == "ddp":
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    model = nn.parallel.DistributedDataParallel(model)
    barrier = dist.barrier
else:
    import horovod.torch as hvd

    hvd.init()
    rank, world = hvd.rank(), hvd.size()
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())

    def barrier() -> None:
        hvd.allreduce(torch.zeros(1))


each = batch // world
if workload == "synthetic":
    pool = [(torch.randn(each, 784), torch.randint(0, 10, (each,))) for _ in range(4)]

    def next_batch(step: int):
        return pool[step % 4]

else:
    loaded = np.load(data)
    images = (torch.from_numpy(loaded["images"]).float() / 255 - 0.1307) / 0.3081
    labels = torch.from_numpy(loaded["labels"])
    shard = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[rank::world]
    per_epoch = len(shard) // each

    def next_batch(step: int):
        chosen = shard[step % per_epoch * each : (step % per_epoch + 1) * each]
        return images[chosen], labels[chosen]


criterion = nn.CrossEntropyLoss()


def run(first: int, count: int) -> None:
    for step in range(first, first + count):
        inputs, targets = next_batch(step)
        optimizer.zero_grad()
        criterion(model(inputs), targets).backward()
        optimizer.step()


run(0, warmup)
barrier()
began = time.perf_counter()
run(warmup, steps)
print(json.dumps({"rank": rank, "seconds": time.perf_counter() - began}), flush=True)
barrier()
os._exit(0)
