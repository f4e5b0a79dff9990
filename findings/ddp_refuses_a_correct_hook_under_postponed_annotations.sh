#!/usr/bin/env bash
# register_comm_hook refuses a hook whose annotations are right, where its module postpones annotations.
#
# DDP compares the hook's annotations with the classes dist.GradBucket and torch.futures.Future[torch.Tensor] themselves.
# Under "from __future__ import annotations" every annotation is text, so that the hook that the documentation shows is
# refused; the message asks for what is written there. A hook without annotations is taken.
#
# Versions: torch 2.13.0 (CPU, gloo, one rank)
# Seen:
#     annotated, evaluated: accepted
#     annotated, postponed: ValueError: Communication hook: bucket annotation should be dist.GradBucket.
#     not annotated:        accepted
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import socket

import torch
import torch.distributed as dist

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)

ANNOTATED = """
import torch
import torch.distributed as dist

def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    future = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future
"""
BARE = ANNOTATED.replace(": object", "").replace(": dist.GradBucket", "")
BARE = BARE.replace(" -> torch.futures.Future[torch.Tensor]", "")


def outcome(source):
    names = {}
    exec(compile(source, "hooks.py", "exec", dont_inherit=True), names)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    try:
        model.register_comm_hook(None, names["hook"])
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}".splitlines()[0]
    model(torch.ones(1, 2)).sum().backward()
    return "accepted"


print("annotated, evaluated:", outcome(ANNOTATED))
print("annotated, postponed:", outcome("from __future__ import annotations\n" + ANNOTATED))
print("not annotated:       ", outcome(BARE))
dist.destroy_process_group()
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
annotated, evaluated: accepted
annotated, postponed: ValueError: Communication hook: bucket annotation should be dist.GradBucket.
not annotated:        accepted
EXPECTED
echo "still so"
