"""``export``: the table, and each format read by what it is for."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

from bench.core.case import Fault
from bench.core.records import Condition, SameWork
from harness.cli.app import main
from harness.planning.plan import Skip
from reports.analysis.step_times import throughput_of
from reports.formats.exports import CannotExport, format_names, load_format
from reports.formats.exports.csv import trials_csv
from reports.formats.exports.pytest_benchmark import stats_of
from reports.formats.trial_rows import SweepTable, TrialRow
from tests.support.builders import make_case, make_trial
from tests.support.exports import compare, curve, store_sweep

HOSTILE = 'died: "x", y\r\n=HYPERLINK("http://a";"b")\n\u2028🙂'


@pytest.fixture
def exported(tmp_path, capsys):
    """Store the trials as a sweep, export it to standard output, and return what was said."""
    place = tmp_path / "r.sqlite"

    def export(trials, *arguments, status=0, **sweep):
        store_sweep(place, trials, **sweep)
        assert main(["export", "--store", str(place), *arguments]) == status
        return capsys.readouterr()

    return export


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# The table


def test_a_row_a_trial_with_its_numbers(exported):
    trials = curve(workload_options={"model": "toy", "depth": 3})
    said = exported(trials)
    assert said.err == ""
    rows = rows_of(said.out)
    assert list(rows[0]) == list(TrialRow.model_fields)
    assert [(row["ranks"], row["round"]) for row in rows] == [(str(t.case.ranks), str(t.round)) for t in trials]
    for row, trial in zip(rows, trials, strict=True):
        assert float(row["throughput"]) == throughput_of(trial.ranks)
        assert float(row["step_s"]) == trial.ranks[0].step_s[0]
        assert row["case"] == trial.case.key
        assert json.loads(row["workload_options"]) == trial.case.workload_options
        assert (row["unit"], row["steps"], row["outcome"], row["reason"]) == ("samples", "2", "ok", "")


def test_what_is_unknown_is_empty_and_never_0(exported):
    (row,) = rows_of(exported([make_trial(make_case(ranks=1))]).out)
    assert row["cpu_energy_j_per_unit"] == row["gpu_energy_j_per_unit"] == row["memory_peak_bytes"] == ""
    assert json.loads(row["unknown"]) == {"memory_peak_bytes": "not recorded"}


def test_hostile_text_survives(exported):
    case = make_case(ranks=1, workload_options={"path": '=1+1,"\n'})
    (row,) = rows_of(exported([make_trial(case, outcome="failed", ranks=(), reason=HOSTILE)]).out)
    assert (row["outcome"], row["reason"]) == ("failed", HOSTILE)
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


def test_other_work_spoils_its_whole_case(exported):
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


# Into a file


def test_a_file_appears_whole_and_its_suffix_says_the_format(tmp_path, exported):
    target = tmp_path / "new" / "now.json"
    said = exported(curve(), "--out", str(target))
    assert said.out == ""
    assert f"pytest-benchmark: 6 rows of s1 → {target}" in said.err
    assert len(json.loads(target.read_text())["benchmarks"]) == 3
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sX"], "has no sweep 'sX'; did you mean 's1'?"),
        (["--format", "cvs"], "--format cvs: unknown format; did you mean 'csv'?"),
        (["--out", "/dev/null"], "--out /dev/null: is not an ordinary file"),
        (["--out", "/dev/null/x.csv"], "/dev/null/x.csv: cannot be written"),
        (["--out", "/"], "--out /: is not an ordinary file"),
        (["--format", "parquet"], "--format parquet: is not text; name a file with --out"),
        (["--format", "extrap"], "--format extrap: Extra-P needs a curve of at least two rank counts"),
        (["--store", "none.sqlite"], "none.sqlite: no such file"),
    ],
)
def test_bad_input_is_one_line(exported, arguments, said):
    told = exported(curve(counts=(1,)), *arguments, status=2)
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert said in told.err


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    more_than_a_pipe_holds = make_trial(make_case(), outcome="failed", ranks=(), reason="x" * 200_000)
    store_sweep(tmp_path / "r.sqlite", [more_than_a_pipe_holds])
    command = f"{sys.executable} -m harness export --store r.sqlite | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sweep,started_at,")


# What every format promises


@pytest.mark.parametrize("name", format_names())
def test_a_format_registers_itself(name):
    found = load_format(name)
    assert found.summary
    assert found.suffixes
    for suffix in found.suffixes:
        assert suffix.startswith(".")
        assert [other for other in format_names() if suffix in load_format(other).suffixes] == [name]


@pytest.mark.parametrize("name", format_names())
def test_a_format_knows_what_to_do_with_nothing(name):
    """A whole file, or one line that says why not."""
    found = load_format(name)
    said = ""
    try:
        assert isinstance(found.render(SweepTable(sweeps=(), rows=())).content, str) == found.text
    except CannotExport as problem:
        said = str(problem)
    assert "\n" not in said


# CSV and fit


def test_fit_reads_the_export(tmp_path, exported, capsys):
    broken = [make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason="rank 3 died")]
    crowded = curve(counts=(16,), rounds=1, flags=("oversubscribed",))
    slowed = curve(counts=(2,), rounds=1, fault=Fault(kind="slow", rank=1, ms=9), flags=("injected",))
    target = tmp_path / "trials.csv"
    exported([*curve(workload_options={"model": "toy"}), *curve(), *broken, *crowded, *slowed], "--out", str(target))
    assert main(["fit", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == {"outcome failed": 1, "oversubscribed": 1, "injected": 1}
    assert [one["curve"] for one in found["curves"]] == [
        make_case(workload_options={"model": "toy"}).curve,
        make_case().curve,
    ]
    for one in found["curves"]:
        assert [(point["ranks"], point["throughput"]["n"]) for point in one["points"]] == [(1, 2), (2, 2), (4, 2)]
    assert main(["fit", str(target)]) == 0
    said = capsys.readouterr().out
    assert "synthetic[model=toy]/ddp-gloo" in said, "brackets are no style"
    assert "left out: 1 row: outcome failed" in said


def test_fit_keeps_environments_apart(tmp_path, capsys):
    path = tmp_path / "rates.csv"
    path.write_text("curve,environment,ranks,throughput\na,x,1,10\na,x,2,19\na,y,1,100\na,y,2,150\nb,x,1,5\nb,x,2,9\n")
    assert main(["fit", str(path), "--json"]) == 0
    assert [one["curve"] for one in json.loads(capsys.readouterr().out)["curves"]] == ["a (x)", "a (y)", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ranks,throughput,outcome\n1,,ok\n", ":2: throughput is empty; give a number"),
        ("ranks,throughput\n1,\n", ":2: throughput is empty; give a number"),
        ("ranks,throughput,outcome\n1,,failed\n", "holds no rows to fit (1 left out: outcome failed)"),
    ],
)
def test_fit_takes_an_empty_throughput_only_with_its_reason(tmp_path, capsys, text, said):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    assert main(["fit", str(path)]) == 2
    assert said in capsys.readouterr().err


@given(st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_csv_gives_back_what_went_in(number, text):
    row = TrialRow.model_construct(
        **{**dict.fromkeys(TrialRow.model_fields), "throughput": number, "reason": text or None}
    )
    (found,) = rows_of(trials_csv([row]))
    assert (float(found["throughput"]), found["reason"]) == (number, text)


# Parquet


def test_parquet_gives_back_the_rows_with_their_types(tmp_path, exported):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    import pandas

    target = tmp_path / "trials.parquet"
    broken = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason=HOSTILE)
    trials = [*curve(), broken]
    exported(trials, "--out", str(target))
    first = target.read_bytes()
    frame = pandas.read_parquet(target)
    assert list(frame.columns) == list(TrialRow.model_fields)
    assert list(frame["throughput"][:-1]) == [throughput_of(trial.ranks) for trial in trials[:-1]]
    assert frame["throughput"].isna().sum() == 1
    assert frame["reason"].iloc[-1] == HOSTILE
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    # Columns without a single value have a type all the same.
    assert (kinds["ranks"], kinds["gpu_energy_j_per_unit"], kinds["fault"]) == ("Int64", "Float64", "string")
    assert kinds["changed_files"] == "boolean"
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), "--out", str(target)]) == 0
    assert target.read_bytes() == first


def test_without_pyarrow_one_line_names_the_remedy(tmp_path, exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = exported(curve(), "--out", str(tmp_path / "x.parquet"), status=2)
    assert said.err.count("\n") == 1
    assert "pyarrow is not installed; run `python -m pip install pyarrow`" in said.err
    assert not (tmp_path / "x.parquet").exists()


# pytest-benchmark


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30))
def test_statistics_are_pytest_benchmark_s_own(times_s):
    theirs = Stats()
    for time_s in times_s:
        theirs.update(time_s)
    ours = stats_of(times_s)
    assert ours.keys() - theirs.as_dict().keys() == {"data", "iterations"}
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "q1", "q3", "ops", "total"):
        assert ours[name] == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5, 41, 42, 43])
def test_outliers_are_pytest_benchmark_s_own(rounds):
    rng, theirs = random.Random(rounds), Stats()
    times_s = [rng.lognormvariate(0, 1) for _ in range(rounds)]
    for time_s in times_s:
        theirs.update(time_s)
    for name in ("outliers", "stddev_outliers", "iqr_outliers", "ld15iqr", "hd15iqr"):
        assert stats_of(times_s)[name] == getattr(theirs, name), name


def test_pytest_benchmark_compares_two_exports(tmp_path, exported):
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason="rank 3 died")
    said = exported([*curve(rounds=3), failed], "--out", str(tmp_path / "a.json"))
    assert "left out: synthetic · ddp/gloo · 8 ranks · strong: failed" in said.err
    exported(curve(rounds=1), "--out", str(tmp_path / "b.json"), name="s2", started_at="2026-01-02T00:00:00+00:00")
    done = compare(tmp_path, "a.json", "b.json", "--csv", "both.csv", "--sort", "fullname")
    assert (done.returncode, done.stderr.count("Failed")) == (0, 0), done.stderr
    assert "benchmark 'synthetic/strong': 6 tests" in done.stdout
    assert "synthetic · ddp/gloo · 4 ranks · strong" in done.stdout
    found = rows_of((tmp_path / "both.csv").read_text())
    assert [(row["name"], row["rounds"]) for row in found[:2]] == [
        (make_case(ranks=1).key, "3"),
        (make_case(ranks=1).key, "1"),
    ]
    assert [float(row["median"]) for row in found[:2]] == [0.101, 0.1]
    assert [row["param:ranks"] for row in found] == ["1", "1", "2", "2", "4", "4"]
    assert "Δ" in compare(tmp_path, "a.json", "b.json", "--between", "median").stdout


def test_pytest_benchmark_takes_one_sweep_a_file(tmp_path, capsys):
    store_sweep(tmp_path / "r.sqlite", curve(), name="a")
    store_sweep(tmp_path / "r.sqlite", curve(), name="b")
    store = ["--store", str(tmp_path / "r.sqlite")]
    assert main(["export", "a", "b", "--format", "pytest-benchmark", *store]) == 2
    assert "export each sweep to a file of its own" in capsys.readouterr().err


# Extra-P


def points(text: str) -> list[tuple]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line.keys() == {"params", "callpath", "metric", "value"} for line in lines)
    assert {line["metric"] for line in lines} <= {"step_s"}
    return [(line["callpath"], tuple(line["params"].items()), line["value"]) for line in lines]


def test_extrap_lines(exported):
    said = exported(curve(counts=(2, 1)), "--format", "extrap")
    path = "synthetic/ddp-gloo/strong/batch=8/threads=1/cpu/seed=0"
    assert said.err == ""
    assert points(said.out) == [
        (path, (("ranks", 1),), 0.1),
        (path, (("ranks", 1),), 0.101),
        (path, (("ranks", 2),), pytest.approx(0.1 / 2**0.5)),
        (path, (("ranks", 2),), pytest.approx(0.1 / 2**0.5 + 0.001)),
    ]


def test_extrap_every_path_has_every_point(exported):
    """Extra-P refuses the whole file otherwise."""
    trials = [*curve("single", (1,), 1), *curve("ddp", (1, 2, 4), 1), *curve("horovod", (1, 2, 4, 8), 1)]
    trials += curve("ddp", (16,), 1, flags=("oversubscribed",))
    said = exported(trials, "--format", "extrap")
    found: dict[str, list] = {}
    for path, params, _ in points(said.out):
        found.setdefault(path.split("/")[1], []).append(dict(params)["ranks"])
    assert found == {"ddp-gloo": [1, 2, 4], "horovod-gloo": [1, 2, 4]}
    assert "left out: 1 rows that failed, were skipped or feed no scaling claim" in said.err
    assert "single-gloo/strong/batch=8/threads=1/cpu/seed=0: lacks ranks 2, 4, which others have" in said.err
    assert "horovod-gloo/strong/batch=8/threads=1/cpu/seed=0: ranks 8, which others lack" in said.err


def test_extrap_takes_what_varies_for_a_parameter(exported):
    trials = [trial for batch in (8, 16) for trial in curve(counts=(1, 2), rounds=1, batch=batch)]
    trials += [trial for batch in (8, 16) for trial in curve("horovod", (1, 2), 1, batch=batch)]
    found = points(exported(trials, "--format", "extrap").out)
    assert {path for path, *_ in found} == {
        f"synthetic/{name}-gloo/strong/threads=1/cpu/seed=0" for name in ("ddp", "horovod")
    }
    assert [dict(params) for _, params, _ in found[:4]] == [
        {"ranks": ranks, "batch": batch} for ranks in (1, 2) for batch in (8, 16)
    ]


# Its dependencies contradict ours (numpy below 2), so that it lives in an environment of its own.
@pytest.mark.skipif(shutil.which("extrap") is None, reason="Extra-P's command `extrap` is not on the PATH")
def test_extrap_finds_the_law_that_was_put_in(tmp_path, exported):
    trials = [make_trial(make_case(ranks=n), step_s=0.01 + 0.002 * n) for n in (1, 2, 4, 8, 16)]
    trials += [make_trial(make_case(backend="single", ranks=1))]
    exported(trials, "--out", str(tmp_path / "steps.jsonl"))
    command = ["extrap", "--disable-progress", "--json", "steps.jsonl", "--print", "functions"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    constant, slope = done.stdout.strip().removesuffix(" * ranks^(1)").split(" + ")
    assert (float(constant), float(slope)) == pytest.approx((0.01, 0.002))
