"""Defaults of options in scaling.toml or pyproject.toml: which file is read, what wins, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.__main__ import _measures
from harness.cli.app import main
from harness.cli.output import command_line
from harness.configuration import find_configuration
from harness.errors import UsageError
from harness.planning.suite import read_suite
from tests.support.paths import ROOT

PLUGIN = ROOT / "tests/support/plugins/absent.py"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty repository, as the current folder."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALING_CONFIG", raising=False)
    monkeypatch.delenv("SCALING_STORE", raising=False)
    return tmp_path


@pytest.fixture
def plan(capfd):
    """The planned cases, run or skipped, of a command line."""

    def dry_run(*arguments):
        assert main(["sweep", "--dry-run", "--json", *arguments]) == 0, capfd.readouterr().err
        document = json.loads(capfd.readouterr().out)
        return document | {"planned": [*document["cases"], *(skip["case"] for skip in document["skips"])]}

    return dry_run


def write(folder: Path, text: str, name: str = "scaling.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def ran(document):
    return {(case["backend"], case["workload"], case["ranks"]) for case in document["planned"]}


def test_options_of_a_command_are_keys_of_its_table_and_the_command_line_wins(project, plan):
    write(
        project, "[sweep]\nbackends = ['ddp']\nworkloads = 'mnist'\nranks = [1, 2]\nrepeats = 5\nranks_per_node = 2\n"
    )
    assert ran(plan()) == {("ddp", "mnist", 1), ("ddp", "mnist", 2)}
    document = plan("--ranks", "4", "--workloads", "synthetic")
    assert ran(document) == {("ddp", "synthetic", 4)}, "a list of the command line replaces that of the file"
    assert document["repeats"] == 5


def test_settings_and_variables_may_be_tables(project, plan):
    write(
        project,
        "[sweep]\nbackends = 'ddp'\nworkloads = 'mnist'\nranks = 1\n"
        "[sweep.set]\n'ddp.bucket_cap_mb' = [1, 2.5]\n[sweep.env]\nMY_LIST = 'a,b'\n",
    )
    cases = plan()["planned"]
    assert [case["backend_options"] for case in cases] == [{"bucket_cap_mb": 1.0}, {"bucket_cap_mb": 2.5}]
    assert {case["env"]["MY_LIST"] for case in cases} == {"a,b"}


def test_the_file_is_found_upwards_to_the_root_of_the_repository_and_no_further(project, monkeypatch):
    outer = write(project, "[sweep]\nranks = 1\n")
    (project / "a/b").mkdir(parents=True)
    monkeypatch.chdir(project / "a/b")
    assert find_configuration().path == outer
    inner = write(project / "a", "[tool.scaling.sweep]\nranks = 2\n", "pyproject.toml")
    assert find_configuration().path == inner
    (project / "a/b/.git").write_text("gitdir: elsewhere")
    assert find_configuration().path is None


def test_outside_of_a_repository_and_the_home_folder_only_the_current_folder_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path, "[sweep]\n")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert find_configuration().path is None
    monkeypatch.chdir(tmp_path)
    assert find_configuration().path == tmp_path / "scaling.toml"


def test_a_pyproject_without_our_table_is_nobody_s_configuration(project):
    write(project, "[project]\nname = 'theirs'\n[tool.ruff]\nline-length = 100\n", "pyproject.toml")
    assert find_configuration().path is None
    write(project, "[project\n", "pyproject.toml")
    assert find_configuration().path is None, "what is damaged there is not ours to report"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[", b"#" * 2_000_000])
def test_nor_is_one_that_cannot_be_read_and_does_not_name_it(project, content):
    (project / "pyproject.toml").write_bytes(content)
    assert find_configuration().path is None


def test_a_byte_order_mark_is_no_part_of_the_file(project):
    (project / "scaling.toml").write_bytes(b'\xef\xbb\xbfstore = "a.sqlite"\n')
    assert find_configuration().store == "a.sqlite"


@pytest.mark.parametrize("value", ["[" * 20_000, "9" * 20_000])
def test_a_value_beyond_what_the_parser_reads_is_refused(project, value):
    write(project, f"store = {value}")
    with pytest.raises(UsageError, match="cannot be read as a configuration"):
        find_configuration()


def test_a_file_that_others_can_change_is_refused_unless_it_is_named(project, monkeypatch, capfd):
    path = write(project, "[sweep]\nranks = 3\n")
    path.chmod(0o666)
    assert main(["sweep", "--dry-run"]) == 2
    error = capfd.readouterr().err
    assert f"{path}: is not read as a configuration, since other users can change {path} (mode 0666)" in error
    assert error.count("\n") == 1
    monkeypatch.setenv("SCALING_CONFIG", str(path))
    assert find_configuration().path == path
    monkeypatch.setenv("SCALING_CONFIG", "")
    assert find_configuration().path is None


WRONG = [
    ("[swep]\n", "scaling.toml:1: unknown key 'swep'; did you mean 'sweep'?"),
    ("sotre = 'x'\n", "scaling.toml:1: unknown key 'sotre'; did you mean 'store'?"),
    ("sweep = 3\n", "scaling.toml:1: sweep is the name of a command, whose options are keys of a table [sweep]"),
    ("[sweep]\nrepeats = 1\nrank = 2\n", "scaling.toml:3: sweep has no option 'rank'; did you mean 'ranks'?"),
    ("[sweep]\nrepeats = 'many'\n", "scaling.toml:2: repeats: "),
    ("[sweep]\nrepeats = [1, 2]\n", "scaling.toml:2: repeats takes one value"),
    ("[sweep]\nwhole = 'yes'\n", "scaling.toml:2: whole is true or false"),
    ("[sweep]\nranks = [true]\n", "scaling.toml:2: ranks takes texts and numbers"),
    ("[sweep]\nprecision = 'very'\n", "scaling.toml:2: --precision very: expected a share"),
    ("[sweep]\nbackends = ['ddp', 'ddp']\n", "scaling.toml:2: --backends: "),
    ("plugins = 'a.py'\n", "scaling.toml:1: plugins: input should be a valid tuple"),
    ("[sweeps.lst]\n", "scaling.toml:1: unknown key 'lst'; did you mean 'list'?"),
    ("[suites.quick]\nranks = [1]\n", "scaling.toml:1: a suite 'quick' ships with the project; rename yours"),
    ("[sweep]\nranks = [\n", "scaling.toml: "),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_one_line_with_file_and_line_and_exit_2(project, capfd, text, message):
    write(project, text)
    assert main(["sweeps", "list"] if "sweeps" in text else ["sweep", "--dry-run"]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: {project}/{message}"), error
    assert error.count("\n") == 1


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_the_file(project, capfd):
    write(project, "[sweep]\nrepeats = 2\n")
    assert main(["sweep", "--dry-run", "--repeats", "many"]) == 2
    assert "scaling.toml" not in capfd.readouterr().err


def test_help_works_whatever_the_file_holds(project, capfd):
    write(project, "[sweep\n")
    assert main(["sweep", "--help"]) == 0
    assert "--backends" in capfd.readouterr().out


def test_a_suite_of_the_configuration_has_a_name(project, plan, capfd):
    write(
        project,
        "[tool.scaling.suites.mine]\nsummary = 'ours'\nranks = [1]\nbackends = ['ddp']\nworkloads = ['mnist']\n"
        "[tool.scaling.sweep]\nsuite = 'mine'\n",
        "pyproject.toml",
    )
    assert read_suite("mine").name == "mine"
    assert ran(plan()) == {("ddp", "mnist", 1)}
    assert main(["list", "--json"]) == 0
    assert {"name": "mine", "summary": "ours"} in json.loads(capfd.readouterr().out)["suites"]
    write(
        project,
        "[tool.scaling.suites.mine]\nranks = [1]\n[tool.scaling.suites.mine.backend.ddp]\ntransport = 'mpi'\n",
        "pyproject.toml",
    )
    assert main(["sweep", "mine", "--dry-run"]) == 2
    assert f"{project}/pyproject.toml:4: option backend.ddp.transport: unknown transport" in capfd.readouterr().err


def test_plugins_of_the_file_are_added_to_those_of_the_command_line(project, monkeypatch, plan):
    # A name of its own: plugins stay known for the length of a process.
    write(project, PLUGIN.read_text().replace('name = "absent"', 'name = "absent_too"'), "mine.py")
    write(project, "plugins = ['mine.py']\n[sweep]\nbackends = 'absent_too'\nworkloads = 'synthetic'\nranks = 1\n")
    (project / "inner").mkdir()
    monkeypatch.chdir(project / "inner")
    assert ran(plan()) == {("absent_too", "synthetic", 1)}


def test_the_command_that_is_recorded_holds_what_the_file_gives(project, monkeypatch, plan):
    write(project, "store = 'r.sqlite'\n[sweep]\nbackends = ['ddp']\nranks = [1, 2]\nworkloads = 'mnist'\n")
    monkeypatch.setattr("sys.argv", ["harness", "sweep", "--ranks", "1"])
    plan("--ranks", "1")
    assert command_line() == ("python -m harness sweep --ranks 1 --backends ddp --workloads mnist --store r.sqlite")
    write(project, "")
    plan("--ranks", "1", "--workloads", "mnist")
    assert command_line() == "python -m harness sweep --ranks 1"


def test_paths_are_relative_to_the_file(project, monkeypatch, capfd):
    write(project, "store = 'none.sqlite'\n")
    (project / "inner").mkdir()
    monkeypatch.chdir(project / "inner")
    assert main(["report"]) == 2
    assert f"store {project}/none.sqlite: no such file" in capfd.readouterr().err
    assert main(["sweeps", "list"]) == 2
    assert f"store {project}/none.sqlite: no such file" in capfd.readouterr().err
    monkeypatch.setenv("SCALING_STORE", "other.sqlite")
    assert main(["report"]) == 2
    assert "store other.sqlite: no such file" in capfd.readouterr().err


def test_config_shows_each_value_and_where_it_is_from(project, monkeypatch, capfd):
    path = write(project, "[sweep]\nranks = [1, 2]\n")
    monkeypatch.setenv("SCALING_STORE", "postgresql://me:hidden@server/r")
    assert main(["config", "sweep", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    options = {option["option"]: option for option in document["options"]}
    assert document["file"] == str(path)
    assert options["ranks"] == {
        "command": "sweep",
        "option": "ranks",
        "value": "1, 2",
        "source": "configuration",
        "place": f"{path}:2",
    }
    assert (options["store"]["source"], options["store"]["place"]) == ("environment", "SCALING_STORE")
    assert "hidden" not in json.dumps(document)
    assert (options["suite"]["value"], options["suite"]["source"]) == ("quick", "default")
    assert os.environ["SCALING_STORE"], "showing it uses nothing up"
    assert main(["config"]) == 0
    assert f"sweep: ranks = 1, 2 ({path}:2)" in capfd.readouterr().out


def test_config_checks_the_whole_file(project, capfd):
    for text in ("[suites.mine]\nbackend = ['ddp']\n", "[sweeps]\nlst = 1\n", "[fit]\nmodle = 'usl'\n"):
        write(project, text)
        assert main(["config"]) == 2
        assert "scaling.toml:2: " in capfd.readouterr().err


def test_a_check_that_is_configured_to_run_pairs_runs_from_a_copy(project):
    assert not _measures(["check"])
    write(project, "[check]\nconfirm = true\n")
    assert _measures(["check"])


def test_a_suite_that_is_absent_names_those_of_the_file(project):
    write(project, "[suites.mine]\n")
    with pytest.raises(UsageError, match="unknown suite 'mien'; did you mean 'mine'"):
        read_suite("mien")


def test_what_it_says_of_pairs_is_no_part_of_a_check_of_files_or_without_pairs(project, capfd):
    (project / "scaling.toml").write_text("[check]\nsuite = 'mine'\nbase-rev = 'main'\n")
    rows = "night,benchmark,run,sample,seconds\n"
    for name, nights in {"h.csv": range(1, 6), "c.csv": [6]}.items():
        (project / name).write_text(rows + "".join(f"{night},b,1,1,1.0\n" for night in nights))
    files = ["check", "--history", "h.csv", "--current", "c.csv"]
    assert main(files) in (0, 3)
    assert main([*files, "--suite", "mine"]) == 2
    capfd.readouterr()
    assert main(["check"]) == 2
    assert "add --confirm" not in capfd.readouterr().err
    assert main(["check", "--base-rev", "main"]) == 2
    assert "add --confirm" in capfd.readouterr().err
