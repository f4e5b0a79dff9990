#!/usr/bin/env bash
# Module.compile() and torch.compile() of a container or of a parallel wrapper compile nothing, and say nothing.
#
# torch.compile(model) and model.compile() look like two spellings of one request. For a model that is a class of torch
# itself, such as nn.Sequential, they are not: Dynamo skips frames of torch's own files, and model.compile() compiles the
# function Module._call_impl, which is in one. torch.compile(model) traces the model's forward instead. But even under
# torch.compile a DistributedDataParallel around an nn.Sequential gives no graph: both forwards are in such files. The
# step runs uncompiled, as fast as before, and nothing says so. A benchmark of compiled steps has to count graphs.
#
# Versions: torch 2.13.0 (CPU, gloo, one rank)
# Seen:
#     torch.compile(sequential): 1 graph
#     sequential.compile(): 0 graphs
#     torch.compile(DistributedDataParallel(sequential)): 0 graphs
#     torch.compile(own function around its forward): 1 graph
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import socket

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

graphs = 0


def backend(graph, inputs):
    """Runs a graph as it is, and counts it."""
    global graphs
    graphs += 1
    return graph.forward


def show(title, call):
    """How many graphs one call compiles."""
    global graphs
    graphs = 0
    torch._dynamo.reset()
    call(torch.ones(4, 8))
    print(f"{title}: {graphs} graph{'s' * (graphs != 1)}", flush=True)


def sequential():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU())


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
show("torch.compile(sequential)", torch.compile(sequential(), backend=backend))
model = sequential()
model.compile(backend=backend)
show("sequential.compile()", model)
parallel = DistributedDataParallel(sequential())
show("torch.compile(DistributedDataParallel(sequential))", torch.compile(parallel, backend=backend))
inner = sequential()


def forward(inputs):
    return inner.forward(inputs)


show("torch.compile(own function around its forward)", torch.compile(forward, backend=backend))
dist.destroy_process_group()
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
torch.compile(sequential): 1 graph
sequential.compile(): 0 graphs
torch.compile(DistributedDataParallel(sequential)): 0 graphs
torch.compile(own function around its forward): 1 graph
EXPECTED
echo "still so"
