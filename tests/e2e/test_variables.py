"""A variable that ranks must have before they load anything: each of its values is a case, on real ranks."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Harness


@pytest.fixture
def harness(tmp_path):
    return Harness(tmp_path)


def test_ranks_begin_again_with_the_variable_and_end_as_others_do(harness):
    document = harness.lean_sweep(
        *("--backends", "ddp", "--workloads", "synthetic", "--ranks", "2", "--repeats", "1", "--steps", "3"),
        *("--env", "OMP_WAIT_POLICY=active,"),
    )
    found = {cell["env"]["OMP_WAIT_POLICY"]: cell for cell in document["cells"]}
    assert {value: (cell["outcome"], cell["reason"]) for value, cell in found.items()} == {
        "active": ("ok", None),
        "": ("ok", None),
    }
    assert found["active"]["variables"]["OMP_WAIT_POLICY"] == "active"
    assert "OMP_WAIT_POLICY" not in found[""]["variables"]
    assert "OMP_WAIT_POLICY unset" in found[""]["title"]
    harness.nothing_left()


def test_a_rank_that_is_killed_after_it_began_again_is_named_as_any_other(harness):
    document = harness.lean_sweep(
        *("--backends", "ddp", "--workloads", "synthetic", "--ranks", "2", "--repeats", "1", "--steps", "3"),
        *("--env", "OMP_WAIT_POLICY=active", "--inject", "kill:rank=1,step=2"),
        status=4,
    )
    (cell,) = document["cells"]
    assert "rank 1 was killed by SIGKILL" in cell["reason"]
    assert "OMP_WAIT_POLICY=active" in " ".join(cell["log_tail"])
    harness.nothing_left()


def test_a_variable_that_would_break_a_trial_is_one_line(harness):
    done = harness.run("sweep", "--env", "RANK=1", "--dry-run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "env: RANK tells a rank its place" in done.stderr
