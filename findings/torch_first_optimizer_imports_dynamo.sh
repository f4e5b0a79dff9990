#!/usr/bin/env bash
# The first optimizer of a process imports torch._dynamo: some 800 modules and over a second of CPU, in the first trial
# step's way.
#
# "import torch" leaves torch._dynamo alone. Constructing any optimizer imports it, also where nothing is compiled. In a
# fresh process per trial that second is paid by every rank and looks like start-up of the backend; a parent that ranks
# are forked from must import torch._dynamo, not just torch.
#
# Versions: torch 2.13.0 (CPU)
# Seen:
#     torch._dynamo after import torch:  False
#     torch._dynamo after one optimizer: True
#     more than 500 modules imported:    True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import sys

import torch

parameter = torch.nn.Parameter(torch.zeros(1))
before = set(sys.modules)
torch.optim.SGD([parameter], lr=0.1)
added = set(sys.modules) - before
print("torch._dynamo after import torch: ", "torch._dynamo" in before)
print("torch._dynamo after one optimizer:", "torch._dynamo" in added)
print("more than 500 modules imported:   ", len(added) > 500)
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
torch._dynamo after import torch:  False
torch._dynamo after one optimizer: True
more than 500 modules imported:    True
EXPECTED
echo "still so"
