"""Files of other tools become runs: their names, numbers, places and moments, and what is left out with its reason."""

from __future__ import annotations

import json
import re
import shutil
import signal
from contextlib import closing
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.errors import UsageError
from harness.importers import IMPORTERS, FileRuns
from harness.importers.detection import HEAD_BYTES, matching_importers
from harness.importers.log_lines import parse_pattern, read_log
from harness.importers.pattern_time import PatternTimeError, limited_lines
from harness.store.opening import open_store

FILES = Path(__file__).parent / "files"
ASV = next((FILES / "asv-0.6.6/node1").glob("*.json"))
TOOLS = {
    "pyperf": ["pyperf-2.11.0.json", "pyperf-2.11.0-one-benchmark.json"],
    "hyperfine": ["hyperfine-1.15.0.json", "hyperfine-1.15.0-failures.json"],
    "google-benchmark": ["google-benchmark-1.9.5.json"],
    "asv": [f"asv-0.6.6/node1/{ASV.name}"],
    "nccl-tests": ["nccl-tests-2.18.txt", "nccl-tests-json-2.json"],
    "torchtitan": ["torchtitan.log"],
    "megatron": ["megatron.log"],
}
OF_FILES = [(tool, name) for tool, names in TOOLS.items() for name in names]


def read(importer, name, night="2026-11-20"):
    found = IMPORTERS.load(importer).read(FILES / name, night)
    return found if isinstance(found, FileRuns) else FileRuns(found)


def times(found):
    return {run.benchmark: run.seconds for run in found.runs}


def ingested_runs(store, night):
    with closing(open_store(store, create=False)) as opened:
        return opened.ledger.runs([night])


@pytest.mark.parametrize(("tool", "name"), OF_FILES)
def test_each_file_is_recognized_as_that_of_its_tool_only(tool, name):
    importers, broken = IMPORTERS.load_all()
    assert broken == []
    assert matching_importers((FILES / name).read_bytes()[:HEAD_BYTES], importers) == [tool]


def test_a_run_of_pyperf_is_a_process_and_calibration_is_none():
    found = read("pyperf", "pyperf-2.11.0.json")
    document = json.loads((FILES / "pyperf-2.11.0.json").read_text())
    written = [tuple(run["values"]) for run in document["benchmarks"][0]["runs"]]
    assert [run.seconds for run in found.runs if run.benchmark == "sort"] == written
    assert len({run.run for run in found.runs if run.benchmark == "sort"}) == 3
    assert found.runs[0].place["host"] == "node1"
    assert found.runs[0].place["python"].startswith("3.")
    # Of one benchmark pyperf puts the name among the metadata of the file; its first run calibrates.
    alone = read("pyperf", "pyperf-2.11.0-one-benchmark.json")
    assert [run.benchmark for run in alone.runs] == ["sort"] * 2


def test_a_memory_file_of_pyperf_holds_no_duration(tmp_path):
    document = json.loads((FILES / "pyperf-2.11.0.json").read_text())
    document["metadata"]["unit"] = "byte"
    (tmp_path / "m.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"holds no duration of any benchmark.*its unit is byte"):
        IMPORTERS.load("pyperf").read(tmp_path / "m.json", None)


def test_each_timing_of_hyperfine_is_a_run_and_failed_ones_are_left_out():
    document = json.loads((FILES / "hyperfine-1.15.0.json").read_text())
    found = read("hyperfine", "hyperfine-1.15.0.json")
    assert [run.seconds[0] for run in found.runs] == [time_s for one in document["results"] for time_s in one["times"]]
    failing = json.loads((FILES / "hyperfine-1.15.0-failures.json").read_text())["results"][0]
    good = [time_s for time_s, code in zip(failing["times"], failing["exit_codes"], strict=True) if code == 0]
    assert 0 < len(good) < 5
    found = read("hyperfine", "hyperfine-1.15.0-failures.json")
    assert [run.seconds[0] for run in found.runs] == good
    assert f"{5 - len(good)} runs of" in found.notes[0]


def test_google_benchmarks_aggregates_are_no_repetitions(tmp_path):
    found = read("google-benchmark", "google-benchmark-1.9.5.json")
    document = json.loads((FILES / "google-benchmark-1.9.5.json").read_text())
    rows = [one for one in document["benchmarks"] if one["name"] == "sum_range/8"]
    assert times(found)["sum_range/8"] == pytest.approx([row["real_time"] * 1e-9 for row in rows])
    assert set(times(found)) == {"sum_range/8", "sum_range/64", "sort"}
    only = {**document, "benchmarks": [one for one in document["benchmarks"] if one["run_type"] == "aggregate"]}
    (tmp_path / "g.json").write_text(json.dumps(only))
    found = IMPORTERS.load("google-benchmark").read(tmp_path / "g.json", None)
    median = next(one["real_time"] for one in only["benchmarks"] if one["name"] == "sort_median")
    assert times(found)["sort"] == pytest.approx((median * 1e-9,))
    assert "the median stands for them" in found.notes[0]


def test_asv_has_a_series_for_each_combination_and_a_commit():
    found = read("asv", f"asv-0.6.6/node1/{ASV.name}")
    assert set(times(found)) == {
        "b.time_sort",
        *(f"b.Suite.time_sum({n}, '{kind}')" for n in (100, 1000) for kind in "ab"),
    }
    document = json.loads(ASV.read_text())
    samples = document["results"]["b.Suite.time_sum"][document["result_columns"].index("samples")]
    assert times(found)["b.Suite.time_sum(1000, 'b')"] == tuple(samples[3])
    assert {run.commit for run in found.runs} == {document["commit_hash"]}
    assert not any("/" in value for run in found.runs for value in run.place.values())
    other, failed = found.notes
    assert "b.peakmem_list" in other
    assert "b.track_ratio" in other
    assert "b.time_fails" in failed


def test_asv_without_samples_has_its_result(tmp_path):
    document = json.loads(ASV.read_text())
    row = document["results"]["b.time_sort"]
    row[document["result_columns"].index("samples")] = None
    row[0] = [float("nan")]
    document["results"]["b.Suite.time_sum"] = document["results"]["b.Suite.time_sum"][:11]
    shutil.copytree(FILES / "asv-0.6.6", tmp_path / "asv")
    path = tmp_path / "asv/node1" / ASV.name
    path.write_text(json.dumps(document))
    found = IMPORTERS.load("asv").read(path, None)
    assert times(found)["b.Suite.time_sum(100, 'a')"] == (document["results"]["b.Suite.time_sum"][0][0],)
    assert "b.time_sort" in found.notes[1], "NaN is no duration"


def test_nccl_tests_as_text():
    found = read("nccl-tests", "nccl-tests-2.18.txt")
    assert times(found) == {
        "all_reduce_perf, 1048576 B, float, sum, out of place": pytest.approx((339.61e-6,)),
        "all_reduce_perf, 1048576 B, float, sum, in place": pytest.approx((335.85e-6,)),
        "all_reduce_perf, 2097152 B, float, sum, out of place": pytest.approx((355.53e-6,)),
        "all_reduce_perf, 2097152 B, float, sum, in place": pytest.approx((361.77e-6,)),
        "all_reduce_perf, 4194304 B, float, sum, in place": pytest.approx((471.14e-6,)),
    }
    (note,) = found.notes
    assert note.endswith("nccl-tests-2.18.txt: results were wrong, and are left out: 4194304 B, float, sum")
    place = {"host": "node1, node2", "gpu": "NVIDIA GH200 120GB", "ranks": "2", "nccl": "23007"}
    assert {tuple(run.place.items()) for run in found.runs} == {tuple(place.items())}


def test_nccl_tests_as_json_is_the_same_series_and_no_environment_is_kept():
    text, document = read("nccl-tests", "nccl-tests-2.18.txt"), read("nccl-tests", "nccl-tests-json-2.json")
    assert set(times(document)) < set(times(text))
    assert len(document.runs) == 3, "one time is NaN"
    assert {tuple(run.place.items()) for run in document.runs} == {tuple(run.place.items()) for run in text.runs}
    assert "do-not-store" not in "".join(run.model_dump_json() for run in document.runs)


def test_our_own_export_in_the_columns_of_nccl_tests_is_read(tmp_path):
    half = "N/A     N/A     N/A    N/A"
    rows = f"     1024           256     float     sum      -1     5.00   0.2   0.2      0      {half}\n"
    (tmp_path / "ours.txt").write_text(f"#       size         count      type   redop\n{rows}")
    found = IMPORTERS.load("nccl-tests").read(tmp_path / "ours.txt", None)
    assert times(found) == {"ours, 1024 B, float, sum, out of place": pytest.approx((5e-6,))}
    assert "does not name its operation" in found.notes[0]


def test_of_torchtitans_ranks_the_slowest_counts_and_the_first_step_does_not():
    found = read("torchtitan", "torchtitan.log")
    assert times(found) == {"torchtitan: time of a token": pytest.approx((1 / 4000, 1 / 4100, 1 / 4180))}


def test_megatrons_iterations_are_milliseconds():
    found = read("megatron", "megatron.log")
    assert times(found) == {"megatron: iteration, global batch size:    16": pytest.approx((0.2505, 0.251, 0.249))}


def test_any_log_is_read_by_a_pattern(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"epoch 1 step {step}: 1,{step}00.5 img/s\n" for step in range(3)))
    pattern = parse_pattern(r"step (?P<step>\d+): (?P<per_s>[\d,.]+) img/s")
    (run,) = read_log(path, None, pattern).runs
    assert run.seconds == pytest.approx((1 / 1000.5, 1 / 1100.5, 1 / 1200.5))


def test_a_comma_that_groups_no_digits_is_a_decimal_one(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("147,6 ms\n1,5 ms\n1,234,567.5 ms\n1,2,3 ms\n")
    (run,) = read_log(path, None, parse_pattern(r"(?P<ms>[\d,.]+) ms")).runs
    assert run.seconds == pytest.approx((0.1476, 0.0015, 1234.5675))


def test_a_pattern_that_takes_too_long_with_a_line_is_an_error_that_names_the_line():
    expression = re.compile("(a+)+$")
    lines = ["short", "a" * 60 + "b"]
    with pytest.raises(PatternTimeError) as raised, closing(limited_lines(lines, limit_s=0.05)) as limited:
        list(map(expression.search, limited))
    assert raised.value.line == 2
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_log_of_torchtitan_with_a_long_line_is_read(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("step: 1  loss: 8  tps: 4,000\n" + "x step: " * 5000)
    (run,) = IMPORTERS.load("torchtitan").read(path, None).runs
    assert run.seconds == (1 / 4000,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(", "is no regular expression"),
        (r"\d+ ms", "has 0 groups with a number"),
        (r"(?P<ms>\d+) (?P<s>\d+)", "has 2 groups with a number"),
        (r"(?P<ms>\d+) (?P<speed>\d+)", "has the unknown group 'speed'"),
    ],
)
def test_a_pattern_that_names_no_number_is_refused(text, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        parse_pattern(text)


def test_ingest_finds_the_tool_of_each_file(tmp_path, capsys):
    store = str(tmp_path / "r.sqlite")
    files = [str(FILES / names[0]) for names in TOOLS.values()]
    assert main(["ingest", *files, "--store", store, "--night", "2026-11-20", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    counts = document["nights"]["2026-11-20"]
    assert counts["benchmarks"] == len({run.benchmark for run in ingested_runs(store, "2026-11-20")}) == 18
    assert any("results were wrong" in note for note in document["notes"])
    assert main(["ingest", *files, "--store", store, "--night", "2026-11-20", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["nights"]["2026-11-20"]
    assert again == {**counts, "added": 0, "known": counts["added"]}


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("hello", (), "is no file that an importer knows"),
        ("", (), "is no file that an importer knows"),
        ('{"results": [{"command": "x"', (), "is no JSON of hyperfine"),
        ("x 3 ms", ("--pattern", "(?P<ms>4)"), "no line has a time"),
        ("x 3 ms", ("--pattern", "(?P<ms>3)", "--from", "asv"), "leave --from out"),
        ("#       size         count      type   redop\n", (), "holds no row of results"),
    ],
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path, capsys, content, arguments, said):
    (tmp_path / "f").write_text(content)
    assert main(["ingest", str(tmp_path / "f"), "--store", str(tmp_path / "r.sqlite"), *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r.sqlite").exists()
