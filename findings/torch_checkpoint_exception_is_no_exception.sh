#!/usr/bin/env bash
# A failed save of torch.distributed.checkpoint raises what `except Exception` lets pass.
#
# CheckpointException derives from BaseException, as KeyboardInterrupt does. A training loop that wraps its saves in
# `try: … except Exception:` in order to go on without a checkpoint ends nevertheless, and so does a benchmark that takes
# a failed save for a result.
#
# Versions: torch 2.13.0 (CPU, gloo, one rank)
# Seen:
#     the folder is a file: CheckpointException
#     caught as an Exception: False
#     its bases: ['BaseException']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import socket
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
caught = False
try:
    try:
        dcp.save({"weights": torch.ones(4)}, checkpoint_id=sys.argv[1])
    except Exception:
        caught = True
except BaseException as problem:
    print(f"the folder is a file: {type(problem).__name__}")
    print(f"caught as an Exception: {caught}")
    print(f"its bases: {[base.__name__ for base in type(problem).__bases__]}")
dist.destroy_process_group()
PYTHON
touch "$folder/taken"
"$folder/env/bin/python" -W ignore "$folder/finding.py" "$folder/taken" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
the folder is a file: CheckpointException
caught as an Exception: False
its bases: ['BaseException']
EXPECTED
echo "still so"
