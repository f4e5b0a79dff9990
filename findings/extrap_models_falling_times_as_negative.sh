#!/usr/bin/env bash
# Extra-P models strong scaling by a function that becomes negative within the measured range, and says nothing.
#
# Its search space has no negative exponents unless --options allow_negative_exponents=True is given. Exact step times of
# 0.01 + 0.8/N s at 1 to 16 ranks become a falling logarithm: below zero beyond some 14 ranks, although 16 were measured.
# There is no warning and the exit status is 0. With the option the law that made the numbers is found.
#
# Versions: extrap 4.2.5
# Seen:
#     by default:  status 0, negative at 16 ranks: True
#     with option: status 0, negative at 16 ranks: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check extrap==4.2.5
cat >"$folder/finding.py" <<'PYTHON'
import json
import math
import re
import subprocess
import sys

extrap, file = sys.argv[1:]
with open(file, "w") as out:
    for ranks in (1, 2, 4, 8, 16):
        out.write(json.dumps({"params": {"ranks": ranks}, "metric": "time", "value": 0.01 + 0.8 / ranks}) + "\n")


def model(*options):
    command = [extrap, "--disable-progress", "--json", file, "--print", "functions", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout.strip()
    formula = re.sub(r"log2\(ranks\)\^\((\S+?)\)", r"math.log2(ranks)**(\1)", text).replace("^", "**")
    return f"status {done.returncode}, negative at 16 ranks: {eval(formula, {'math': math, 'ranks': 16}) < 0}"


print("by default: ", model())
print("with option:", model("--options", "allow_negative_exponents=True"))
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" "$folder/env/bin/extrap" "$folder/times.jsonl" | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
by default:  status 0, negative at 16 ranks: True
with option: status 0, negative at 16 ranks: False
EXPECTED
echo "still so"
