"""The command line as a user meets it: one line and exit code 2 for what is wrong, and nothing written."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from dataclasses import dataclass

import pytest

from harness.cli.app import COMMANDS, load_command, main
from harness.cli.output import command_line
from tests.support.paths import ROOT


@dataclass(frozen=True)
class Completed:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def harness(tmp_path, capfd, monkeypatch):
    """Run a command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        status = main(arguments)
        return Completed(status, *capfd.readouterr())

    return run


@pytest.mark.slow
def test_the_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "harness", "sweep", "--backends", "ddq"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown backend 'ddq'; did you mean 'ddp'?\n"


WRONG = [
    (["sweep", "--backends", "ddq"], "unknown backend 'ddq'; did you mean 'ddp'?"),
    (["sweep", "--workloads", "mnits"], "unknown workload 'mnits'; did you mean 'mnist'?"),
    (["sweep", "qiuck"], "unknown suite 'qiuck'; did you mean 'quick'?"),
    (["sweep", "missing.toml"], "suite missing.toml: no such file"),
    (["sweep", "--site", "moon"], "unknown site 'moon'; known: "),
    (["sweep", "--ranks", "0"], "--ranks: ranks = '0'"),
    (["sweep", "--ranks", "-1"], "--ranks: ranks = '-1'"),
    (["sweep", "--ranks", "1,x"], "--ranks: ranks = 'x'"),
    (["sweep", "--ranks", "1,1"], "names 1 twice"),
    (["sweep", "--backends", ""], "is empty"),
    (["sweep", "--batch", "7", "--ranks", "2"], "batch 7 does not divide among 2 ranks"),
    (["sweep", "--batch", "many"], "--batch"),
    (["sweep", "--set", "ddp.bucket_cap=1"], "did you mean 'bucket_cap_mb'?"),
    (["sweep", "--set", "nonsense"], "expected SCOPE.NAME.OPTION=VALUE"),
    (["sweep", "--set", "backend.ddp.model=cnn"], "backend.ddp has no option 'model'"),
    (["sweep", "--set", "workload.ddp.transport=gloo"], "unknown workload, backend or site 'workload.ddp'"),
    (["sweep", "--site", "slurm", "--set", "slurm.partition=a,b"], "option site.slurm.partition takes one value, 2"),
    (["sweep", "--set", "ddp.transport=gloo,gloo"], "names one of them twice"),
    (["sweep", "--set", "ddp.bucket_cap_mb=1", "--set", "backend.ddp.bucket_cap_mb=2"], "leave one of them out"),
    (["sweep", "--set", "synthetic.heads=3"], "3 heads do not divide width 128"),
    (["sweep", "--set", "synthetic.compute_ms=inf"], "finite number"),
    (["sweep", "--timeout", "inf"], "finite number"),
    (["sweep", "--seed", "100000000000000000000000"], "--seed"),
    (["sweep", "--set", "allreduce.smallest=1023"], "multiple of 4"),
    (["sweep", "--out", "/tmp"], "--out /tmp: is a folder"),
    (["sweep", "--out", "a.html", "--report", "b.html"], "--report is the former name of --out; give one of them"),
    (["sweep", "--title", ""], "--title: a title has at least one character"),
    (["sweep", "--title", "x" * 121], "--title: a title has at most 120 characters, and this one 121"),
    (["sweep", "--title", "a\x1b[2Jb"], "--title: a title has no control characters or invisible ones"),
    (["sweep", "--note", "a\u202eb"], "--note: a note has no control characters or invisible ones"),
    (["sweep", "--resume", "--title", "x"], "--resume goes on with a sweep as it is; change it with `sweeps rename`"),
    (["sweep", "--ranks", "1-4"], "--ranks: ranks = '1-4': expected a whole number"),
    (["sweep", "--precision", "very"], "--precision very: expected a share, for example 2%"),
    (["sweep", "--tolerance", "0"], "--tolerance: tolerance = 0.0: "),
    (
        ["sweep", "--workloads", "synthetic", "--ranks", "1", "--set", "synthetic.accumulate=3"],
        "accumulate=3 does not divide the 128 samples of a rank",
    ),
    (
        [
            "sweep",
            "--backends",
            "fsdp",
            "--workloads",
            "synthetic",
            "--device",
            "cpu",
            "--set",
            "fsdp.cpu_offload=true",
        ],
        "fsdp.cpu_offload=true is for GPUs: on CPUs the parameters are in the host's memory already",
    ),
    (["sweep", "--budget", "soon"], "--budget soon: expected a duration"),
    (["sweep", "--net", "fast"], "--net: net = 'fast': expected a rate like 100mbit or 1gbit, or unshaped"),
    (["sweep", "--net", "1gbit,1000mbit"], "names 1gbit twice"),
    (["sweep", "--resume"], "store .runs/results.sqlite: no such file"),
    (["sweep", "--no-such-flag"], "--no-such-flag"),
    (["sweep", "--backends", "single", "--ranks", "2"], "plans nothing to run"),
    (["sweep", "--out", "/no/such/folder/page.html"], "/no/such/folder/page.html: its folder does not exist"),
    (["sweep", "--store", "/dev/null/r.sqlite"], "store /dev/null/r.sqlite: cannot be"),
    (["report"], "store .runs/results.sqlite: no such file"),
    (["frobnicate"], "frobnicate"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_input_is_one_line_and_exit_2(harness, tmp_path, arguments, message):
    done = harness(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert done.stdout == ""
    assert [path for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_a_foreign_store_is_refused_and_untouched(harness, tmp_path):
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("create table customers (name text)")
    before = path.read_bytes()
    done = harness("sweep", "--store", str(path))
    assert done.returncode == 2
    assert "holds other tables" in done.stderr
    assert path.read_bytes() == before


def test_a_mistake_in_a_suite_s_file_is_reported_with_its_line(harness, tmp_path):
    (tmp_path / "backends.toml").write_text("ranks = [1]\nbackends = ['single', 'pigeon']\n")
    done = harness("sweep", "backends.toml")
    assert done.returncode == 2
    assert "backends.toml:2: unknown backend 'pigeon'" in done.stderr
    (tmp_path / "options.toml").write_text(
        "[options.horovod]\ntransport = 'gloo'\n\n[options.ddp]\ntransport = 'mpi'\n"
    )
    done = harness("sweep", "options.toml", "--ranks", "2")
    assert done.returncode == 2
    assert "options.toml:5: option backend.ddp.transport: unknown transport 'mpi'" in done.stderr
    done = harness("sweep", "options.toml", "--ranks", "2", "--set", "ddp.transport=nccm")
    assert done.stderr.startswith("error: option backend.ddp.transport: unknown transport 'nccm'; did you mean 'nccl'?")


ABSENT = ("--plugin", str(ROOT / "tests/support/plugins/absent.py"), "--backends", "absent")
NOTHING_RUNS = (*ABSENT, "--workloads", "synthetic", "--ranks", "1")


def test_a_workload_of_which_nothing_runs_is_named(harness):
    done = harness("sweep", *ABSENT, "--workloads", "synthetic,allreduce", "--ranks", "1", "--dry-run")
    assert done.stderr == "nothing of allreduce runs: an allreduce needs at least 2 ranks: --ranks 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_sweep_without_a_number_is_not_fine(harness, as_json):
    done = harness("sweep", *NOTHING_RUNS, *as_json)
    assert done.returncode == 4
    assert done.stderr == "nothing was measured: no_such_framework not installed: ask its maker\n"
    if as_json:
        assert {cell["outcome"] for cell in json.loads(done.stdout)["cells"]} == {"skipped"}


def test_a_dry_run_writes_nothing(harness, tmp_path):
    done = harness("sweep", "--dry-run", "--ranks", "1,2")
    assert done.returncode == 0
    assert "never  mnist · single · 2 ranks · strong: single is one rank by definition" in done.stdout
    # Without frameworks nothing would run, and takes no time.
    expected = r"\n(time: unknown; the measured windows alone take about \d+ (s|min), no trial of this|0 cases × )"
    assert re.search(expected, done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_as_json_is_one_document(harness):
    done = harness("sweep", "--dry-run", "--json", "--ranks", "1,2", "--backends", "ddp")
    document = json.loads(done.stdout)
    assert {"schema", "schema_version", "cases", "skips", "not_applicable", "repeats", "files", "duration"} == set(
        document
    )
    planned = [*document["cases"], *(skip["case"] for skip in document["skips"])]
    assert {(case["workload"], case["ranks"]) for case in planned} == {
        (workload, ranks)
        for workload in ("mnist", "synthetic", "allreduce", "array_mean")
        for ranks in (1, 2)
        if (workload, ranks) != ("allreduce", 1)
    }


def test_a_loosened_tolerance_is_part_of_every_case(harness):
    document = json.loads(harness("sweep", "--dry-run", "--json", "--tolerance", "0.02").stdout)
    planned = [*document["cases"], *(skip["case"] for skip in document["skips"])]
    assert {case["tolerance"] for case in planned} == {0.02}


def test_a_repeated_setting_sweeps_its_values(harness):
    arguments = ("--dry-run", "--json", "--ranks", "1", "--backends", "ddp", "--workloads", "mnist")
    values = ("--set", "ddp.bucket_cap_mb=1", "--set", "ddp.bucket_cap_mb=2,3")
    document = json.loads(harness("sweep", *arguments, *values).stdout)
    planned = [*document["cases"], *(skip["case"] for skip in document["skips"])]
    assert [case["backend_options"] for case in planned] == [{"bucket_cap_mb": float(size)} for size in (1, 2, 3)]


def test_repeating_a_flag_adds_to_its_comma_separated_values(harness):
    flags = ("--ranks", "1", "--ranks", "2, 4", "--backends", "ddp", "--backends", "horovod", "--workloads", "mnist")
    document = json.loads(harness("sweep", "--dry-run", "--json", *flags).stdout)
    planned = [*document["cases"], *(skip["case"] for skip in document["skips"])]
    assert {(case["backend"], case["ranks"]) for case in planned} == {
        (backend, ranks) for backend in ("ddp", "horovod") for ranks in (1, 2, 4)
    }


def test_a_flag_overrides_the_suite_s_option_under_either_name(harness, tmp_path):
    (tmp_path / "mine.toml").write_text("[options.ddp]\nbucket_cap_mb = [1, 2]\n[workload.mnist]\nmodel = 'cnn'\n")
    arguments = ("mine.toml", "--dry-run", "--json", "--ranks", "1", "--backends", "ddp", "--workloads", "mnist")
    document = json.loads(harness("sweep", *arguments, "--set", "backend.ddp.bucket_cap_mb=3").stdout)
    planned = [*document["cases"], *(skip["case"] for skip in document["skips"])]
    assert [(case["backend_options"], case["workload_options"]) for case in planned] == [
        ({"bucket_cap_mb": 3.0}, {"model": "cnn"})
    ]


def test_help_lists_every_command_with_its_first_line(harness):
    done = harness("--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.replace("│", " ").split())
    for name, (_, summary) in COMMANDS.items():
        assert f"{name} {summary}" in text


def test_without_a_command_the_help_is_printed(harness):
    help_text = harness("--help").stdout
    assert [(done.returncode, done.stdout.strip()) for done in (harness(), harness("-h"))] == [
        (0, help_text.strip()),
        (0, help_text.strip()),
    ]


def calls_of(line):
    """The words of each program that a line of a shell calls."""
    words, calls = shlex.shlex(line, posix=True, punctuation_chars=True), [[]]
    words.whitespace_split = True
    for word in words:
        if word in ("&&", "|", ">"):
            calls.append([])
        else:
            calls[-1].append(word)
    return calls


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_s_help_begins_with_its_line_and_ends_with_examples_that_parse(harness, command):
    loaded = load_command(command)
    assert loaded.help.splitlines()[0] == COMMANDS[command][1]
    done = harness(command, "-h")
    assert done.returncode == 0
    examples = re.findall(r"`([^`]+)`", loaded.epilog)
    calls = [call for example in examples for call in calls_of(example)]
    own = [call[3:] for call in calls if call[:3] == ["python", "-m", "harness"]]
    assert any(words[0] == command for words in own)
    for name, *words in own:
        parsed = load_command(name)
        if hasattr(parsed, "commands"):  # a group, as `sweeps`
            name, *words = words
            parsed = parsed.commands[name]
        assert parsed.make_context(name, words).params


def test_the_version_is_that_of_the_installed_package_or_says_that_there_is_none(harness):
    done = harness("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"scaling-harness( \d[\w.+-]*|, not installed: run from its sources)\n", done.stdout)


@pytest.mark.slow
def test_quiet_leaves_out_all_but_errors_and_verbose_names_what_is_started(harness, tmp_path):
    (tmp_path / "a.csv").write_text("ranks,throughput\n1,10\n2,18\n4,30\n")
    assert harness("fit", "a.csv", "-q").stderr == ""
    assert harness("fit", "b.csv", "-q").stderr.startswith("error: ")
    asks_git = ("check", "--pairs-only", "--suite", "pull_request", "--base-rev", "no-such-commit")
    assert "run: git" in harness(*asks_git, "-v").stderr
    assert "run: " not in harness(*asks_git).stderr, "the next command is not verbose any more"


def test_list_names_everything(harness):
    document = json.loads(harness("list", "--json").stdout)
    assert {backend["name"] for backend in document["backends"]} >= {"single", "ddp", "horovod", "dask"}
    workloads = {workload["name"] for workload in document["workloads"]}
    assert workloads >= {"mnist", "synthetic", "allreduce", "array_mean"}
    assert "ddp.bucket_cap_mb" in harness("list").stdout


def test_piped_output_has_no_colours(harness):
    assert "\x1b" not in harness("list").stdout


@pytest.mark.slow
def test_doctor_says_ok_or_missing_with_a_remedy(harness):
    document = json.loads(harness("doctor", "--json").stdout)
    found = {finding["name"]: finding for finding in document["findings"]}
    assert {"Python", "torch", "Horovod", "MPI", "Dask", "NVML and driver", "GPUs", "cores", "memory"} <= set(found)
    for finding in found.values():
        assert finding["status"] in ("ok", "missing")
        assert finding["status"] == "ok" or finding["remedy"], finding
    assert found["Python"]["found"] == ".".join(map(str, sys.version_info[:3]))


def test_a_command_with_a_file_name_that_is_no_text_can_be_stored(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["harness", "sweep", "--store", os.fsdecode(b"\xff r.sqlite")])
    assert command_line() == r"python -m harness sweep --store '\udcff r.sqlite'"
    assert command_line().encode()
