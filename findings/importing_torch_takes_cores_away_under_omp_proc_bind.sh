#!/usr/bin/env bash
# With OMP_PROC_BIND=true, "import torch" alone reduces the core mask of the process to one core, and all that is forked
# from it inherits that.
#
# The OpenMP runtime in torch's wheel binds the calling thread to the first place when it is loaded, before any parallel
# region. Who reads os.sched_getaffinity after the import, or forks ranks from a process that has imported torch, takes
# one core for all that there are; a forked child's parallel regions use one core too. Read the mask first, and start
# such a parent without the variable.
#
# Versions: torch 2.13.0 (CPU, x86-64, libgomp in the wheel), on a machine with at least two cores
# Seen:
#     OMP_PROC_BIND unset: all cores before the import, all cores after, all cores in a child
#     OMP_PROC_BIND=true:  all cores before the import, one core after, one core in a child
set -euo pipefail
[ "$(nproc)" -ge 2 ] || { echo "needs two cores"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import os

whole = os.sched_getaffinity(0)


def amount(cores):
    return "all cores" if cores == whole else "one core" if len(cores) == 1 else f"{len(cores)} cores"


import torch

after = os.sched_getaffinity(0)
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, amount(os.sched_getaffinity(0)).encode())
    os._exit(0)
os.wait()
print(f"all cores before the import, {amount(after)} after, {os.read(reader, 99).decode()} in a child")
PYTHON
{
  echo "OMP_PROC_BIND unset: $(env -u OMP_PROC_BIND -u OMP_PLACES -u GOMP_CPU_AFFINITY "$folder/env/bin/python" "$folder/finding.py")"
  echo "OMP_PROC_BIND=true:  $(env -u OMP_PLACES -u GOMP_CPU_AFFINITY OMP_PROC_BIND=true "$folder/env/bin/python" "$folder/finding.py")"
} | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
OMP_PROC_BIND unset: all cores before the import, all cores after, all cores in a child
OMP_PROC_BIND=true:  all cores before the import, one core after, one core in a child
EXPECTED
echo "still so"
