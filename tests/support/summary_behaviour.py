"""What a store promises of the summaries that it keeps for reports: run over SQLite and over a real PostgreSQL server.

Whoever subclasses this brings the fixtures ``opened`` (of :mod:`stores`) and ``new_place``.
"""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from bench.core.case import Case
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.publish.index import write_index
from harness.reporting.stored_trials import read_trials
from harness.store import summaries
from harness.store.deletion import delete_rows
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from harness.store.summaries import MIN_KEPT_CASES, read_nights
from harness.store.tables import case_summaries_table, sweep_summaries_table, trials_table
from tests.support.builders import make_case, make_trial
from tests.support.stored_once import this_environment, write_once

CASES = [make_case(ranks=1, workload_options={"width": width}) for width in range(MIN_KEPT_CASES)]


def store_large_sweep(place: str, cases: list[Case] = CASES, rounds: int = 2, *, finished: bool = True) -> SweepInfo:
    info = SweepInfo(
        id="s1",
        started_at="2026-01-01T00:00:00+00:00",
        command="python -m harness sweep",
        suite=Suite(name="quick"),
        plan=Plan(cases=tuple(cases), skips=(), not_applicable=(), repeats=rounds),
        environment=this_environment(),
    )

    def write() -> None:
        with closing(open_store(place, create=True)) as store:
            store.begin_sweep(info)
            for case in cases:
                for number in range(rounds):
                    store.add_trial("s1", make_trial(case, number, 0.1 + 0.01 * number))
            if finished:
                store.finish_sweep("s1", "2026-01-01T01:00:00+00:00")

    if "://" in place:
        write()
    else:
        write_once(place, write, info, finished)
    return info


class SummaryBehaviour:
    @pytest.fixture
    def place(self, new_place):
        return new_place()

    def test_summaries_are_kept_and_are_what_the_trials_say(self, place, opened):
        info = store_large_sweep(place)
        store = opened(place, create=False)
        finished = store.read_sweep("s1")
        made = read_trials(store, finished)
        assert len(rows(store, case_summaries_table)) == len(CASES)
        change(store, place, trials_table.update().values(body="{}"))
        kept = read_trials(opened(place, create=False), finished, whole=0)
        assert kept.summaries.keys() == {case.key for case in info.plan.cases}
        assert kept.summaries == made.summaries, "from no trial, and the same"

    def test_a_case_with_a_further_trial_is_summarized_again_and_others_are_not(self, place, opened):
        store_large_sweep(place)
        store = opened(place, create=False)
        info = store.read_sweep("s1")
        read_trials(store, info)
        opened(place).add_trial("s1", make_trial(CASES[3], 2, 0.5))
        made = []
        whole = summaries.read_summaries(store, "s1", CASES, (), lambda key, trials: made.append(key), lambda _: None)
        assert made == [CASES[3].key]
        assert (whole[CASES[3].key].good, whole[CASES[4].key].good) == (3, 2)

    @pytest.mark.parametrize("values", [{"code": "of other code"}, {"body": "no record"}])
    def test_summaries_of_other_code_or_that_cannot_be_read_are_made_again(self, place, opened, values):
        store_large_sweep(place)
        store = opened(place, create=False)
        info = store.read_sweep("s1")
        before = read_trials(store, info).summaries
        change(store, place, case_summaries_table.update().values(**values))
        again = opened(place, create=False)
        assert read_trials(again, info).summaries == before
        assert {row.code for row in rows(again, case_summaries_table)} == {summaries.summary_code()}
        assert "no record" not in {row.body for row in rows(again, case_summaries_table)}

    def test_nothing_is_kept_of_a_sweep_that_has_not_ended_or_is_small(self, place, opened, new_place):
        store_large_sweep(place, finished=False)
        store = opened(place, create=False)
        read_trials(store, store.read_sweep("s1"))
        assert rows(store, case_summaries_table) == []
        small = new_place()
        store_large_sweep(small, CASES[:3])
        store = opened(small, create=False)
        read_trials(store, store.read_sweep("s1"))
        assert rows(store, case_summaries_table) == []

    def test_an_index_keeps_the_numbers_of_sweeps_and_reads_no_trial_again(self, place, opened, tmp_path):
        store_large_sweep(place, CASES[:2])
        first = write_index([], place, tmp_path / "pages")
        store = opened(place, create=False)
        assert list(read_nights(store)) == ["s1"]
        change(store, place, trials_table.update().values(body="{}"))
        again = write_index([], place, tmp_path / "pages")
        assert (first.written, again.written) == (("s1",), ())
        assert again.page == first.page
        opened(place).add_trial("s1", make_trial(CASES[0], 2))
        assert read_nights(opened(place, create=False)) == {}, "of fewer trials"

    def test_a_deleted_sweep_takes_its_summaries_with_it(self, place, opened, tmp_path):
        store_large_sweep(place)
        write_index([], place, tmp_path / "pages")
        store = opened(place)
        assert rows(store, case_summaries_table)
        assert rows(store, sweep_summaries_table)
        delete_rows(store.database, "s1")
        assert not rows(store, case_summaries_table)
        assert not rows(store, sweep_summaries_table)


def rows(store, table):
    with store.database.reading() as connection:
        return connection.execute(sa.select(table)).all()


def change(store, place, statement):
    with closing(open_store(place, create=True)) as writing, writing.database.writing("") as connection:
        connection.execute(statement)
