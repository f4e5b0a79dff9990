"""What a page says of where its numbers are from."""

from __future__ import annotations

import pytest

from bench.core.program import Program
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.reporting.report import provenance
from harness.store.store import SweepInfo
from tests.support.builders import make_case
from tests.support.stored_once import this_environment

PROGRAM = Program(script="train.py", folder="/p", working_directory="/p", digest="d", files={"train.py": ""})


@pytest.mark.parametrize(
    ("program", "repository", "shown"),
    [
        (None, None, "abc"),
        (PROGRAM, "/p", "abc"),
        (PROGRAM, None, "abc of scaling-harness; git does not track the program"),
    ],
)
def test_a_commit_that_says_nothing_of_the_program_is_told_apart(program, repository, shown):
    case = make_case(workload="script", backend="torchrun", transport="any", program=program)
    found = {"commit": "abc", "changed_files": False, "repository": repository}
    info = SweepInfo(
        id="s1",
        started_at="2026-01-01T00:00:00+00:00",
        command="",
        suite=Suite(),
        plan=Plan(cases=(case,), skips=(), not_applicable=(), repeats=1),
        environment=this_environment().model_copy(update=found),
    )
    assert dict(provenance(info, (), {}))["commit"] == shown
