"""What `doctor` says of environment variables."""

from __future__ import annotations

from pathlib import Path

from harness.setup.doctor import sources_diagnostic, variable_diagnostics


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
