"""What a careful person would write by hand: one model, one backend, one timed loop. Measured beside our cells.

python minimal.py ddp|fsdp|horovod mlp|transformer|convnet|mnist STEPS WARMUP GLOBAL_BATCH [MNIST.npz]

All but mnist train on random data. Their shapes are those of our synthetic workload's models.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn

backend, workload = sys.argv[1:3]
steps, warmup, batch = map(int, sys.argv[3:6])
torch.set_num_threads(1)
torch.manual_seed(0)

if workload == "mlp":
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 10))
elif workload == "transformer":
    block = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(1000, 128), encoder, nn.Linear(128, 1000))
elif workload == "convnet":
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.GroupNorm(1, 32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.GroupNorm(1, 32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
else:
    model = nn.Linear(784, 10)
if backend in ("ddp", "fsdp"):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    barrier = dist.barrier
if backend == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
elif backend == "fsdp":
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world,))
    layers = encoder.layers if workload == "transformer" else ()
    for unit in (*layers, *model.children(), model):
        if any(True for _ in unit.parameters()):
            fully_shard(unit, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
if backend == "horovod":
    import horovod.torch as hvd

    hvd.init()
    rank, world = hvd.rank(), hvd.size()
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())

    def barrier() -> None:
        hvd.allreduce(torch.zeros(1))


each = batch // world
if workload == "mnist":
    loaded = np.load(sys.argv[6])
    images = (torch.from_numpy(loaded["images"]).float() / 255 - 0.1307) / 0.3081
    labels = torch.from_numpy(loaded["labels"])
    shard = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[rank::world]
    per_epoch = len(shard) // each

    def next_batch(step: int):
        chosen = shard[step % per_epoch * each : (step % per_epoch + 1) * each]
        return images[chosen], labels[chosen]

else:

    def random_batch():
        if workload == "transformer":
            tokens = torch.randint(0, 1000, (each, 33))
            return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        shape = (784,) if workload == "mlp" else (3, 16, 16)
        return torch.randn(each, *shape), torch.randint(0, 10, (each,))

    pool = [random_batch() for _ in range(4)]

    def next_batch(step: int):
        return pool[step % 4]


cross_entropy = nn.CrossEntropyLoss()


def criterion(scores, targets):
    # Every token of a sequence is a prediction of its own.
    return cross_entropy(scores.flatten(0, -2), targets.flatten())


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
