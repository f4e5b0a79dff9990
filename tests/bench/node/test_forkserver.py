"""The forkserver while it loads modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

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


MEDDLING_MODULE = "import os\nos.environ['SET_BY_A_MODULE'] = '1'\nos.environ['KEPT'] = 'changed'\n"
COMMAND_PROGRAM = """
import sys
from pathlib import Path
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
if __name__ == "__main__":
    context = start_forkserver(["meddling_module"], always=())
    show = "import os; print(os.environ.get('SET_BY_A_MODULE'), os.environ['KEPT'], os.environ['GIVEN'])"
    spec = ProcessSpec(Path("log"), {"GIVEN": "2"}, command=(sys.executable, "-c", show))
    start_process(context, spec, "shown").join()
"""


def test_a_command_has_the_environment_before_modules_changed_it(tmp_path):
    (tmp_path / "meddling_module.py").write_text(MEDDLING_MODULE)
    (tmp_path / "program.py").write_text(COMMAND_PROGRAM)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "KEPT": "as it was"}
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=env, check=True, timeout=120)
    assert (tmp_path / "log").read_text() == "None as it was 2\n"


COLLECTED_MODULE = """
import gc, weakref
class Cycle: pass
def made():
    cycle = Cycle()
    cycle.itself = cycle
    return weakref.ref(cycle)
before = made()
def main(arguments):
    after = made()
    gc.collect()
    print(before() is None, after() is None, gc.isenabled(), flush=True)
    return 0
"""
COLLECTING_PROGRAM = """
from pathlib import Path
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
if __name__ == "__main__":
    context = start_forkserver(["collected_module"], always=())
    start_process(context, ProcessSpec(Path("log"), entry="collected_module:main"), "shown").join()
"""


def test_ranks_collect_their_own_garbage_and_leave_what_was_loaded_alone(tmp_path):
    (tmp_path / "collected_module.py").write_text(COLLECTED_MODULE)
    (tmp_path / "program.py").write_text(COLLECTING_PROGRAM)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=env, check=True, timeout=120)
    assert (tmp_path / "log").read_text() == "False True True\n"
