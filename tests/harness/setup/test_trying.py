"""What ``try`` says of a file before and after it runs; ``tests/e2e/test_own_model.py`` runs it on real ranks."""

from __future__ import annotations

import shlex
import shutil

import pytest

from harness.cli.app import main
from harness.planning.plan import Plan
from harness.setup.trying import Attempt, TriedFile, plan_attempts
from harness.sweep.plugins import plugin_kinds
from tests.support.paths import ROOT

SAMPLES = ROOT / "tests" / "support" / "plugins"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my_mlp.py", "my_fsdp.py"):
        shutil.copy(SAMPLES / name, tmp_path)
    yield
    for kind in plugin_kinds():
        kind.files.clear()


def attempt(outcome="ok", **changes):
    given = {"title": "lm · ddp", "backend": "ddp", "ranks": 1, "outcome": outcome, "reason": None, **changes}
    return Attempt(**given)


OK = {"same_work": "same", "rate": 1234.0, "unit": "tokens", "wall_s": 2.04}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.py"], "try: plugin nothing.py: cannot be read"),
        (["my_fsdp.py"], "try my_fsdp.py: defines a backend and no workload; check it by `doctor --plugin my_fsdp.py`"),
        (["my_mlp.py", "--backends", "dpp"], "unknown backend 'dpp'; did you mean 'ddp'?"),
        (["my_mlp.py", "--set", "my_mlp.hiden=3"], "has no option 'hiden'; did you mean 'hidden'?"),
        (["my_mlp.py", "--ranks", "none"], "--ranks"),
    ],
)
def test_what_can_t_be_tried_is_named_in_one_line(arguments, said, caplog):
    assert main(["try", *arguments]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said in line
    assert "\n" not in line


def test_ten_steps_are_planned_at_each_rank_count_and_nothing_else_is_measured():
    tried = plan_attempts("my_mlp.py", ("single", "ddp"), ("1",), 32, ("my_mlp.hidden=8",))
    cases = [*tried.plan.cases, *(skip.case for skip in tried.plan.skips)]
    assert {(case.workload, case.steps, case.batch) for case in cases} == {("my_mlp", 10, 32)}
    assert {(case.decompose, case.own_cost, case.roofline, case.telemetry) for case in cases} == {
        (False, False, False, "off")
    }
    assert shlex.split(tried.sweep_command)[3:] == [
        "sweep",
        *("--plugin", "my_mlp.py", "--workloads", "my_mlp"),
        *("--backends", "single,ddp", "--ranks", "1", "--set", "my_mlp.hidden=8"),
    ]


def test_a_line_says_how_a_case_went():
    assert attempt(**OK).line() == (
        "ok       lm · ddp: 10 steps, about 1,234 tokens/s, the same work as a single process (2.0 s)"
    )
    random = attempt(**{**OK, "same_work": "unproven", "reason": "the model is random"})
    assert random.line().endswith("not proven: the model is random (2.0 s)")
    assert attempt("failed", reason="rank 0: no").line() == "failed   lm · ddp: rank 0: no"


@pytest.mark.parametrize(
    ("outcomes", "ready"),
    [
        (["ok", "ok"], True),
        (["ok", "skipped"], True),
        (["skipped"], False),
        ([], False),
        (["ok", "failed"], False),
        (["ok", "invalid"], False),
        (["timeout"], False),
    ],
)
def test_it_is_ready_where_nothing_failed_and_something_ran(outcomes, ready):
    plan = Plan(cases=(), skips=(), not_applicable=(), repeats=1)
    tried = TriedFile("lm.py", "lm", plan, ("ddp",), ("1",), ())
    assert tried.is_ready([attempt(outcome) for outcome in outcomes]) is ready
