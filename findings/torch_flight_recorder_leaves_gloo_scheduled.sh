#!/usr/bin/env bash
# torch's flight recorder calls a collective over Gloo "scheduled" long after it is done, and has two names for its group.
#
# The recorder lists the last collectives of a rank, each with a state: "scheduled", "started" or "completed". It is on by
# default and records Gloo too. But states come from CUDA events, which Gloo has none of: every entry stays "scheduled",
# whether it is done or hangs. Who looks for the first collective that is not "completed", as one does for NCCL, finds
# the very first one of the process. Only `retired` tells. The group is "0" and "default_pg" in the entries, and the same
# group is listed under the empty name.
#
# Versions: torch 2.13.0 (CPU, gloo, one rank)
# Seen:
#     ('gloo:all_reduce', 'scheduled', True, 1)
#     ('gloo:broadcast', 'scheduled', True, 2)
#     ('gloo:all_reduce', 'scheduled', True, 3)
#     group of the entries: [['0', 'default_pg']]
#     groups listed: ['']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import json
import sys

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _dump_fr_trace_json

dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
tensor = torch.ones(4)
dist.all_reduce(tensor)
dist.broadcast(tensor, 0)
dist.all_reduce(tensor)
# The synchronous calls have returned: each collective is done.
dumped = json.loads(_dump_fr_trace_json(includeCollectives=True))
for entry in dumped["entries"]:
    print((entry["profiling_name"], entry["state"], entry["retired"], entry["collective_seq_id"]))
groups = []
for entry in dumped["entries"]:
    if entry["process_group"] not in groups:
        groups.append(entry["process_group"])
print("group of the entries:", groups)
print("groups listed:", [group["name"] for group in dumped["pg_config"].values()])
dist.destroy_process_group()
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" "$folder/store" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
('gloo:all_reduce', 'scheduled', True, 1)
('gloo:broadcast', 'scheduled', True, 2)
('gloo:all_reduce', 'scheduled', True, 3)
group of the entries: [['0', 'default_pg']]
groups listed: ['']
EXPECTED
echo "still so"
