#!/usr/bin/env bash
# FSDP2 has no step without communication, and over gloo its reduce-scatter is a whole all-reduce.
#
# Under DDP a step inside no_sync() exchanges nothing, so that the time of a step without it is a rank's own work.
# set_requires_gradient_sync(False) looks like the same switch for fully_shard, but it leaves out the reduction only: the
# parameters are still gathered before the forward pass and again before the backward pass, as often as in a full step.
# Exposed communication measured that way is too small. And torch's gloo has no reduce-scatter of its own: each one runs
# as gloo's all-reduce of the whole tensor, about twice the bytes that the algorithm needs.
#
# Versions: torch 2.13.0 (CPU, gloo, two ranks)
# Seen:
#     gradient sync True: {'c10d::_allgather_base_': 4, 'c10d::_reduce_scatter_base_': 2, 'gloo:all_gather': 4, 'gloo:all_reduce': 2}
#     gradient sync False: {'c10d::_allgather_base_': 4, 'c10d::_reduce_scatter_base_': 0, 'gloo:all_gather': 4, 'gloo:all_reduce': 0}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import fully_shard
from torch.profiler import ProfilerActivity, profile

COLLECTIVES = ("c10d::_allgather_base_", "c10d::_reduce_scatter_base_", "gloo:all_gather", "gloo:all_reduce")


def main(rank, port):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    for layer in model:
        fully_shard(layer)
    fully_shard(model)

    def collectives(sync):
        """How often each collective ran in one forward and backward pass."""
        model.set_requires_gradient_sync(sync)
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            model(torch.ones(4, 64)).sum().backward()
        counts = {event.key: event.count for event in trace.key_averages()}
        return {name: counts.get(name, 0) for name in COLLECTIVES}

    collectives(True)
    for sync in (True, False):
        counts = collectives(sync)
        if rank == 0:
            print(f"gradient sync {sync}: {counts}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    mp.spawn(main, args=(free,), nprocs=2)
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
gradient sync True: {'c10d::_allgather_base_': 4, 'c10d::_reduce_scatter_base_': 2, 'gloo:all_gather': 4, 'gloo:all_reduce': 2}
gradient sync False: {'c10d::_allgather_base_': 4, 'c10d::_reduce_scatter_base_': 0, 'gloo:all_gather': 4, 'gloo:all_reduce': 0}
EXPECTED
echo "still so"
