"""The forkserver while it loads modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.support.paths import ROOT

SLOW_MODULE = "import sys, time\nprint('loading', file=sys.stderr, flush=True)\ntime.sleep(1)\n"
PROGRAM = """
import sys
from bench.node.forkserver import start_forkserver
if __name__ == "__main__":
    start_forkserver(["slow_module"], always=())
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_an_interrupt_of_the_terminal_while_it_loads_modules_is_no_traceback(tmp_path):
    (tmp_path / "slow_module.py").write_text(SLOW_MODULE)
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr.readline() == "loading\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 130
