"""What `doctor` says of environment variables, sources and GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.setup.doctor import (
    gpus_of_torch_diagnostic,
    horovod_operations_diagnostic,
    machine_lock_diagnostic,
    site_diagnostics,
    sources_diagnostic,
    variable_diagnostics,
)
from tests.support.machine_lock import process_with_lock


def test_variables_that_ranks_do_not_inherit_and_those_that_count_are_named():
    env = {"OMP_PROC_BIND": "true", "OMPI_COMM_WORLD_RANK": "3", "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "HOME": "/h"}
    removed, recorded = variable_diagnostics(env)
    assert removed.found == "ranks start without OMPI_COMM_WORLD_RANK, OMP_PROC_BIND"
    assert recorded.found == "TORCH_DISTRIBUTED_DEBUG=DETAIL: they change what is measured"
    assert removed.remedy
    assert recorded.remedy


def test_a_shell_without_any_is_ok():
    (only,) = variable_diagnostics({"HOME": "/h"})
    assert (only.status, only.remedy) == ("ok", None)


def test_sources_that_every_user_can_change_are_named(tmp_path):
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout").chmod(0o777)
    found = sources_diagnostic(tmp_path / "checkout")
    assert (found.status, found.found) == ("missing", f"other users can change {tmp_path / 'checkout'} (mode 0777)")
    assert "chmod o-w" in found.remedy
    assert sources_diagnostic(Path("/usr")).status == "ok"


@pytest.mark.parametrize(
    ("found", "problem", "status", "shown"),
    [
        (2, None, "ok", "2"),
        (1, None, "ok", "1 of 2: the others are hidden from it"),
        (0, "The NVIDIA driver on your system is too old (found version 12040).\nUpdate", "missing", "too old"),
        (0, None, "missing", "0 of 2: it finds none"),
        (None, "torch is not a CUDA build", "missing", "0 of 2: torch is not a CUDA build"),
        (None, "no answer within 60 s", "missing", "0 of 2: no answer within 60 s"),
    ],
)
def test_gpus_that_torch_can_t_use_are_named_with_the_reason_in_one_line(found, problem, status, shown):
    said = gpus_of_torch_diagnostic(2, found, problem)
    assert said.status == status
    assert shown in said.found
    assert "\n" not in said.found
    assert bool(said.remedy) == (status == "missing")


def test_a_horovod_without_nccl_is_one_that_lacks_something_only_beside_a_torch_for_gpus():
    assert horovod_operations_diagnostic(["gloo", "mpi"], None, None).status == "ok"
    assert horovod_operations_diagnostic(["gloo", "nccl"], "13.0", None).status == "ok"
    said = horovod_operations_diagnostic(["gloo", "mpi"], "13.0", "no nvcc")
    assert (said.status, said.found) == ("missing", "gloo, mpi; no NCCL: no nvcc")
    assert said.remedy.endswith("--strict --cuda`")
    assert horovod_operations_diagnostic([], None, None).status == "missing"


@pytest.mark.slow
def test_who_else_measures_on_the_cores_is_named(tmp_path):
    folder = tmp_path / "turns"
    assert machine_lock_diagnostic(folder).found == "no other command measures on these cores"
    with process_with_lock(folder) as process:
        found = machine_lock_diagnostic(folder)
    assert found.status == "ok"
    assert found.found.startswith(f"sweep of somebody (PID {process.pid}, user ")
    (tmp_path / "file").write_text("")
    found = machine_lock_diagnostic(tmp_path / "file")
    assert found.status == "missing"
    assert "name another one by SCALING_LOCK_FOLDER" in found.remedy


def test_a_site_that_lacks_something_says_what_and_the_remedy_once(monkeypatch):
    monkeypatch.setenv("PATH", "")
    lacking = {found.name: found for found in site_diagnostics() if found.status == "missing"}
    assert "ssh" in lacking["site hosts"].found
    assert lacking["site hosts"].remedy == "apt-get install openssh-client"
    assert all(found.remedy and found.found not in found.remedy for found in lacking.values())
