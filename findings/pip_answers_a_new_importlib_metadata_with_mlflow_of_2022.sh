#!/usr/bin/env bash
# Beside a new importlib_metadata, pip installs an mlflow-skinny of June 2022, which can't be imported, and succeeds.
#
# mlflow-skinny 3.17.2 asks for importlib_metadata below 10, and 1.28.0 asked for one below 5. Where a constraint names
# 10.2.0, pip tries each older release until one has no upper bound: 1.27.0, a hundred releases back. It ends with
# status 0, and `pip check` finds nothing, since 1.27.0 has no upper bound on protobuf either; that is why its import
# fails. Only a version of mlflow-skinny, or a lower bound, makes pip refuse.
#
# Versions: mlflow-skinny 3.17.2, importlib_metadata 10.2.0, protobuf 7.36.2, pip 23.2.1
# Seen:
#     mlflow-skinny==3.17.2: pip ends with 1
#     mlflow-skinny<=3.17.2: pip ends with 0
#     pip check: No broken requirements found.
#     installed: 1.27.0
#     import mlflow: cannot import name 'service' from 'google.protobuf'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
pip() { "$folder/env/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install pip==23.2.1
printf '%s\n' importlib_metadata==10.2.0 protobuf==7.36.2 >"$folder/constraints.txt"
cat >"$folder/finding.py" <<'PYTHON'
from importlib.metadata import version

print("installed:", version("mlflow-skinny"))
try:
    import mlflow
except ImportError as problem:
    print("import mlflow:", str(problem).partition(" (")[0])
else:
    print("import mlflow:", mlflow.__version__)
PYTHON
{
  for wanted in "mlflow-skinny==3.17.2" "mlflow-skinny<=3.17.2"; do
    status=0
    pip install --constraint "$folder/constraints.txt" "$wanted" 2>"$folder/err" || status=$?
    echo "$wanted: pip ends with $status"
  done
  echo "pip check: $("$folder/env/bin/pip" check)"
  "$folder/env/bin/python" "$folder/finding.py"
} | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED' || { cat "$folder/err" >&2; exit 1; }
mlflow-skinny==3.17.2: pip ends with 1
mlflow-skinny<=3.17.2: pip ends with 0
pip check: No broken requirements found.
installed: 1.27.0
import mlflow: cannot import name 'service' from 'google.protobuf'
EXPECTED
echo "still so"
