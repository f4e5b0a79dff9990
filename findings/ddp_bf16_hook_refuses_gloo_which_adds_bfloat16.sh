#!/usr/bin/env bash
# DDP refuses its own bf16 compression hook over Gloo, although Gloo adds bfloat16 and the hook works there.
#
# The check in DistributedDataParallel.register_comm_hook looks at the name of the hook and at how torch was built: without
# CUDA 11 and NCCL 2.10 it refuses, whatever the process group is. The fp16 hook is let pass. The same function under
# another name exchanges the right gradients over Gloo.
#
# Versions: torch 2.13.0 (CPU, gloo, two ranks)
# Seen:
#     Gloo's sum of 1.5 and 2.5 in bfloat16: 4.0
#     bf16_compress_hook: TypeError
#     the same hook in a lambda: mean gradient 2.0
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
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel


def main(rank, port):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

    def show(text):
        if rank == 0:
            print(text, flush=True)

    number = torch.tensor([1.5 + rank], dtype=torch.bfloat16)
    dist.all_reduce(number)
    show(f"Gloo's sum of 1.5 and 2.5 in bfloat16: {float(number)}")
    model = DistributedDataParallel(torch.nn.Linear(1, 1, bias=False))
    try:
        model.register_comm_hook(None, bf16_compress_hook)
        show("bf16_compress_hook: accepted")
    except TypeError:
        show("bf16_compress_hook: TypeError")
    model.register_comm_hook(None, lambda state, bucket: bf16_compress_hook(state, bucket))
    # The gradients of the ranks are 1 and 3.
    model(torch.tensor([[1.0 + 2 * rank]])).sum().backward()
    show(f"the same hook in a lambda: mean gradient {float(model.module.weight.grad)}")
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    mp.spawn(main, args=(free,), nprocs=2)
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
Gloo's sum of 1.5 and 2.5 in bfloat16: 4.0
bf16_compress_hook: TypeError
the same hook in a lambda: mean gradient 2.0
EXPECTED
echo "still so"
