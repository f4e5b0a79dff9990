"""In which environment an interrupted sweep may go on."""

from __future__ import annotations

import pytest
from rich.console import Console

from bench.core.program import Program
from bench.host.machine import installed_version
from harness.errors import UsageError
from harness.planning.environment import read_environment
from harness.planning.script_flags import ScriptFlags
from harness.planning.sources import Sources
from harness.store.artifacts import held_folder
from harness.store.opening import open_store
from harness.sweep.pipeline import RunSettings, resume
from harness.sweep.plan import SuiteRequest, plan_sweep
from harness.sweep.resume_checks import check_same_conditions
from reports.analysis.trial_measures import trial_settings
from tests.support.builders import make_case, make_record, make_trial
from tests.support.stores import begin


@pytest.mark.slow
def test_a_sweep_is_not_resumed_with_other_variables(tmp_path, monkeypatch):
    place = str(tmp_path / "s.sqlite")
    store = open_store(place, create=True)
    begin(store)
    records = tuple(make_record(rank, 2, variables={"NCCL_DEBUG": "INFO"}) for rank in range(2))
    store.add_trial("s1", make_trial(make_case(), ranks=records))
    store.close()
    monkeypatch.delenv("NCCL_DEBUG", raising=False)
    with pytest.raises(UsageError, match=r"s1 began with other variables \(NCCL_DEBUG none, not INFO\)"):
        resume(RunSettings(place, Console(stderr=True)))


def test_a_sweep_that_another_process_runs_is_not_resumed(tmp_path):
    place = str(tmp_path / "s.sqlite")
    store = open_store(place, create=True)
    begin(store)
    store.close()
    with (
        held_folder(tmp_path / "s1", "s1"),
        pytest.raises(UsageError, match="s1: another process runs or deletes it; wait for its end"),
    ):
        resume(RunSettings(place, Console(stderr=True)))
    assert not (tmp_path / "s1").exists()


@pytest.mark.slow
def test_variables_that_the_cases_give_are_not_those_of_this_shell(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store)
    monkeypatch.setenv("NCCL_PROTO", "LL128")
    trials = [
        make_trial(
            make_case(env={"NCCL_PROTO": proto}),
            ranks=tuple(make_record(rank, 2, variables={"NCCL_PROTO": proto}) for rank in range(2)),
        )
        for proto in ("LL", "Simple")
    ]
    check_same_conditions(info, trials, NOW)


def test_a_stored_plan_gives_ranks_no_variable_that_a_sweep_would_refuse(tmp_path):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store)
    cases = tuple(case.model_copy(update={"env": {"LD_PRELOAD": "/tmp/x.so"}}) for case in info.plan.cases)
    with pytest.raises(UsageError, match="LD_PRELOAD decides which code a rank runs"):
        check_same_conditions(info.model_copy(update={"plan": info.plan.model_copy(update={"cases": cases})}), [], NOW)


@pytest.mark.slow
def test_what_was_compiled_since_a_sweep_began_does_not_keep_it_from_going_on(tmp_path):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store)
    waiting = make_case(backend="horovod")
    here = read_environment()
    without = {name: version for name, version in here.packages.items() if name != "horovod"}
    environment = here.model_copy(update={"packages": without})
    plan = info.plan.model_copy(update={"cases": (*info.plan.cases, waiting), "later": (waiting.key,)})
    began = info.model_copy(update={"environment": environment, "plan": plan})
    check_same_conditions(began, [], NOW)
    if installed_version("horovod"):
        with pytest.raises(UsageError, match=f"{info.id} began with another packages"):
            check_same_conditions(began.model_copy(update={"plan": plan.model_copy(update={"later": ()})}), [], NOW)
    other = environment.model_copy(update={"packages": {**without, "torch": "0"}})
    with pytest.raises(UsageError, match=f"{info.id} began with another packages"):
        check_same_conditions(began.model_copy(update={"environment": other}), [], NOW)


NOW = Sources(digest="a", files={"bench/a.py": "1", "harness/b.py": "2"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "changed"),
    [
        ({"bench/a.py": "0", "harness/b.py": "2"}, "bench/a.py"),
        ({"bench/a.py": "1", "harness/b.py": "2", "my_model/net.py": "3"}, "my_model/net.py"),
        ({"bench/a.py": "1"}, "harness/b.py"),
        ({f"bench/{letter}.py": "1" for letter in "defgh"}, "bench/a.py, bench/d.py, bench/e.py and 4 more"),
    ],
)
def test_a_sweep_is_not_resumed_with_other_sources(tmp_path, before, changed):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store).model_copy(update={"sources": Sources(digest="a", files=before)})
    with pytest.raises(UsageError) as refused:
        check_same_conditions(info, [], NOW)
    assert str(refused.value) == (
        f"--resume: {changed} changed since sweep {info.id} began; restore what was there, or start a new sweep"
    )


@pytest.mark.slow
def test_a_sweep_from_before_digests_is_resumed(tmp_path):
    store = open_store(str(tmp_path / "s.sqlite"), create=True)
    info = begin(store)
    assert info.sources is None
    check_same_conditions(info, [], NOW)
    check_same_conditions(info.model_copy(update={"sources": NOW}), [], NOW)


@pytest.mark.slow
def test_a_sweep_is_not_resumed_with_a_program_that_has_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import net\n")
    (tmp_path / "net.py").write_text("width = 1\n")
    planned = plan_sweep(SuiteRequest("quick", {"ranks": ("1",)}, script=ScriptFlags(("train.py",))))
    # Also where torch is missing.
    cases = planned.plan.cases or tuple(skip.case for skip in planned.plan.skips)
    plan = planned.plan.model_copy(update={"cases": cases})
    store = open_store("s.sqlite", create=True)
    info = begin(store, "s0", "2025-01-01T00:00:00+00:00")
    store.finish_sweep("s0", "2025-01-01T00:00:01+00:00")
    info = info.model_copy(update={"id": "s1", "suite": planned.suite, "plan": plan})
    store.begin_sweep(info)
    stored = store.sweep("s1")
    check_same_conditions(stored, [], NOW)
    (tmp_path / "net.py").write_text("width = 2\n")
    with pytest.raises(UsageError) as raised:
        check_same_conditions(stored, [], NOW)
    assert str(raised.value) == (
        f"--resume: net.py in {tmp_path} changed since sweep s1 began; restore what was there, or start a new sweep"
    )
    (tmp_path / "train.py").unlink()
    with pytest.raises(UsageError, match=r"train.py: no such file in "):
        check_same_conditions(stored, [], NOW)


def test_a_stored_trial_names_its_program_without_its_text(tmp_path):
    program = Program(
        script="train.py", folder="/p", working_directory="/p", digest="d", digests={"train.py": "d"}, files={"a": "b"}
    )
    case = make_case(program=program).without_program_files()
    assert case.program == program.model_copy(update={"files": {}})
    assert trial_settings(make_trial(case))["program"] == "train.py d"
    assert make_case().without_program_files() == make_case()
