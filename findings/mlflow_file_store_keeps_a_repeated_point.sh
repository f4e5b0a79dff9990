#!/usr/bin/env bash
# MLflow keeps a metric's point once or as often as it is logged, depending on where the runs are.
#
# The same metric, value, step and timestamp logged three times is three points of get_metric_history() in the file store,
# which appends a line for each, and one point in a database, whose primary key is all of these columns. Whoever logs
# a run anew (an export that is repeated, a request that is retried) counts twice in one of them and not in the other. A
# second point that differs in its timestamp alone is kept by both.
#
# Versions: mlflow-skinny 3.17.2, alembic 1.20.1, sqlalchemy 2.1.9
# Seen:
#     file store: 3 points of the same timestamp, 4 with another one
#     SQLite: 1 points of the same timestamp, 2 with another one
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mlflow-skinny==3.17.2 alembic==1.20.1 sqlalchemy==2.1.9
cat >"$folder/finding.py" <<'PYTHON'
import sys

from mlflow import MlflowClient

for store, uri in ("file store", f"file://{sys.argv[1]}/runs"), ("SQLite", f"sqlite:///{sys.argv[1]}/runs.db"):
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("repeated")).info.run_id
    for _ in range(3):
        client.log_metric(run, "loss", 0.5, timestamp=1000, step=1)
    same = len(client.get_metric_history(run, "loss"))
    client.log_metric(run, "loss", 0.5, timestamp=1001, step=1)
    other = len(client.get_metric_history(run, "loss"))
    print(f"{store}: {same} points of the same timestamp, {other} with another one")
PYTHON
MLFLOW_ALLOW_FILE_STORE=true "$folder/env/bin/python" "$folder/finding.py" "$folder" 2>"$folder/err" | tee "$folder/out" ||
  { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
file store: 3 points of the same timestamp, 4 with another one
SQLite: 1 points of the same timestamp, 2 with another one
EXPECTED
echo "still so"
