"""What upgrading and merging promise, whichever databases hold the stores; used as :mod:`store_behaviour` is."""

from __future__ import annotations

import threading

import pytest

from harness.errors import StoreError, UsageError
from harness.store.labels import SweepLabels
from harness.store.ledger import Acceptance
from harness.store.merging import merge
from harness.store.opening import open_store
from harness.store.store import Store
from reports.regression.values import Verdict
from tests.support.builders import make_case, make_trial
from tests.support.stores import begin, make_format_1, pair, run


class UpgradeBehaviour:
    def test_format_1_is_reported_as_it_is_and_checked_after_an_upgrade(self, new_place, opened):
        place, trial = new_place(), make_trial(make_case(), 0, step_s=0.5)
        make_format_1(place, trial, make_trial(make_case(), 1, outcome="failed", ranks=(), reason="gone"))
        as_it_is = opened(place, create=False)
        assert as_it_is.trials("s1")[0] == trial
        assert as_it_is.sweep("latest").suite.name == "old"
        assert as_it_is.sweep("latest").labels == SweepLabels()
        with pytest.raises(StoreError, match="cannot be read"):
            as_it_is.ledger.nights()

        ledger = opened(place, create=False, upgrade=True).ledger
        assert [(night.id, night.suite) for night in ledger.nights()] == [("s1", "old")]
        assert {name: value for *_, name, value in ledger.measures(["s1"])}["step_s"] == 0.5
        assert [(outcome, reason) for *_, outcome, reason in ledger.outcomes("s1")] == [
            ("ok", None),
            ("failed", "gone"),
        ]

    def test_an_upgraded_store_takes_more_trials_and_no_second_upgrade(self, new_place, opened):
        place = new_place()
        make_format_1(place, make_trial(make_case(), 0))
        opened(place).add_trial("s1", make_trial(make_case(), 1))
        ledger = opened(place, create=False, upgrade=True).ledger
        assert sorted({number for _, _, number, _, _ in ledger.measures(["s1"])}) == [0, 1]

    def test_two_upgrades_at_once(self, new_place, opened):
        place = new_place()
        make_format_1(place, *(make_trial(make_case(), number) for number in range(20)))
        openers = [threading.Thread(target=lambda: open_store(place, create=True).close()) for _ in range(4)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()
        measured = {number for _, _, number, _, _ in opened(place, create=False).ledger.measures(["s1"])}
        assert measured == set(range(20))


def fill(store: Store) -> None:
    labels = SweepLabels(title="first", note="kept", tags=("base",))
    begin(store, "s1", "2026-01-01T00:00:00+00:00", "nightly", labels)
    store.add_trial("s1", make_trial(make_case(), 0))
    store.ledger.save_verdicts("s1", [Verdict(name="a", status="pass")])
    store.ledger.accept(Acceptance(curve="c", since="s1", because="meant", at="2026-01-02"))
    store.ledger.add_pair(pair(0, "head"))
    store.ledger.add_run(run("r1"))


def everything(store: Store) -> tuple:
    ledger, sweeps = store.ledger, store.sweep_ids()
    return (
        [store.sweep(name) for name in sweeps],
        [store.trials(name) for name in sweeps],
        ledger.nights(),
        ledger.measures(sweeps),
        ledger.settings(sweeps),
        ledger.environments(),
        ledger.statuses(sweeps),
        ledger.acceptances(),
        ledger.pairs("s1"),
        ledger.runs(["n1"]),
    )


class MergeBehaviour:
    """``other_place``: a fixture like ``new_place``, of the store that is taken from."""

    def test_all_of_it_comes_over_and_a_second_time_nothing(self, new_place, other_place, opened):
        place, other = new_place(), other_place()
        source = opened(other)
        fill(source)
        first = merge(other, place)
        assert (first.sweeps, first.completed, first.trials) == (("s1",), (), 1)
        assert first.labels == 1
        assert first.beside == {"verdicts": 1, "acceptances": 1, "pairs": 1, "ingested_runs": 1}
        again = merge(other, place)
        assert (again.sweeps, again.completed, again.trials, set(again.beside.values())) == ((), (), 0, {0})
        assert again.labels == 0
        assert everything(opened(place, create=False)) == everything(source)

    def test_a_sweep_that_has_grown_is_completed(self, new_place, other_place, opened):
        place, other = new_place(), other_place()
        source = opened(other)
        fill(source)
        merge(other, place)
        source.add_trial("s1", make_trial(make_case(), 1))
        source.finish_sweep("s1", "2026-01-01T05:00:00+00:00")
        found = merge(other, place)
        assert (found.sweeps, found.completed, found.trials) == ((), ("s1",), 1)
        assert everything(opened(place, create=False)) == everything(source)

    def test_what_is_there_stays(self, new_place, other_place, opened):
        place, other = new_place(), other_place()
        source, target = opened(other), opened(place)
        begin(source)
        source.add_trial("s1", make_trial(make_case(), 0, step_s=0.5))
        begin(target)
        target.add_trial("s1", make_trial(make_case(), 0, outcome="failed", ranks=()))
        target.finish_sweep("s1", "2026-01-01T05:00:00+00:00")
        target.change_labels("s1", lambda _: SweepLabels(title="ours"))
        source.change_labels("s1", lambda _: SweepLabels(title="theirs"))
        begin(target, "s0")
        before = everything(target)
        assert merge(other, place).trials == 0
        assert everything(target) == before, "a failed trial gets no measures of the other's good one"

    def test_format_1_is_taken_from_without_being_written(self, new_place, other_place, opened):
        place, other = new_place(), other_place()
        make_format_1(other, make_trial(make_case(), 0, step_s=0.5))
        found = merge(other, place)
        assert (found.sweeps, found.trials, found.beside) == (("s1",), 1, {})
        assert ("s1", make_case().key, 0, "step_s", 0.5) in opened(place, create=False).ledger.measures(["s1"])
        with pytest.raises(StoreError, match="cannot be read"):
            opened(other, create=False).ledger.nights()

    def test_a_store_is_not_merged_with_itself(self, new_place, opened):
        place = new_place()
        opened(place)
        with pytest.raises(UsageError, match="is the store itself; name another"):
            merge(place, place)
