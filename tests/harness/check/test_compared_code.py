"""Cases of a user's repository in another working tree of it, and a history whose commits differ in the program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.case import PluginSource
from harness.check.compared_code import ComparedCode, SideSetup, code_of_plan, code_of_sweep
from harness.check.source_trees import checked_out, head_tree
from harness.cli.app import main
from harness.errors import UsageError
from harness.planning.environment import read_environment
from harness.planning.program import read_program
from harness.planning.user_repository import UserRepository as Gone
from harness.store.opening import open_store
from tests.support.builders import make_case
from tests.support.nights import write_nights
from tests.support.user_repositories import UserRepository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Two commits: ``later.py`` is not in the first."""
    made = UserRepository(tmp_path_factory.mktemp("users") / "own", {"code/train.py": "N = 1\n", "lm.py": "N = 1\n"})
    (made.path / "data").mkdir()
    made.write({".gitignore": "data\n", "code/train.py": "N = 2\n", "lm.py": "N = 2\n", "later.py": ""})
    made.commit()
    return made


@pytest.fixture
def case(repository, monkeypatch):
    """As a sweep in the folder of the program would carry it."""
    monkeypatch.chdir(repository.path / "code")
    text = (repository.path / "lm.py").read_text()
    plugin = PluginSource(kind="workload", name="lm", file="lm.py", digest="d", attribute="WORKLOAD", text=text)
    return make_case(program=read_program("train.py", repository.path / "code"), plugins=(plugin,))


def code_of(repository, case, **setup) -> ComparedCode:
    return code_of_plan([case], (str(repository.path / "lm.py"),), SideSetup(**setup))


@pytest.mark.slow
def test_each_side_runs_the_program_and_the_plugins_of_its_commit(repository, case):
    code = code_of(repository, case, data=("data",))
    assert head_tree(code).checkout == repository.path
    with checked_out("HEAD~1", code) as base:
        moved = code.case_in(case, base.checkout)
        assert moved.program.files == {"train.py": "N = 1\n"}
        assert moved.plugins[0].text == "N = 1\n"
        assert moved.plugins[0].digest != case.plugins[0].digest
        assert moved.program.working_directory == moved.program.folder == str(base.checkout / "code")
        assert (base.checkout / "data").resolve() == repository.path / "data"
        assert moved.key == case.key
    assert repository.worktrees() == []
    assert (repository.path / "data").is_dir()


@pytest.mark.slow
def test_a_program_that_the_base_lacks_is_named(repository, case):
    later = case.model_copy(update={"program": read_program("later.py", repository.path), "plugins": ()})
    code = code_of(repository, later)
    with checked_out("HEAD~1", code) as base, pytest.raises(UsageError, match=r"^later\.py does not exist there$"):
        code.case_in(later, base.checkout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing", "../outside"])
def test_data_that_the_repository_lacks_is_refused(repository, case, name, tmp_path):
    code = code_of(repository, case, data=(name,))
    with pytest.raises(UsageError, match=f"^--data {name}: "), checked_out("HEAD~1", code):
        pass
    assert repository.worktrees() == []


@pytest.mark.slow
def test_a_submodule_is_checked_out_too(tmp_path, monkeypatch):
    library = UserRepository(tmp_path / "library", {"layers.py": "N = 1\n"})
    own = UserRepository(tmp_path / "own", {"train.py": "pass\n"})
    own.git("submodule", "--quiet", "add", str(library.path), "library")
    own.commit()
    for name, value in {"COUNT": "1", "KEY_0": "protocol.file.allow", "VALUE_0": "always"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    code = code_of_plan([make_case(program=read_program("train.py", own.path))], (), SideSetup())
    with checked_out("HEAD", code) as base:
        assert (base.checkout / "library" / "layers.py").read_text() == "N = 1\n"
    assert own.worktrees() == []


@pytest.mark.slow
def test_what_changed_since_the_sweep_is_named(repository, case):
    digest = code_of(repository, case).case_in(case, repository.path).plugins[0].digest
    measured = case.model_copy(update={"plugins": (case.plugins[0].model_copy(update={"digest": digest}),)})
    code = code_of(repository, measured)
    code.check_unchanged([measured])
    file = repository.path / "code" / "train.py"
    before = file.read_text()
    file.write_text("N = 3\n")
    try:
        with pytest.raises(UsageError, match=r"^--confirm: train\.py in .* changed since the newest sweep; restore"):
            code.check_unchanged([measured])
    finally:
        file.write_text(before)


@pytest.fixture
def night():
    """What nights of a repository that is gone have recorded."""
    here = read_environment(Gone(Path("/gone"), Path("/gone/train.py")))
    return {"repository": here.repository, "packages": here.packages}


def programs(digest: str):
    case = make_case(ranks=1)
    program = {"script": "train.py", "folder": "/gone/code", "working_directory": "/gone", "digest": digest}
    return (case.model_validate({**case.model_dump(), "program": program}),)


def check(tmp_path, capsys) -> dict:
    main(["check", "--store", str(tmp_path / "r.sqlite"), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_nights_of_a_repository_are_compared_although_the_program_changed(tmp_path, capsys, monkeypatch, night):
    monkeypatch.chdir(tmp_path)
    for number in range(1, 8):
        write_nights(tmp_path / "r.sqlite", 1, number, cases=programs(f"d{number}"), **night)
    write_nights(tmp_path / "r.sqlite", 1, 8, cases=programs("d8"), slower={1: 1.5}, **night)
    (found,) = [one for one in check(tmp_path, capsys)["benchmarks"].values() if one["metric"] == "step"]
    assert found["status"] == "suspect"
    assert found["change_pct"] > 40
    # Pairs are impossible here, and the reason is told.
    assert "/gone is not here, or lacks train.py" in str(found)


def test_without_a_repository_nights_of_different_programs_are_not_compared(tmp_path, capsys):
    for number in range(1, 8):
        write_nights(tmp_path / "r.sqlite", 1, number, cases=programs(f"d{number}"))
    (found,) = [one for one in check(tmp_path, capsys)["benchmarks"].values() if one["metric"] == "step"]
    assert found["status"] == "incomparable"


@pytest.mark.slow
def test_a_clone_in_the_current_folder_stands_for_the_one_that_measured(tmp_path, monkeypatch, night):
    clone = UserRepository(tmp_path / "clone", {"code/train.py": "pass\n"})
    write_nights(tmp_path / "r.sqlite", 1, cases=programs("d"), **night)
    store = open_store(str(tmp_path / "r.sqlite"), create=False)
    info = store.sweep(store.sweep_ids()[0])
    store.close()
    monkeypatch.chdir(clone.path)
    code = code_of_sweep(info, SideSetup())
    assert code.repository.root == clone.path
    moved = code.case_in(info.plan.cases[0], clone.path)
    assert moved.program.files == {"train.py": "pass\n"}
    assert moved.program.working_directory == str(clone.path)
