"""``export``: the table of trials, files, and what every format does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.core.records import Condition
from bench.core.same_work import SameWork
from harness.cli.app import main
from harness.planning.plan import Skip
from reports.analysis.step_times import throughput_of
from reports.formats.csv_cells import unescape_cell
from reports.formats.exports import FORMATS, CannotExport, FolderFormat, Format, Tracker, format_names, load_format
from reports.formats.trial_rows import SweepTable, TrialRow
from tests.support.builders import make_case, make_trial
from tests.support.exports import HOSTILE, curve, rows_of, store_sweep


def test_one_row_for_each_trial_with_its_numbers(exported):
    trials = curve(workload_options={"model": "toy", "depth": 3})
    output = exported(trials)
    assert output.err == ""
    rows = rows_of(output.out)
    assert list(rows[0]) == list(TrialRow.model_fields)
    assert [(row["ranks"], row["round"]) for row in rows] == [(str(t.case.ranks), str(t.round)) for t in trials]
    for row, trial in zip(rows, trials, strict=True):
        assert float(row["throughput"]) == throughput_of(trial.ranks)
        assert float(row["step_s"]) == trial.ranks[0].step_s[0]
        assert row["case"] == trial.case.key
        assert json.loads(row["workload_options"]) == trial.case.workload_options
        assert (row["unit"], row["steps"], row["outcome"], row["reason"]) == ("samples", "2", "ok", "")


def test_unknown_values_are_empty_and_never_0(exported):
    (row,) = rows_of(exported([make_trial(make_case(ranks=1))]).out)
    assert row["cpu_energy_j_per_unit"] == row["gpu_energy_j_per_unit"] == row["memory_peak_bytes"] == ""
    assert json.loads(row["unknown"]) == {"memory_peak_bytes": "not recorded"}


def test_hostile_text_survives(exported):
    case = make_case(ranks=1, workload_options={"path": '=1+1,"\n'})
    (row,) = rows_of(exported([make_trial(case, outcome="failed", ranks=(), reason=HOSTILE)]).out)
    assert (row["outcome"], unescape_cell(row["reason"])) == ("failed", HOSTILE)
    assert "\n'=HYPERLINK" in row["reason"]
    assert json.loads(row["workload_options"]) == case.workload_options
    assert row["throughput"] == row["step_s"] == row["unit"] == ""


def test_an_invalid_trial_has_its_outcome_and_no_number(exported):
    hot = Condition(name="gpu_thermal", seen="95 °C", serious=True)
    good, spoilt = curve(counts=(1,))
    rows = rows_of(
        exported([good, spoilt.model_copy(update={"outcome": "invalid", "reason": "hot", "conditions": (hot,)})]).out
    )
    assert [(row["outcome"], bool(row["throughput"]), row["conditions"]) for row in rows] == [
        ("ok", True, ""),
        ("invalid", False, "gpu_thermal"),
    ]


def test_different_work_invalidates_the_whole_case(exported):
    good, other, apart = curve(counts=(1,), rounds=3)
    wrong = SameWork(verdict="different", reason="other losses")
    other = other.model_copy(update={"outcome": "invalid", "reason": "other losses", "same_work": wrong})
    rows = rows_of(exported([good, other, apart]).out)
    assert [row["outcome"] for row in rows] == ["invalid"] * 3
    assert all("other losses" in row["reason"] and not row["throughput"] for row in rows)


def test_a_case_that_never_ran_is_a_row_with_its_reason(exported):
    skip = Skip(case=make_case(backend="horovod"), reason="Horovod is not installed")
    ran, skipped = rows_of(exported(curve(counts=(2,), rounds=1), skips=[skip]).out)
    assert ran["outcome"] == "ok"
    assert (skipped["outcome"], skipped["reason"], skipped["round"]) == ("skipped", "Horovod is not installed", "")


def test_several_sweeps_each_once_and_the_same_bytes_again(tmp_path, capsys):
    place = tmp_path / "r.sqlite"
    store_sweep(place, curve(), name="a")
    store_sweep(place, curve("horovod"), name="b", started_at="2026-01-02T00:00:00+00:00")

    def export(*sweeps):
        assert main(["export", *sweeps, "--store", str(place)]) == 0
        return capsys.readouterr().out

    assert {row["sweep"] for row in rows_of(export())} == {"b"}
    both = export("b", "a", "latest")
    assert [row["sweep"] for row in rows_of(both)] == ["b"] * 6 + ["a"] * 6
    assert both == export("b", "a", "latest")


def test_a_file_appears_whole_and_its_suffix_says_the_format(tmp_path, exported):
    target = tmp_path / "now.json"
    output = exported(curve(), "--out", str(target))
    assert output.out == ""
    assert f"pytest-benchmark: 6 rows of s1 → {target}" in output.err
    assert len(json.loads(target.read_text())["benchmarks"]) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"now.json", "r.sqlite"}


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["sX"], "has no sweep 'sX'; did you mean 's1'?"),
        (["--format", "cvs"], "--format cvs: unknown format; did you mean 'csv'?"),
        (["--out", "/dev/null"], "--out /dev/null: is a device, and outputs are ordinary files"),
        (["--out", "/dev/null/x.csv"], "/dev/null/x.csv: cannot be written"),
        (["--out", "/"], "--out '/': names a folder"),
        (["--format", "parquet"], "--format parquet: is not text; name a file with --out"),
        (["--format", "extrap"], "--format extrap: Extra-P needs a curve of at least two rank counts"),
        (["--store", "none.sqlite"], "none.sqlite: no such file"),
    ],
)
def test_bad_input_is_one_line(exported, arguments, output):
    captured = exported(curve(counts=(1,)), *arguments, status=2)
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert output in captured.err


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(tmp_path):
    more_than_a_pipe_holds = make_trial(make_case(), outcome="failed", ranks=(), reason="x" * 200_000)
    store_sweep(tmp_path / "r.sqlite", [more_than_a_pipe_holds])
    command = f"{sys.executable} -m harness export --store r.sqlite | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sweep,started_at,")


FILES = [name for name in format_names() if isinstance(load_format(name), Format)]


@pytest.mark.parametrize("name", format_names())
def test_a_format_registers_itself(name):
    found = load_format(name)
    assert found.summary
    assert isinstance(found, Format | FolderFormat | Tracker)


@pytest.mark.parametrize("name", FILES)
def test_a_suffix_is_of_one_format(name):
    for suffix in load_format(name).suffixes:
        assert suffix.startswith(".")
        assert [other for other in FILES if suffix in load_format(other).suffixes] == [name]


@pytest.mark.parametrize(
    ("name", "missing", "remedy"),
    [
        ("mlflow", "mlflow", "mlflow-skinny is not installed; run `python -m pip install mlflow-skinny`"),
        ("tensorboard", "tensorboard", "tensorboard is not installed; run `python -m pip install tensorboard`"),
        ("wandb", "wandb", "wandb is not installed; run `python -m pip install wandb`"),
    ],
)
def test_without_its_package_a_tracker_is_one_line_with_the_remedy(
    tmp_path, exported, monkeypatch, name, missing, remedy
):
    monkeypatch.setitem(sys.modules, missing, None)
    error = exported(curve(), "--format", name, "--out", str(tmp_path / "out"), status=2).err
    assert error.count("\n") == 1
    assert f"--format {name}: {remedy} (the extra `{name}`)" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("mlflow", "name a tracking URI, such as sqlite:///mlflow.db with --out, or set MLFLOW_TRACKING_URI"),
        ("tensorboard", "writes a folder; name it with --out"),
        ("wandb", "name a folder with --out, or set WANDB_DIR"),
    ],
)
def test_a_tracker_needs_a_place(exported, monkeypatch, name, remedy):
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    assert f"--format {name}: {remedy}" in exported(curve(), "--format", name, status=2).err


REFUSALS = {
    "extrap": "a curve of at least two rank counts",
    "nccl-tests": "no collective operation",
    "pytest-benchmark": "export each sweep to a file of its own",
}


@pytest.mark.parametrize("name", sorted(set(FILES) - REFUSALS.keys()))
def test_a_format_of_rows_exports_no_rows(name):
    export_format = load_format(name)
    assert isinstance(export_format.render(SweepTable(sweeps=(), rows=())).content, str) == export_format.text


@pytest.mark.parametrize(("name", "reason"), REFUSALS.items())
def test_a_format_that_needs_rows_refuses_in_one_line(name, reason):
    with pytest.raises(CannotExport, match=reason) as caught:
        load_format(name).render(SweepTable(sweeps=(), rows=()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["=1+1", "-x", "@SUM(1)", "+1;=1", "'=x"])
def test_a_curve_named_like_a_formula_is_text_in_a_spreadsheet_and_itself_to_fit(exported, tmp_path, capsys, backend):
    (tmp_path / "t.csv").write_text(exported(curve(workload=backend)).out)
    for row in rows_of((tmp_path / "t.csv").read_text()):
        for name in ("case", "curve", "workload"):
            assert row[name].startswith("'")
    assert main(["fit", str(tmp_path / "t.csv"), "--json"]) == 0
    (fitted,) = json.loads(capsys.readouterr().out)["curves"]
    assert fitted["curve"].startswith(f"{backend}/ddp-gloo/")


def test_numbers_stay_numbers(exported):
    proof = SameWork(verdict="same", deviation=-1e-7, tolerance=1e-3)
    (row,) = rows_of(exported([make_trial(make_case(ranks=1), same_work=proof)]).out)
    assert row["same_work_deviation"] == "-1e-07"


@pytest.fixture
def no_plugins():
    """Formats of files, which the process would keep, are forgotten."""
    yield
    FORMATS.files.clear()


FOLDER_PLUGIN = """
from pathlib import PurePosixPath
import re
from reports.formats.exports import FileOfFolder, FolderFormat

def files(sweeps):
    for sweep in sweeps:
        for cell in sweep.cells:
            rounds = [trial.values.get("step_seconds") for trial in sweep.trials(cell)]
            yield FileOfFolder(PurePosixPath(FOLDER, f"{cell.case.ranks}.txt"), f"mine {rounds}".encode())

FORMAT = FolderFormat("steps", files, re.compile(b"mine"))
"""


def test_a_plugin_writes_a_folder_and_none_outside_of_it(tmp_path, exported, no_plugins):
    (tmp_path / "good.py").write_text(f"FOLDER = 'a'{FOLDER_PLUGIN}")
    (tmp_path / "bad.py").write_text(f"FOLDER = '../..'{FOLDER_PLUGIN}")
    out = tmp_path / "deep" / "out"
    arguments = ("--plugin", str(tmp_path / "good.py"), "--format", "good", "--out", str(out))
    assert f"good: 2 files of s1 → {out}" in exported(curve(counts=(1, 2)), *arguments).err
    assert (out / "a" / "1.txt").read_text() == "mine [0.1, 0.101]"
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), *arguments]) == 0, "ours are replaced"
    (out / "a" / "1.txt").write_text("theirs")
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), *arguments]) == 2
    bad = ("--plugin", str(tmp_path / "bad.py"), "--format", "bad", "--out", str(out))
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), *bad]) == 2
    assert not (tmp_path / "1.txt").exists()


TRACKER_PLUGIN = """
from reports.formats.exports import FORMATS, CannotExport, Tracked, Tracker

def write(sweeps, place):
    if place == "nowhere":
        raise CannotExport("there is no such place; name another with --out")
    titles = [cell.title for sweep in sweeps for cell in sweep.cells]
    return Tracked(len(titles), 1, (f"{titles[0]} to {place}",))

FORMAT = Tracker("a tracker", write, out="a place", variable="MY_TRACKER")
"""


def test_a_plugin_is_a_tracker(tmp_path, exported, capsys, monkeypatch, no_plugins):
    (tmp_path / "mine.py").write_text(TRACKER_PLUGIN)
    monkeypatch.setenv("MY_TRACKER", "https://me:hunter2@there")
    plugin = ("--plugin", str(tmp_path / "mine.py"), "--format", "mine")
    error = exported(curve(counts=(1, 2)), *plugin).err
    assert "note: synthetic · ddp/gloo · 1 rank · strong to https://me:***@there" in error
    assert "mine: 2 runs written, 1 unchanged, of s1 → https://me:***@there" in error
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), *plugin, "--out", "nowhere"]) == 2
    assert "--format mine: there is no such place; name another with --out" in capsys.readouterr().err
