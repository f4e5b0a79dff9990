"""What `doctor` says of environment variables."""

from __future__ import annotations

from harness.setup.doctor import variable_diagnostics


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
