"""What a process inherits from the warm forkserver: cores and environment variables, whatever the shell had set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.frameworks

PROGRAM = """
import sys
from pathlib import Path
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process

CHILD = "import json, os; print(json.dumps([sorted(os.sched_getaffinity(0)), dict(os.environ)]))"
if __name__ == "__main__":
    context = start_forkserver((), ("torch",), inside_job=sys.argv[2] == "job")
    spec = ProcessSpec(Path(sys.argv[1]), command=(sys.executable, "-c", CHILD))
    process = start_process(context, spec, "child")
    process.join()
"""
SHELL = {
    "OMP_PROC_BIND": "true",
    "OMP_PLACES": "cores",
    "GOMP_CPU_AFFINITY": "0",
    "OMPI_COMM_WORLD_RANK": "3",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "HOROVOD_RANK": "1",
    "RANK": "7",
    "SLURM_JOB_ID": "5",
    "NCCL_DEBUG": "INFO",
}


def inherited(tmp_path: Path, where: str) -> tuple[list[int], dict[str, str]]:
    """The cores and the variables of a process that is started from a forkserver in such a shell."""
    program, log = tmp_path / "program.py", tmp_path / f"{where}.log"
    program.write_text(PROGRAM)
    env = {**os.environ, **SHELL, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(program), str(log), where], env=env, check=True, timeout=60)
    cores, variables = json.loads(log.read_text())
    return cores, variables


def test_a_process_has_the_cores_of_the_shell_and_no_launcher_s_variables(tmp_path):
    pytest.importorskip("torch")
    cores, variables = inherited(tmp_path, "alone")
    assert cores == sorted(os.sched_getaffinity(0))
    assert {name: variables[name] for name in SHELL if name in variables} == {"NCCL_DEBUG": "INFO"}
    cores, variables = inherited(tmp_path, "job")
    assert cores == sorted(os.sched_getaffinity(0))
    assert {name for name in SHELL if name in variables} == {"NCCL_DEBUG", "SLURM_JOB_ID"}
