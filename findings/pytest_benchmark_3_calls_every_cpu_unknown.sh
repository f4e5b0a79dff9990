#!/usr/bin/env bash
# pytest-benchmark 3 writes "unknown" as the CPU of every machine once py-cpuinfo is 6 or newer, and stays silent.
#
# It asks py-cpuinfo for 'brand', which 6.0 renamed to 'brand_raw', and puts 'unknown' in place of what is missing; its
# requirement has no upper bound, so that a fresh installation gets the newer one. Runs of two machines then look like
# runs of one: a comparison of CPUs by that field passes. 'hardware' and the flags still differ.
#
# Versions: pytest-benchmark 3.2.3, pytest 6.2.5, py-cpuinfo 5.0.0 and 9.0.0
# Seen:
#     py-cpuinfo 5.0.0: a brand: True
#     py-cpuinfo 9.0.0: a brand: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'def test_one(benchmark):\n    benchmark(sum, (1, 2))\n' >"$folder/test_one.py"
cat >"$folder/finding.py" <<'PYTHON'
import json
import sys

brand = json.load(open(sys.argv[1]))["machine_info"]["cpu"].get("brand")
print(f"py-cpuinfo {sys.argv[2]}: a brand: {brand not in (None, '', 'unknown')}")
PYTHON
for version in 5.0.0 9.0.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --disable-pip-version-check pytest-benchmark==3.2.3 pytest==6.2.5 "py-cpuinfo==$version" setuptools==75.8.0
  (cd "$folder" && "$folder/$version/bin/python" -W ignore -m pytest -q -p no:cacheprovider --benchmark-json "$folder/$version.json" test_one.py >"$folder/log" 2>&1) || { cat "$folder/log" >&2; exit 1; }
  python3 "$folder/finding.py" "$folder/$version.json" "$version"
done | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
py-cpuinfo 5.0.0: a brand: True
py-cpuinfo 9.0.0: a brand: False
EXPECTED
echo "still so"
