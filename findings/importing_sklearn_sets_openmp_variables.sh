#!/usr/bin/env bash
# Importing scikit-learn sets two variables of OpenMP in the environment, which every process started later inherits.
#
# "import sklearn" puts KMP_DUPLICATE_LIB_OK=True and KMP_INIT_AT_FORK=FALSE into os.environ, unless they are set. In the
# process itself that helps its own libraries. But a launcher that imports it to prepare a data set gives them to all of
# its ranks: in these, two OpenMP runtimes in one process are no error any more, which Intel's runtime calls unsafe, and
# a benchmark that records the environment of its ranks finds variables that nobody set, depending on whether the data
# were cached already.
#
# Versions: scikit-learn 1.7.2, numpy 2.3.5 (Python 3.11 or later)
# Seen:
#     before: {}
#     after import sklearn: {'KMP_DUPLICATE_LIB_OK': 'True', 'KMP_INIT_AT_FORK': 'FALSE'}
#     in a child: {'KMP_DUPLICATE_LIB_OK': 'True', 'KMP_INIT_AT_FORK': 'FALSE'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.7.2 numpy==2.3.5
cat >"$folder/finding.py" <<'PYTHON'
import os
import subprocess
import sys

SHOW = "import os; print({name: os.environ[name] for name in sorted(os.environ) if name.startswith('KMP_')})"


def show(title):
    print(f"{title}: ", end="", flush=True)
    exec(SHOW)
    sys.stdout.flush()


show("before")
import sklearn  # noqa: E402, F401

show("after import sklearn")
print("in a child: ", end="", flush=True)
subprocess.run([sys.executable, "-c", SHOW], check=True)
PYTHON
env -u KMP_DUPLICATE_LIB_OK -u KMP_INIT_AT_FORK "$folder/env/bin/python" "$folder/finding.py" | tee "$folder/out"
diff - "$folder/out" <<'EXPECTED'
before: {}
after import sklearn: {'KMP_DUPLICATE_LIB_OK': 'True', 'KMP_INIT_AT_FORK': 'FALSE'}
in a child: {'KMP_DUPLICATE_LIB_OK': 'True', 'KMP_INIT_AT_FORK': 'FALSE'}
EXPECTED
echo "still so"
