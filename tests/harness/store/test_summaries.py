"""Summaries that a SQLite store keeps for reports; stores of earlier formats and read-only ones stay as they are."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing

import pytest

from harness.cli.app import main
from harness.reporting.stored_trials import read_trials
from harness.store.opening import open_store
from harness.store.tables import FORMAT
from reports.analysis.case_groups import MAX_DETAILED_CASES
from reports.analysis.case_summary import CaseSummary, summarize_case
from tests.support.builders import make_case, make_program_record, make_trial
from tests.support.gpu_cells import gpu_case, gpu_trial
from tests.support.large_sweep import collective_trial
from tests.support.stores import opened as opened
from tests.support.summary_behaviour import SummaryBehaviour, store_large_sweep


@pytest.fixture
def new_place(tmp_path):
    numbers = itertools.count()
    return lambda: str(tmp_path / f"{next(numbers)}.sqlite")


class TestSummaries(SummaryBehaviour):
    pass


def test_a_store_of_the_format_before_is_read_as_it_is_and_keeps_summaries_after_its_upgrade(tmp_path):
    place = tmp_path / "r.sqlite"
    store_large_sweep(str(place))
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript(
            "drop table case_summaries; drop table sweep_summaries; update scaling_harness_about set format = 3"
        )
    before = place.read_bytes()
    out = str(tmp_path / "page.html")
    assert main(["report", "--store", str(place), "--out", out]) == 0
    assert main(["report", "--store", str(place), "--index", str(tmp_path / "pages")]) == 0
    assert place.read_bytes() == before
    open_store(str(place), create=False, upgrade=True).close()
    assert main(["report", "--store", str(place), "--out", out]) == 0
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("select format from scaling_harness_about").fetchone() == (FORMAT,)
        assert connection.execute("select count(*) from case_summaries").fetchone() == (100,)
        assert connection.execute("select count(*) from sweep_summaries").fetchone() == (1,)


def test_a_locked_store_keeps_nothing_and_is_reported(tmp_path):
    place = tmp_path / "r.sqlite"
    store_large_sweep(str(place))
    url = f"sqlite:///{place}?timeout=0"
    with closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("begin immediate")  # others may read
        assert main(["report", "--store", url, "--out", str(tmp_path / "page.html")]) == 0
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("select count(*) from case_summaries").fetchone() == (0,)


def trials_of_each_kind():
    gpu = gpu_case("ddp", "nccl")
    collective = make_case(workload="allreduce", ranks=2, scaling="weak", batch=1)
    program = make_case(workload="script", ranks=1)
    failed = make_case(ranks=2)
    return {
        "gpu": (gpu, [gpu_trial(gpu, "launch_bound", 1000.0, number) for number in range(2)]),
        "collective": (collective, [collective_trial(collective, number) for number in range(2)]),
        "program": (program, [make_trial(program, ranks=(make_program_record(),))]),
        "failed": (failed, [make_trial(failed, outcome="failed", reason="rank 1 was killed", ranks=())]),
        "none": (failed, []),
    }


@pytest.mark.parametrize("kind", trials_of_each_kind())
def test_a_summary_that_was_kept_is_the_same(kind):
    case, trials = trials_of_each_kind()[kind]
    summary = summarize_case(case, trials)
    assert CaseSummary.model_validate_json(summary.model_dump_json()) == summary


def test_the_first_trials_are_kept_whole_in_the_order_of_the_plan(tmp_path, opened):
    place = str(tmp_path / "r.sqlite")
    info = store_large_sweep(place)
    store = opened(place, create=False)
    for _ in ("made", "kept"):
        stored = read_trials(store, store.read_sweep("s1"), whole=5)
        keys = [case.key for case in info.plan.cases[:2]]
        assert [(trial.case.key, trial.round) for trial in stored.first] == [(key, n) for key in keys for n in (0, 1)]
        assert stored.count == 200


def test_of_cases_beyond_the_chapters_of_the_page_the_details_are_left_out(tmp_path, opened):
    widths = [*range(MAX_DETAILED_CASES), 0]
    cases = [
        make_case(ranks=1 + (place > widths[place]), workload_options={"width": width})
        for place, width in enumerate(widths)
    ]
    place = str(tmp_path / "r.sqlite")
    store_large_sweep(place, cases, rounds=1)
    store = opened(place, create=False)
    for _ in ("made", "kept"):
        summaries = read_trials(store, store.read_sweep("s1"), whole=0).summaries
        detailed = [bool(summaries[case.key].measures[0].usage) for case in cases]
        assert detailed == [*[True] * (MAX_DETAILED_CASES - 1), False, True], "the last case is of the first group"
