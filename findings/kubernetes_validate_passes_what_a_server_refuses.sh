#!/usr/bin/env bash
# kubernetes-validate --strict checks types and field names, not values: a Job that every API server refuses is valid.
#
# The schemas of Kubernetes' OpenAPI document name restartPolicy and completionMode as plain strings and give names,
# labels and sizes no pattern or bound, since the server checks those in code. So a Job with restartPolicy Always, a
# completionMode of another world, a name in capitals and a label value of 70 characters passes strictly, while a wrong
# type or an unknown field is found. Values need checks of one's own.
#
# Versions: kubernetes-validate 1.37.0
# Seen:
#     as it should be:         passes
#     restartPolicy Always:    passes
#     completionMode Sideways: passes
#     name in capitals:        passes
#     label of 70 characters:  passes
#     completions a text:      refused ('two' is not of type 'integer', 'null')
#     unknown field:           refused (Additional properties are not allowed ('completion' was unex)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 pyyaml==6.0.3
cat >"$folder/finding.py" <<'PYTHON'
import copy

import kubernetes_validate

JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "train"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
}


def verdict(change):
    job = copy.deepcopy(JOB)
    change(job)
    try:
        kubernetes_validate.validate(job, "1.37", strict=True)
    except kubernetes_validate.ValidationError as problem:
        return f"refused ({problem.message[:60]})"
    return "passes"


print("as it should be:        ", verdict(lambda job: None))
print("restartPolicy Always:   ", verdict(lambda job: job["spec"]["template"]["spec"].update(restartPolicy="Always")))
print("completionMode Sideways:", verdict(lambda job: job["spec"].update(completionMode="Sideways")))
print("name in capitals:       ", verdict(lambda job: job["metadata"].update(name="TRAIN")))
print("label of 70 characters: ", verdict(lambda job: job["metadata"].update(labels={"a": "x" * 70})))
print("completions a text:     ", verdict(lambda job: job["spec"].update(completions="two")))
print("unknown field:          ", verdict(lambda job: job["spec"].update(completion=2)))
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
as it should be:         passes
restartPolicy Always:    passes
completionMode Sideways: passes
name in capitals:        passes
label of 70 characters:  passes
completions a text:      refused ('two' is not of type 'integer', 'null')
unknown field:           refused (Additional properties are not allowed ('completion' was unex)
EXPECTED
echo "still so"
