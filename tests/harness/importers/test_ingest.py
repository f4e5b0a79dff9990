"""``ingest``: files that pytest-benchmark really wrote, and ours; what is wrong with a file; the way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from statistics import median

import pytest

from harness.cli.app import main
from harness.importers.pytest_benchmark import read_pytest_benchmark, stable_name
from harness.planning.environment import read_environment
from harness.store.opening import open_store
from reports.formats.documents import schema_version
from tests.support.builders import make_case, make_trial
from tests.support.exports import compare, curve, store_sweep

pytestmark = pytest.mark.slow

BENCHMARKS = """
import pytest

@pytest.mark.parametrize("size", [10, 1000])
def test_sum(benchmark, size):
    benchmark.pedantic(sum, args=(range(size),), rounds=7)

def test_alone(benchmark):
    benchmark.pedantic(sum, args=((),), rounds=3)
"""
NAMES = ["suite/test_sums.py::test_alone", "suite/test_sums.py::test_sum[1000]", "suite/test_sums.py::test_sum[10]"]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """What pytest-benchmark wrote of one run: whole, and without the rounds."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "suite").mkdir()
    (folder / "suite" / "test_sums.py").write_text(BENCHMARKS)
    saved = ["--benchmark-json", "whole.json", "--benchmark-save", "lean", "--benchmark-storage", "kept"]
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", *saved, "suite"]
    # Among tests that run side by side pytest-benchmark takes this run for one of them, and measures nothing.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (lean,) = folder.glob("kept/**/*_lean.json")
    return folder / "whole.json", lean


@pytest.fixture
def changed(written, tmp_path):
    """``changed(edit)``: a copy of the file after ``edit(document)``."""

    def change(edit=lambda document: None, name="changed.json"):
        document = json.loads(written[0].read_text())
        edit(document)
        (tmp_path / name).write_text(json.dumps(document))
        return tmp_path / name

    return change


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "r.sqlite")


def ingest(capsys, *arguments):
    assert main(["ingest", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def stored(place, night):
    with closing(open_store(place, create=False)) as opened:
        return opened.ledger.runs([night])


def set_at(path, value):
    """An edit that puts ``value`` at a place such as ``benchmarks.0.stats``."""

    def edit(document):
        *outer, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in outer:
            document = document[part]
        document[last] = value

    return edit


def test_a_file_is_a_run_of_each_of_its_benchmarks(written, store, capsys):
    document = json.loads(written[0].read_text())
    day = document["datetime"][:10]
    assert ingest(capsys, written[0], "--store", store) == {
        "schema": "scaling-harness/ingest/1",
        "schema_version": schema_version("ingest"),
        "nights": {day: {"benchmarks": 3, "added": 3, "known": 0}},
        "notes": [],
    }
    runs = stored(store, day)
    assert sorted(run.benchmark for run in runs) == sorted(NAMES)
    raw = {one["fullname"]: tuple(one["stats"]["data"]) for one in document["benchmarks"]}
    assert {run.benchmark: run.seconds for run in runs} == raw
    assert {len(raw[name]) for name in NAMES} == {3, 7}
    assert {(run.at, run.commit, run.source) for run in runs} == {(document["datetime"], None, str(written[0]))}


def test_its_place_is_the_machine_and_the_python(written, changed):
    here = read_environment()
    (place,) = {tuple(run.place.items()) for run in read_pytest_benchmark(written[0])}
    assert {"host": here.host, "python": here.python, "implementation": "CPython"}.items() <= dict(place).items()
    assert {"cpu", "cores"} <= dict(place).keys()
    output = changed(set_at("machine_info.packages", {"torch": "2.13.0"}))
    assert read_pytest_benchmark(output)[0].place == {**dict(place), "torch": "2.13.0"}
    silent = changed(set_at("machine_info", {"cpu": {}, "packages": ["torch"]}))
    assert read_pytest_benchmark(silent)[0].place == {}


def test_the_same_file_twice_doubles_nothing(written, changed, store, capsys, tmp_path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(written[0].read_bytes())
    first = ingest(capsys, written[0], written[0], copy, "--store", store, "--night", "n")
    assert first["nights"] == {"n": {"benchmarks": 3, "added": 3, "known": 3}}
    other = changed(set_at("benchmarks.0.stats.data.0", 0.5))
    assert ingest(capsys, copy, other, "--store", store, "--night", "n")["nights"]["n"]["added"] == 3
    assert len(stored(store, "n")) == 6


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-01-01T23:30:00-05:00", "2026-01-02"),
        ("2026-01-01T23:30:00+00:00", "2026-01-01"),
        ("2026-01-01T23:30:00.123456", "2026-01-01"),
    ],
)
def test_the_night_is_the_day_in_utc(changed, moment, day):
    file = changed(set_at("datetime", moment))
    assert {run.night for run in read_pytest_benchmark(file)} == {day}
    assert {run.night for run in read_pytest_benchmark(file, "mine")} == {"mine"}


def test_without_rounds_the_median_stands_for_them(written, store, capsys):
    document = json.loads(written[1].read_text())
    medians = {one["fullname"]: (one["stats"]["median"],) for one in document["benchmarks"]}
    message = ingest(capsys, written[1], "--store", store, "--night", "n")
    assert {run.benchmark: run.seconds for run in stored(store, "n")} == medians
    assert message["notes"] == [f"{written[1]} (median only): its rounds were not saved"]


@pytest.mark.parametrize(
    ("fullname", "stable"),
    [
        ("tests/test_a.py::test_x[1-/tmp/y]", "tests/test_a.py::test_x[1-/tmp/y]"),
        ("/home/me/p/test_a.py::Test::test_x", "test_a.py::Test::test_x"),
        ("../../home/me/test_a.py::test_x", "test_a.py::test_x"),
        ("C:\\p\\test_a.py::test_x", "test_a.py::test_x"),
        ("synthetic[data=/a/b]/ddp-gloo/ranks=2", "synthetic[data=/a/b]/ddp-gloo/ranks=2"),
    ],
)
def test_names_hold_no_place_of_this_machine(fullname, stable):
    assert stable_name(fullname) == stable


def test_a_night_of_two_commits_is_told(changed, store, capsys):
    files = [changed(set_at("commit_info.id", commit), f"{commit}.json") for commit in ("aaa", "bbb")]
    assert ingest(capsys, files[0], "--store", store, "--night", "n")["notes"] == []
    (note,) = ingest(capsys, files[1], "--store", store, "--night", "n")["notes"]
    assert note.startswith("night n holds runs of 2 commits (aaa, bbb)")
    assert main(["export", "n", "--store", store, "--format", "pytest-benchmark"]) == 2
    assert "its runs are of 2 commits or machines" in capsys.readouterr().err


# Bad input


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("benchmarks", [], "benchmarks: Tuple should have at least 1 item"),
        ("benchmarks.1.stats.data.2", -0.5, "benchmarks.1.stats.data.2: Input should be greater than 0, not -0.5"),
        ("benchmarks.1.stats.data.2", 0, "benchmarks.1.stats.data.2: Input should be greater than 0"),
        ("benchmarks.0.stats.data.1", float("nan"), "benchmarks.0.stats.data.1: Input should be a finite number"),
        ("benchmarks.0.stats.data.1", float("inf"), "benchmarks.0.stats.data.1: Input should be a finite number"),
        ("benchmarks.0.stats.data.1", "1", "benchmarks.0.stats.data.1: Input should be a valid number"),
        ("benchmarks.0.stats.data", [], "benchmarks.0.stats.data: Tuple should have at least 1 item"),
        ("benchmarks.0.stats", None, "benchmarks.0.stats: Input should be an object"),
        ("datetime", "yesterday", "datetime: Input should be a valid datetime"),
        ("benchmarks.0.fullname", "/a/suite/test_sums.py::test_alone", None),
        ("benchmarks.0.extra_info", {"scaling_harness_runs": ["one"]}, "scaling_harness_runs: is no name for each"),
    ],
)
def test_what_is_wrong_inside_is_one_line_with_its_place(changed, tmp_path, capsys, path, value, message):
    def edit(document):
        set_at(path, value)(document)
        if message is None:
            document["benchmarks"][1]["fullname"] = "/b/test_sums.py::test_alone"

    bad, good = changed(edit), changed(name="good.json")
    assert main(["ingest", str(good), str(bad), "--store", str(tmp_path / "r.sqlite")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {bad}: ")
    assert err.count("\n") == 1
    assert (message or "holds 2 benchmarks named 'test_sums.py::test_alone'; give each another name") in err
    assert not (tmp_path / "r.sqlite").exists(), "nothing of any file is written"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"machine_info": {}, "benchm', b'{"cells": []}', b"\xff\xfe\x00"])
def test_what_is_no_such_file_is_one_line(written, tmp_path, capsys, content):
    bad = tmp_path / "bad.json"
    bad.write_bytes(content)
    command = ["ingest", str(written[0]), str(bad), "--store", str(tmp_path / "r.sqlite"), "--from", "pytest-benchmark"]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {bad}: ")
    assert err.endswith("; write it again with `pytest --benchmark-json FILE`\n")
    assert not (tmp_path / "r.sqlite").exists()


def test_a_file_or_a_night_that_is_none(written, tmp_path, capsys):
    place = str(tmp_path / "r.sqlite")
    assert main(["ingest", str(tmp_path / "no.json"), "--store", place]) == 2
    assert "no.json: cannot be read (No such file or directory)" in capsys.readouterr().err
    assert main(["ingest", str(tmp_path), "--store", place]) == 2
    assert "cannot be read (Is a directory)" in capsys.readouterr().err
    assert main(["ingest", str(written[0]), "--night", " ", "--store", place]) == 2
    assert "--night: is empty" in capsys.readouterr().err
    assert not (tmp_path / "r.sqlite").exists()


# The way back


def test_an_exported_sweep_comes_back_with_a_run_a_trial(tmp_path, store, capsys):
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason="rank 3 died")
    store_sweep(store, [*curve(rounds=3), failed])
    out = tmp_path / "a.json"
    assert main(["export", "--store", store, "--out", str(out)]) == 0
    capsys.readouterr()
    assert ingest(capsys, out, "--store", store)["nights"] == {"2026-01-01": {"benchmarks": 3, "added": 9, "known": 0}}
    runs = [run for run in stored(store, "2026-01-01") if run.benchmark == make_case(ranks=1).key]
    assert [(run.run, *run.seconds) for run in runs] == [
        (f"s1/{number}", pytest.approx(0.1 + 0.001 * number)) for number in range(3)
    ]
    assert ingest(capsys, out, "--store", store)["nights"]["2026-01-01"] == {"benchmarks": 3, "added": 0, "known": 9}


def test_a_night_goes_out_as_it_came(written, changed, tmp_path, store, capsys):
    later = changed(lambda document: [one["stats"]["data"].reverse() for one in document["benchmarks"]])
    ingest(capsys, written[0], later, "--store", store, "--night", "2026-01-05")
    assert main(["export", "2026-01-05", "--store", store, "--out", str(tmp_path / "night.json")]) == 0
    assert "6 runs of 2026-01-05" in capsys.readouterr().err
    done = compare(
        tmp_path, str(tmp_path / "night.json"), str(written[0]), "--sort", "fullname", "--columns", "median,rounds"
    )
    assert (done.returncode, done.stderr.count("Failed")) == (0, 0), done.stderr
    assert "6 tests" in done.stdout
    again = ingest(capsys, tmp_path / "night.json", "--store", store, "--night", "2026-01-05")
    assert again["nights"]["2026-01-05"] == {"benchmarks": 3, "added": 0, "known": 6}
    elsewhere = str(tmp_path / "other.sqlite")
    ingest(capsys, tmp_path / "night.json", "--store", elsewhere, "--night", "2026-01-05")

    def facts(place):
        runs = stored(place, "2026-01-05")
        return {(run.benchmark, run.run, median(run.seconds), run.commit, *run.place.items()) for run in runs}

    assert facts(elsewhere) == facts(store)


def test_other_formats_have_no_place_for_such_a_night(written, store, capsys):
    ingest(capsys, written[0], "--store", store, "--night", "n")
    assert main(["export", "n", "--store", store]) == 2
    assert "--format csv: cannot hold ingested runs, as n is; use pytest-benchmark" in capsys.readouterr().err
    assert main(["export", "m", "--store", store]) == 2
    assert "holds no sweep yet" in capsys.readouterr().err
