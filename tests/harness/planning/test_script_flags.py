"""The flags of a user's program: what they plan, and what is refused in one line before anything starts."""

from __future__ import annotations

import json

import pytest

from bench.plugins.registry import load_plugins
from harness.cli.app import main
from harness.errors import UsageError
from harness.planning.script_flags import launcher_backends

BACKENDS = load_plugins().backends


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import torch\n")
    (tmp_path / "other.py").write_text("import torch\n")
    (tmp_path / "broken.py").write_text("x = (\n")
    return tmp_path


def plan(capsys, *arguments):
    """Cases and what makes no sense. Launchers are skipped where torch is missing: both are planned."""
    assert main(["sweep", *arguments, "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    return [*document["cases"], *(skip["case"] for skip in document["skips"])], document["not_applicable"]


def test_arguments_hold_axes_and_the_number_of_ranks_stays_in_the_key(capsys):
    cases, _ = plan(capsys, "--script", "train.py --batch {batch=32,64} --world {ranks}", "--ranks", "1,2")
    assert [(case["workload"], case["backend"], case["ranks"]) for case in cases] == [
        ("script", "torchrun", 1),
        ("script", "torchrun", 2),
    ] * 2
    assert [case["workload_options"] for case in cases[::2]] == [
        {"command": "train.py --batch {batch} --world {ranks}", "batch": batch} for batch in (32, 64)
    ]
    assert {case["scaling"] for case in cases} == {"weak"}
    assert {(case["threads"], case["affinity"], case["transport"]) for case in cases} == {(1, "none", "any")}
    assert cases[0]["program"]["files"]["train.py"] == "import torch\n"


@pytest.mark.parametrize(("given", "scaling"), [("64", "strong"), ("64/rank", "weak")])
def test_samples_of_all_ranks_are_divided_among_them(capsys, given, scaling):
    (case,), _ = plan(capsys, "--script", "train.py", "--ranks", "2", "--samples-per-step", given)
    assert case["scaling"] == scaling
    (case,), _ = plan(capsys, "--script", "train.py", "--ranks", "2", "--samples-per-step", given, "--scaling", "weak")
    assert case["scaling"] == "weak"


def test_several_scripts_and_launchers_are_swept_in_full(capsys):
    scripts = ("--script", "train.py {n=1,2}", "--script", "other.py")
    cases, never = plan(capsys, *scripts, "--launcher", "horovod,mpi,plain", "--ranks", "1,2")
    found = {(case["backend"], case["program"]["script"], case["ranks"]) for case in cases}
    assert len(cases) == 3 * (2 + 2 + 1)
    assert ("plain", "other.py", 1) in found
    assert {(skip["case"]["backend"], skip["case"]["ranks"]) for skip in never} == {("plain", 2)}
    assert "choose --launcher torchrun, horovod or mpi" in never[0]["reason"]


def test_options_of_a_program_that_are_not_given_are_not_in_the_key(capsys):
    (case,), _ = plan(capsys, "--script", "train.py", "--ranks", "1", "--metric-scope", "total")
    assert case["workload_options"] == {"command": "train.py"}


def test_a_suite_names_a_program_beside_its_own_file(capsys, folder):
    project = folder / "project"
    project.mkdir()
    (project / "fit.py").write_text("import torch\n")
    (project / "mine.toml").write_text(
        'workloads = ["script"]\nbackends = ["torchrun"]\nranks = [1, 2]\n'
        '[workload.script]\ncommand = "fit.py --lr {lr=0.1,0.2}"\nunit = "tokens"\n'
    )
    cases, _ = plan(capsys, "project/mine.toml")
    assert [case["workload_options"]["lr"] for case in cases] == [0.1, 0.1, 0.2, 0.2]
    assert cases[0]["program"]["folder"] == str(project)
    assert cases[0]["program"]["working_directory"] == str(folder)
    cases, _ = plan(capsys, "project/mine.toml", "--launcher", "mpi")
    assert {case["backend"] for case in cases} == {"mpirun"}


def test_titles_are_short_and_hide_secrets(capsys, caplog):
    script = "train.py --epochs 1 --batch {batch=32} --n={ranks} --api-key abcdefgh"
    assert main(["sweep", "--script", script, "--ranks", "2", "--launcher", "torchrun", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "train.py --epochs 1 --api-key '***' (batch=32) · torchrun · 2 ranks · weak" in out
    assert "abcdefgh" not in out
    assert "program train.py: an argument looks like a secret" in caplog.text
    assert "abcdefgh" not in caplog.text


def test_a_path_with_spaces_is_shown_as_it_is(capsys, folder):
    (folder / "my runs").mkdir()
    (folder / "my runs" / "fit é.py").write_text("import torch\n")
    assert main(["sweep", "--script", "'my runs/fit é.py' 'a b'", "--ranks", "2", "--dry-run"]) == 0
    assert "my runs/fit é.py 'a b' · torchrun · 2 ranks · weak" in capsys.readouterr().out


def test_a_module_is_named_as_for_python(capsys, folder):
    (folder / "package").mkdir()
    (folder / "package" / "fit.py").write_text("import torch\n")
    assert main(["sweep", "--script", "-m package.fit --lr {lr=0.1}", "--ranks", "2", "--dry-run"]) == 0
    assert "-m package.fit (lr=0.1) · torchrun · 2 ranks · weak" in capsys.readouterr().out


def test_launchers_and_workloads_of_the_project_do_not_mix(capsys):
    _, never = plan(capsys, "--backends", "single,torchrun", "--workloads", "synthetic", "--ranks", "1")
    assert [skip["reason"] for skip in never] == [
        "torchrun starts a program of yours (--script), not a workload of this project or a plugin"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--script", "no.py"], "--script no.py: no such file in "),
        (["--script", "broken.py"], "--script broken.py: SyntaxError: '(' was never closed (line 1)"),
        (["--script", "train.py {x}"], "unknown {x}: give it values"),
        (["--script", "train.py {x=}"], "a value is empty"),
        (["--script", "train.py {x"], "unmatched '{'"),
        (["--script", "train.py {unit=a}"], "unit is an option of script; choose another name"),
        (["--script", "train.py", "--metric", "("], "--metric (: is no regular expression"),
        (["--script", "train.py", "--metric", "a"], "--metric a: has 0 groups; put the number alone in one"),
        (["--script", "train.py", "--metric", "(a)(b)"], "--metric (a)(b): has 2 groups"),
        (["--script", "train.py", "--metric-scope", "all"], "--metric-scope all: input should be 'rank' or 'total'"),
        (["--script", "train.py", "--samples-per-step", "0"], "--samples-per-step 0: is no number of samples"),
        (["--script", "train.py", "--samples-per-step", "8/node"], "is no number of samples: 64 of all ranks"),
        (["--script", "train.py", "--unit", "a b"], "--unit a b: is 'a b'; it is one word"),
        (["--script", "train.py", "--launcher", "mpirn"], "--launcher mpirn: unknown; did you mean 'mpirun'?"),
        (["--script", "train.py", "--launcher", "ddp"], "--launcher ddp: unknown; known: horovod, horovodrun, mpi"),
        (["--script", "train.py", "--backends", "ddp"], "--script: leave --backends out; --launcher says how"),
        (["--script", "train.py", "--workloads", "mnist"], "--script: leave --workloads out"),
        (
            ["--script", "train.py", "--batch", "64"],
            "--script: leave --batch out; a program has its batch from its own",
        ),
        (["--script", "train.py", "--script", "train.py"], "{'command': 'train.py'} is named twice"),
        (["--script", "train.py {n=1,2}", "--script", "train.py {n=2,3}"], "'n': 2} is named twice"),
        (
            ["--script", "train.py", "--launcher", "plain", "--ranks", "1,2"],
            "--launcher plain: a program that is started",
        ),
        (["--metric", "(a)"], "--metric: it is about a program; name one with --script"),
        (["--launcher", "mpi"], "--launcher: it is about a program; name one with --script"),
        (["--whole"], "--whole: it is about a program; name one with --script"),
        (["--workloads", "script", "--backends", "torchrun"], "option workload.script.command: names no script"),
    ],
    ids=str,
)
def test_a_wrong_flag_is_named_in_one_line(arguments, said, caplog):
    assert main(["sweep", *arguments, "--dry-run"]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said in line
    assert "\n" not in line


def test_a_wrong_command_in_a_suite_is_named_with_its_line(folder, caplog):
    (folder / "mine.toml").write_text(
        'workloads = ["script"]\nbackends = ["torchrun"]\n[workload.script]\ncommand = "train.py {x}"\n'
    )
    assert main(["sweep", "mine.toml", "--dry-run"]) == 2
    assert "mine.toml:4: option workload.script.command = train.py {x}: unknown {x}" in caplog.text


def test_launchers_have_short_names():
    assert launcher_backends(None, BACKENDS) == ("torchrun",)
    assert launcher_backends(("mpi", "horovod", "mpirun"), BACKENDS) == ("mpirun", "horovodrun")
    with pytest.raises(UsageError):
        launcher_backends(("single",), BACKENDS)
