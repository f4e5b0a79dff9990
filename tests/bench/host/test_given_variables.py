"""Variables that a case gives its ranks: which may be given, and that a process has them before it loads anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.host.given_variables import refusal_of, with_given
from bench.host.variables import recorded_variables

PROGRAM = """
import json, os, sys
pid, preloaded = os.getpid(), os.environ.get("PROGRAM_PID")
os.environ.setdefault("PROGRAM_PID", str(pid))
{change}
from bench.host.given_variables import begin_again_with
begin_again_with(json.loads(sys.argv[1]), "program", sys.argv[1:])
print(json.dumps([os.environ.get("WAIT"), os.environ.get("NCCL_PROTO"), preloaded == str(pid)]))
"""


def run_program(folder: Path, given: dict[str, str], change: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM.format(change=change))
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[3])])
    return subprocess.run(
        [sys.executable, "-m", "program", json.dumps(given)],
        env={**os.environ, "PYTHONPATH": paths, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "there", "expected"),
    [
        ({"WAIT": "active"}, {}, ["active", None, True]),
        ({"WAIT": "active"}, {"WAIT": "passive"}, ["active", None, True]),
        ({"WAIT": ""}, {"WAIT": "passive"}, [None, None, True]),
        ({"WAIT": "active"}, {"WAIT": "active"}, ["active", None, False]),
        ({"WAIT": ""}, {}, [None, None, False]),
        # Libraries read these when ranks join: no new interpreter is needed.
        ({"NCCL_PROTO": "LL"}, {}, [None, "LL", False]),
        ({"NCCL_PROTO": ""}, {"NCCL_PROTO": "LL"}, [None, None, False]),
        ({"NCCL_PROTO": "LL", "WAIT": "active"}, {}, ["active", "LL", True]),
    ],
)
def test_a_process_begins_again_where_a_variable_may_have_been_read_already(tmp_path, given, there, expected):
    done = run_program(tmp_path, given, **there)
    assert json.loads(done.stdout) == expected, done.stderr


@pytest.mark.slow
def test_a_process_that_can_not_get_a_variable_says_so_and_does_not_begin_again_without_end(tmp_path):
    done = run_program(tmp_path, {"WAIT": "active"}, change='os.environ["WAIT"] = "mine"')
    assert done.returncode == 1
    assert "WAIT (--env) is changed where Python starts" in done.stderr


@pytest.mark.parametrize("name", ["NCCL_PROTO", "GLOO_X", "OMP_WAIT_POLICY", "OMPI_MCA_btl", "MY_FLAG", "PYTHONMALLOC"])
def test_what_tunes_a_library_or_a_program_can_be_given(name):
    assert refusal_of(name, "1") is None


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("RANK", "0", "its launcher"),
        ("MASTER_ADDR", "far", "its launcher"),
        ("OMPI_COMM_WORLD_RANK", "1", "its launcher"),
        ("HOROVOD_RANK", "1", "its launcher"),
        ("SLURM_PROCID", "1", "its launcher"),
        ("CUDA_VISIBLE_DEVICES", "0", "its launcher"),
        ("NCCL_SOCKET_IFNAME", "eth0", "by the harness"),
        ("OMPI_MCA_btl", "", "by the harness"),
        ("OMP_NUM_THREADS", "2", "--threads"),
        ("HOROVOD_NUM_THREADS", "2", "--threads"),
        ("OMP_PROC_BIND", "true", "pins threads"),
        ("PYTHONPATH", "/x", "which code"),
        ("LD_PRELOAD", "x.so", "which code"),
        ("LD_LIBRARY_PATH", "/x", "which code"),
        ("TMPDIR", "/x", "where its files are"),
        ("SCALING_NODE", "1", "its launcher"),
        ("SCALING_PRELOAD", "os", "which code"),
        ("HF_TOKEN", "x", "secret"),
        ("MY_FLAG", "ghp_0123456789abcdefABCD", "secret"),
        ("PROXY", "http://ann:hunter2@hub", "secret"),
    ],
)
def test_what_would_break_a_trial_or_leave_a_secret_in_the_store_is_refused(name, value, remedy):
    assert remedy in (refusal_of(name, value) or "")
    assert "hunter2" not in (refusal_of(name, value) or "")


def test_an_empty_value_removes_a_variable():
    assert with_given({"A": "1", "B": "2"}, {"A": "", "C": "3"}) == {"B": "2", "C": "3"}


def test_a_variable_of_the_case_is_recorded_whatever_its_name():
    env = {"MY_FLAG": "1", "OTHER": "2", "OMPI_MCA_btl": "^tcp", "NCCL_PROTO": "LL"}
    assert recorded_variables(env) == {"NCCL_PROTO": "LL"}
    assert recorded_variables(env, ["MY_FLAG"]) == {"MY_FLAG": "1", "NCCL_PROTO": "LL"}
    assert recorded_variables(env, ["OMPI_MCA_btl"]) == {"NCCL_PROTO": "LL", "OMPI_MCA_btl": "^tcp"}
