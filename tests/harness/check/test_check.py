"""The command `check` on stores of synthetic nights and on files, as a user runs it."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.check.confirmation import check_same_variables
from harness.cli.app import main
from harness.errors import UsageError
from harness.store.opening import open_store
from reports.regression.synthetic_histories import NOISE_MODELS, synthetic_samples_s
from tests.support.builders import make_trial
from tests.support.nights import CASES, write_nights
from tests.support.stores import run

ONE, TWO, FOUR = CASES


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "nights.sqlite"


def check(capsys, store, *arguments):
    status = main(["check", "--store", str(store), "--json", *arguments])
    document = json.loads(capsys.readouterr().out)
    assert document["exit"] == status
    return status, document


def statuses(document):
    return {name: found["status"] for name, found in document["benchmarks"].items()}


def test_unchanged_nights_pass(capsys, store):
    write_nights(store, 13)
    status, document = check(capsys, store)
    assert (status, set(statuses(document).values())) == (0, {"pass"})
    assert len(statuses(document)) == 9, "step and throughput of three cells, two efficiencies, a serial fraction"
    assert document["benchmarks"][TWO.key]["nights"] == 12


@pytest.mark.slow
def test_a_slow_night_is_suspect_until_pairs_say_so(capsys, store):
    write_nights(store, 12)
    write_nights(store, 1, first=13, slower={1: 1.3, 2: 1.3, 4: 1.3})
    status, document = check(capsys, store)
    assert status == 3
    assert {found["status"] for found in document["benchmarks"].values() if found["metric"] == "step"} == {"suspect"}
    assert main(["check", "--store", str(store)]) == 3
    output = capsys.readouterr().out
    assert "--confirm" in output
    assert "suspect" in output


@pytest.mark.slow
def test_nights_that_were_decided_by_one_or_two_trials_a_cell_are_judged_like_others(capsys, store):
    write_nights(store, 12, decided_by={1: 1, 2: 2, 4: 1})
    write_nights(store, 1, first=13, slower={4: 1.3}, decided_by={1: 1, 2: 1, 4: 2})
    status, document = check(capsys, store)
    assert status == 3
    assert {name for name, found in statuses(document).items() if found == "suspect"} == {
        f"{FOUR.key} · throughput",
        *(name for name in statuses(document) if name.startswith(FOUR.key)),
        f"{FOUR.curve} · serial",
    }
    assert document["benchmarks"][TWO.key]["status"] == "pass"
    assert document["benchmarks"][TWO.key]["nights"] == 12


@pytest.mark.slow
def test_a_slowdown_at_four_ranks_is_one_loss_of_scaling(capsys, store):
    write_nights(store, 12)
    write_nights(store, 1, first=13, slower={4: 1.3})
    _, document = check(capsys, store)
    (found,) = [finding for finding in document["findings"] if 4 in finding["ranks"]]
    assert (found["kind"], found["status"]) == ("lost scaling", "suspect")
    assert document["benchmarks"][f"{FOUR.key} · efficiency"]["status"] == "suspect"


def test_the_code_of_the_last_good_night_is_not_suspected(capsys, store):
    write_nights(store, 12, commit="same")
    write_nights(store, 1, first=13, slower={1: 1.04}, commit="same")
    status, document = check(capsys, store)
    assert "suspect" not in statuses(document).values()
    write_nights(store, 1, first=14, slower={1: 2.0}, commit="same")
    status, document = check(capsys, store)
    assert (status, statuses(document)[ONE.key]) == (3, "inconclusive"), "the machine did that"
    assert "the machine changed" in document["benchmarks"][ONE.key]["reason"]


def test_nights_of_another_machine_are_incomparable_and_say_what_differs(capsys, store):
    write_nights(store, 12, host="other")
    write_nights(store, 1, first=13)
    status, document = check(capsys, store)
    assert status == 3
    assert set(statuses(document).values()) == {"incomparable"}
    assert ", not other" in document["benchmarks"][ONE.key]["reason"]


def test_a_night_with_another_variable_is_incomparable_and_names_it(capsys, store):
    write_nights(store, 8, variables={})
    write_nights(store, 1, first=9, slower={1: 4.0, 2: 4.0, 4: 4.0}, variables={"TORCH_DISTRIBUTED_DEBUG": "DETAIL"})
    status, document = check(capsys, store)
    assert (status, set(statuses(document).values())) == (3, {"incomparable"})
    assert "variable TORCH_DISTRIBUTED_DEBUG DETAIL, not none" in document["benchmarks"][ONE.key]["reason"]


@pytest.mark.slow
def test_nights_from_before_variables_were_recorded_are_compared(capsys, store):
    write_nights(store, 8)
    write_nights(store, 1, first=9, variables={})
    _, document = check(capsys, store)
    assert "incomparable" not in statuses(document).values()
    assert document["benchmarks"][ONE.key]["nights"] == 8


def test_pairs_are_refused_where_the_night_had_other_variables(monkeypatch):
    monkeypatch.delenv("NCCL_DEBUG", raising=False)
    with pytest.raises(UsageError, match="other variables \\(variable NCCL_DEBUG none, not INFO\\)"):
        check_same_variables([{"variable NCCL_DEBUG": "INFO", "window_s": "1.0"}])
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    check_same_variables([{"variable NCCL_DEBUG": "INFO", "window_s": "1.0"}])


def test_variables_that_a_case_gives_its_ranks_are_not_compared_with_this_shell_s(monkeypatch):
    monkeypatch.setenv("NCCL_PROTO", "LL128")
    check_same_variables([{"variable NCCL_PROTO": "LL"}, {"variable NCCL_PROTO": "Simple"}], {"NCCL_PROTO"})
    with pytest.raises(UsageError, match="NCCL_PROTO"):
        check_same_variables([{"variable NCCL_PROTO": "LL"}])


def test_few_nights_are_new_and_no_pass(capsys, store):
    write_nights(store, 1)
    status, document = check(capsys, store)
    assert (status, set(statuses(document).values())) == (3, {"new"})


def test_failed_and_missing_cells_are_no_pass(capsys, store):
    write_nights(store, 12)
    write_nights(store, 1, first=13, cases=(ONE, TWO), skips=(FOUR,))
    opened = open_store(str(store), create=True)
    newest = opened.sweep("latest").id
    bad = make_trial(ONE, 9, outcome="failed", reason="rank 0 was killed by SIGKILL")
    opened.add_trial(newest, bad)
    opened.close()
    status, document = check(capsys, store)
    assert status == 4
    assert document["benchmarks"][ONE.key]["status"] == "failed"
    assert "SIGKILL" in document["benchmarks"][ONE.key]["reason"]
    assert document["benchmarks"][FOUR.key]["status"] == "missing"
    assert "4 ranks need 4 cores" in document["benchmarks"][FOUR.key]["reason"]


@pytest.mark.slow
def test_one_night_can_be_the_baseline(capsys, store):
    write_nights(store, 3)
    write_nights(store, 1, first=4, slower={1: 1.4, 2: 1.4, 4: 1.4})
    assert statuses(check(capsys, store)[1])[ONE.key] == "new"
    _, document = check(capsys, store, "--baseline", "20260102-000000-abcd")
    assert statuses(document)[ONE.key] == "suspect"
    assert main(["check", "--store", str(store), "--baseline", "20260104-000000-abcd"]) == 2


@pytest.mark.slow
def test_an_accepted_change_is_the_new_base(capsys, store):
    slow = {1: 1.5, 2: 1.5, 4: 1.5}
    write_nights(store, 12)
    write_nights(store, 2, first=13, slower=slow)
    assert statuses(check(capsys, store)[1])[ONE.key] == "suspect"
    assert main(["check", "--store", str(store), "--accept", ONE.curve]) == 2, "nobody said why"
    assert main(["check", "--store", str(store), "--accept", "no-such-curve", "--because", "x"]) == 2
    assert main(["check", "--store", str(store), "--accept", "synthetic", "--because", "larger model"]) == 0
    assert "larger model" in capsys.readouterr().out
    write_nights(store, 1, first=15, slower=slow)
    status, document = check(capsys, store)
    assert (status, set(statuses(document).values())) == (0, {"pass"})
    write_nights(store, 1, first=16, slower={1: 1.9})
    document = check(capsys, store)[1]
    assert statuses(document)[ONE.key] == "suspect"
    assert 15 < document["benchmarks"][ONE.key]["change_pct"] < 40, "against the level that was accepted"


@pytest.mark.slow
def test_ingested_benchmarks_are_judged_beside_the_sweep(capsys, store):
    write_nights(store, 12)
    opened = open_store(str(store), create=True)
    for night in range(1, 13):
        for number in range(3):
            late = 2.0 if night == 12 else 1.0
            opened.ledger.add_run(
                run(f"{night}-{number}", f"n{night:02d}", f"2026-01-{night:02d}T02:00:00").model_copy(
                    update={"seconds": (late * (0.1 + 0.001 * number),)}
                )
            )
    opened.close()
    _, document = check(capsys, store)
    assert document["benchmarks"]["b"]["status"] == "suspect"


@pytest.mark.slow
def test_files_for_ci_are_written_and_name_the_regression(capsys, store):
    write_nights(store, 12)
    write_nights(store, 1, first=13, slower={4: 1.5})
    files = {"--junit": "j.xml", "--markdown": "v.md", "--html": "v.html"}
    check(capsys, store, *(word for pair in files.items() for word in pair))
    suites = ElementTree.parse("j.xml").getroot()
    assert suites.findall(".//skipped")
    assert "suspect" in store.with_name("v.md").read_text()
    assert "lost scaling" in store.with_name("v.html").read_text()
    assert main(["check", "--store", str(store), "--junit", "no/such/folder/j.xml"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--store", "none.sqlite"),
        ("--base-rev", "HEAD"),
        ("--because", "x"),
        ("--current", "C.csv"),
        ("--history", "H.csv"),
        ("--pairs-only",),
        ("--pairs", "P.csv"),
    ],
)
def test_bad_usage_is_one_line(capsys, store, arguments):
    assert main(["check", *arguments]) == 2
    output = capsys.readouterr().err
    assert output.startswith("error: ")
    assert output.count("\n") == 1


def write_csv(path, seconds, nights, names):
    rows = ["night,benchmark,run,sample,seconds"]
    for column, night in enumerate(nights):
        for row, name in enumerate(names):
            rows += [
                f"{night},{name},{number},{at},{value:.6g}"
                for number, of_run in enumerate(seconds[row, column])
                for at, value in enumerate(of_run)
            ]
    path.write_text("\n".join(rows) + "\n")


def test_anyones_numbers_are_judged_and_more_pairs_continue(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seconds = synthetic_samples_s(NOISE_MODELS["tuned"], 6, 31, 1)
    seconds[0, 30] *= 1.15
    names = [f"b{number}" for number in range(6)]
    write_csv(tmp_path / "H.csv", seconds[:, :30], range(30), names)
    write_csv(tmp_path / "C.csv", seconds[:, 30:], [30], names)
    status, document = check(capsys, "unused", "--history", "H.csv", "--current", "C.csv")
    assert status == 3
    assert statuses(document)["b0"] == "suspect"
    noise = np.random.default_rng(1).normal(math.log(1.15), 0.02, 40)
    wanted = document["benchmarks"]["b0"]["pairs_wanted"]
    while wanted:
        rows = [f"b0,{number},{math.exp(noise[number])},1.0" for number in range(wanted)]
        (tmp_path / "P.csv").write_text("\n".join(["benchmark,pair,head_s,base_s", *rows]) + "\n")
        status, document = check(capsys, "unused", "--history", "H.csv", "--current", "C.csv", "--pairs", "P.csv")
        wanted = document["benchmarks"]["b0"]["pairs_wanted"]
    assert (status, statuses(document)["b0"]) == (1, "regressed")
    found = document["benchmarks"]["b0"]
    assert found["low_pct"] < 15 < found["high_pct"]
