"""What is exported of a sweep with more trials than are kept in memory, and more cells than have a chapter."""

from __future__ import annotations

from contextlib import closing

import pytest

from bench.plugins.registry import load_plugins
from harness.planning.plan import Plan, Skip
from harness.planning.suite import Suite
from harness.publish.export import read_table
from harness.publish.export_runs import read_sweeps
from harness.reporting.report import sweep_cells, sweep_facts
from harness.reporting.stored_trials import MAX_FIRST_TRIALS, MAX_WHOLE_TRIALS
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from harness.store.tables import trials_table
from reports.analysis.case_groups import MAX_DETAILED_CASES
from reports.analysis.case_summary import summarize_case
from reports.formats.trial_rows import rows_of
from tests.support.builders import make_case, make_record, make_trial
from tests.support.stored_once import this_environment
from tests.support.stores import FIRST_NIGHT

REPEATS = 10
CASES = tuple(
    make_case(ranks=ranks, workload_options={"hidden": hidden}) for hidden in range(1, 107) for ranks in (1, 2)
)
SKIPPED = make_case(ranks=4)
INFO = SweepInfo(
    id="large",
    started_at=FIRST_NIGHT,
    finished_at=FIRST_NIGHT,
    command="python -m harness sweep",
    suite=Suite(name="large"),
    plan=Plan(cases=CASES, skips=(Skip(case=SKIPPED, reason="not here"),), not_applicable=(), repeats=REPEATS),
    environment=this_environment(),
)


def trial_of(case, number):
    step_s = 0.1 + 0.001 * number
    ranks = (
        make_record(rank, case.ranks, (step_s, step_s), memory_peak_bytes=1000 + number) for rank in range(case.ranks)
    )
    return make_trial(case, number, ranks=tuple(ranks))


@pytest.fixture(scope="module")
def trials():
    every = {case.key: [trial_of(case, number) for number in range(REPEATS)] for case in CASES}
    last = CASES[-1]
    every[last.key][2] = make_trial(last, 2, outcome="failed", reason="rank 1 was killed", ranks=())
    return every


@pytest.fixture(scope="module")
def place(tmp_path_factory, trials):
    place = str(tmp_path_factory.mktemp("large") / "r.sqlite")
    with closing(open_store(place, create=True)) as store:
        store.begin_sweep(INFO)
        rows = [
            {"sweep": INFO.id, "key": key, "round": trial.round, "outcome": trial.outcome}
            | {"body": trial.model_dump_json()}
            for key, of_case in trials.items()
            for trial in of_case
        ]
        with store.database.writing("") as connection:
            connection.execute(trials_table.insert(), rows)
        store.finish_sweep(INFO.id, FIRST_NIGHT)
    return place


def test_rows_are_those_of_all_trials_whole(place, trials):
    assert sum(map(len, trials.values())) > MAX_WHOLE_TRIALS > MAX_FIRST_TRIALS
    assert len(CASES) > MAX_DETAILED_CASES
    backends, workloads, _ = load_plugins()
    summaries = {case.key: summarize_case(case, trials[case.key]) for case in CASES}
    cells = sweep_cells(INFO, summaries, backends, workloads)
    whole = tuple(rows_of(sweep_facts(INFO), cells, [trial for of_case in trials.values() for trial in of_case]))
    assert whole[-2].memory_peak_bytes is not None
    for time in ("the summaries are made", "they are kept"):
        assert read_table(place, []).rows == whole, time


def test_a_cell_is_given_its_own_trials_whatever_is_read_before(place, trials):
    for sweep in read_sweeps(place, []):
        by_key = {cell.case.key: list(found) for cell, found in sweep.cells_with_trials()}
        assert by_key == {**trials, SKIPPED.key: []}
        last = next(cell for cell in sweep.cells if cell.case == CASES[-1])
        assert list(sweep.cell_with_trials(last)[1]) == trials[CASES[-1].key]
