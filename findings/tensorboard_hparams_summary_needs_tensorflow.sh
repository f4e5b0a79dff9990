#!/usr/bin/env bash
# Whether TensorBoard's HParams can be written without TensorFlow depends on the module, and the end of a run has none.
#
# tensorboard.plugins.hparams.summary imports tensorflow at its top, and so does api, the public one, for its callback of
# Keras. summary_v2, where the functions of api are, imports it when it is needed: hparams_pb() does without. But
# session_end_pb(), which says whether a run succeeded or failed, is in summary only: without TensorFlow it has to be put
# together from the plugin's protocol buffers.
#
# Versions: tensorboard 2.21.0
# Seen:
#     tensorflow installed: False
#     summary: No module named 'tensorflow'
#     summary_v2: hparams_pb() gives a Summary, session_end_pb: False
#     api: No module named 'tensorflow'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tensorboard==2.21.0
cat >"$folder/finding.py" <<'PYTHON'
import importlib
import importlib.util

print("tensorflow installed:", importlib.util.find_spec("tensorflow") is not None)
for name in "summary", "summary_v2", "api":
    try:
        module = importlib.import_module(f"tensorboard.plugins.hparams.{name}")
    except ImportError as missing:
        print(f"{name}: {missing}")
        continue
    written = module.hparams_pb({"batch_size": 32}, trial_id="first", start_time_secs=0)
    assert written.FromString(written.SerializeToString()) == written
    print(f"{name}: hparams_pb() gives a {type(written).__name__}, session_end_pb: {hasattr(module, 'session_end_pb')}")
PYTHON
"$folder/env/bin/python" "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
tensorflow installed: False
summary: No module named 'tensorflow'
summary_v2: hparams_pb() gives a Summary, session_end_pb: False
api: No module named 'tensorflow'
EXPECTED
echo "still so"
