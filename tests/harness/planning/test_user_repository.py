"""Whose commit a sweep is about: that of the user's repository that tracks what is measured, or of this project."""

from __future__ import annotations

import pytest

from harness.planning.environment import DISTRIBUTION, read_environment
from harness.planning.git import OWN_REPOSITORY
from harness.planning.program import read_program
from harness.planning.user_repository import UserRepository as Found
from harness.planning.user_repository import find_repository, names_code, repository_of
from tests.support.builders import make_case
from tests.support.paths import ROOT
from tests.support.user_repositories import UserRepository


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return UserRepository(tmp_path_factory.mktemp("users") / "own", {"code/train.py": "pass\n", "lm.py": "pass\n"})


def case_of(path):
    return make_case(program=read_program(path.name, path.parent))


@pytest.mark.parametrize(
    ("status", "changed"),
    [
        ([], False),
        ([" M README.md"], True),
        (["?? .runs/results.sqlite", "?? checkpoint.pt"], False),
        (["?? helper.py"], True),
        (['?? "with space.py"'], True),
        (["?? venv/pyvenv.cfg", "?? venv/lib/python3.11/site-packages/x.py"], False),
        (["?? .venv/lib/python3.11/site-packages/x.py"], False),
        (["?? venv/pyvenv.cfg", "?? venvs.py"], True),
    ],
)
def test_results_of_sweeps_are_no_changes_of_the_code_and_unknown_python_files_are(status, changed):
    assert names_code(status) is changed


@pytest.mark.slow
def test_the_commit_is_that_of_the_program_and_this_project_is_a_package(repository):
    found = find_repository([make_case(), case_of(repository.path / "code" / "train.py")], [])
    assert found == Found(repository.path, repository.path / "code" / "train.py")
    environment = read_environment(found)
    assert environment.commit == repository.git("rev-parse", "--short=12", "HEAD")
    assert (environment.changed_files, environment.commit_reason) == (False, None)
    assert environment.repository == str(repository.path)
    assert environment.packages[DISTRIBUTION]
    assert {"commit", "repository", "changed_files"}.isdisjoint(environment.place)
    assert DISTRIBUTION in environment.place


@pytest.mark.slow
def test_a_plugin_s_repository_counts_too_and_this_project_s_own_files_are_its_own(repository, tmp_path):
    assert find_repository([make_case()], [repository.path / "lm.py"]).root == repository.path
    assert find_repository([make_case()], [ROOT / "docs" / "how-to" / "my_lm.py"]) == OWN_REPOSITORY
    (tmp_path / "train.py").write_text("pass\n")
    assert find_repository([case_of(tmp_path / "train.py")], []) == OWN_REPOSITORY
    assert DISTRIBUTION not in read_environment().packages
    assert read_environment().repository is None


@pytest.mark.slow
def test_a_program_that_is_not_committed_has_no_commit(repository):
    file = repository.path / "new.py"
    file.write_text("pass\n")
    try:
        state = repository_of(file).state()
    finally:
        file.unlink()
    assert state.commit is None
    assert state.reason == f"new.py is not tracked by git in {repository.path}; commit it"


def test_a_repository_that_is_not_here_says_so(tmp_path):
    gone = tmp_path / "gone"
    state = Found(gone, gone / "train.py").state()
    assert state.reason == f"{gone} is not here, or lacks train.py; run the command in a clone of the repository"


@pytest.mark.slow
def test_an_environment_of_before_there_were_repositories_has_the_same_id():
    environment = read_environment()
    stored = environment.model_dump(exclude={"repository"})
    assert type(environment).model_validate(stored).id == environment.id
    assert environment.model_copy(update={"repository": "/r"}).id != environment.id
