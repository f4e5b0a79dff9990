#!/usr/bin/env bash
# A module that fails to import in any way but ImportError ends Python's forkserver, and every process with it.
#
# multiprocessing's set_forkserver_preload() ignores modules that can't be imported, by its documentation: "ImportErrors
# are ignored". A framework whose shared library is missing or broken raises OSError or RuntimeError instead. The fork
# server then dies while it preloads, and the first process start fails with "EOFError: unexpected EOF", which names
# neither the module nor the reason. So modules are preloaded by a module of our own (bench/node/_preload.py), which
# ignores every exception.
#
# Versions: CPython 3.11.7
# Seen:
#     preload a module with a missing import: the process ran
#     preload a module that raises OSError:   EOFError: unexpected EOF
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo 'import no_such_module' >missing.py
echo 'raise OSError("libcuda.so.1: cannot open shared object file")' >broken.py
cat >finding.py <<'PYTHON'
import multiprocessing
import sys


def work():
    print("the process ran", flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([sys.argv[1]])
    try:
        process = context.Process(target=work)
        process.start()
        process.join()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
PYTHON
{
    printf 'preload a module with a missing import: '
    PYTHONPATH=. python3 finding.py missing 2>/dev/null
    printf 'preload a module that raises OSError:   '
    PYTHONPATH=. python3 finding.py broken 2>/dev/null
} | tee out
diff - out <<'EXPECTED'
preload a module with a missing import: the process ran
preload a module that raises OSError:   EOFError: unexpected EOF
EXPECTED
echo "still so"
