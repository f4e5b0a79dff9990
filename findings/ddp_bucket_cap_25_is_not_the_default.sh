#!/usr/bin/env bash
# DistributedDataParallel documents bucket_cap_mb as 25 MiB by default, but naming 25 is not the same as naming nothing.
#
# Without a value the first bucket holds 1 MiB, so that the exchange begins early, and the others 25 MiB. With
# bucket_cap_mb=25 every bucket, the first one too, holds 25 MiB. In the first backward pass all gradients travel as one
# bucket either way: buckets are laid out again, in the order in which gradients became ready, after that pass. Who
# measures exposed communication must not take the first step, and must not "spell out the default".
#
# Versions: torch 2.13.0 (CPU, gloo, one rank)
# Seen:
#     nothing named:    [[40.0], [1.0, 25.0, 14.0], [1.0, 25.0, 14.0]]
#     bucket_cap_mb=25: [[40.0], [25.0, 15.0], [25.0, 15.0]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import os
import socket

import torch
import torch.distributed as dist

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)


def buckets_mib(**options):
    """The sizes of the buckets of three backward passes over 40 MiB of gradients in tensors of 256 KiB."""
    layers = [torch.nn.Linear(256, 256, bias=False) for _ in range(160)]
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers), **options)
    sizes = []

    def hook(state, bucket):
        sizes.append(bucket.buffer().numel() * 4 / 2**20)
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    model.register_comm_hook(None, hook)
    passes = []
    for _ in range(3):
        sizes.clear()
        model(torch.ones(1, 256)).sum().backward()
        passes.append(list(sizes))
    return passes


print("nothing named:   ", buckets_mib())
print("bucket_cap_mb=25:", buckets_mib(bucket_cap_mb=25))
dist.destroy_process_group()
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
nothing named:    [[40.0], [1.0, 25.0, 14.0], [1.0, 25.0, 14.0]]
bucket_cap_mb=25: [[40.0], [25.0, 15.0], [25.0, 15.0]]
EXPECTED
echo "still so"
