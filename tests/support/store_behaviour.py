"""What a results store promises, whichever database holds it: run over SQLite and over a real PostgreSQL server.

Whoever subclasses these brings the fixtures ``opened`` (of :mod:`stores`) and ``new_place``: a place that holds nothing
yet, at each call another.
"""

from __future__ import annotations

import secrets
import threading

import pytest

from bench.core.case import DataSource, Fault
from harness.errors import StoreError
from harness.store.deletion import StoredRows, begun_acceptances, delete_rows, return_space, stored_rows
from harness.store.labels import SweepLabels
from harness.store.ledger import Acceptance
from harness.store.opening import check_store, open_store
from harness.store.tables import trials_table
from reports.regression.values import Verdict
from tests.support.builders import make_case, make_record, make_trial
from tests.support.stored_once import this_environment
from tests.support.stores import begin, disk_bytes, pair, run, write_sweep


class StoreBehaviour:
    def test_two_sweeps_may_make_the_same_store(self, new_place, opened):
        place = new_place()
        makers = [threading.Thread(target=lambda: open_store(place, create=True).close()) for _ in range(8)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
        assert opened(place, create=False).sweep_ids() == []

    def test_what_goes_in_comes_out(self, new_place, opened):
        place = new_place()
        store = opened(place)
        info = begin(store)
        trial = make_trial(make_case(), log_tail=("naïve → ∞", "\0 \u001b"))
        store.add_trial("s1", trial)
        store.finish_sweep("s1", "2026-01-01T01:00:00+00:00")
        again = opened(place, create=False)
        assert again.trials("s1") == [trial]
        assert again.sweep("latest") == info.model_copy(update={"finished_at": "2026-01-01T01:00:00+00:00"})

    def test_the_same_trial_twice_is_refused(self, new_place, opened):
        store = opened(new_place())
        begin(store)
        store.add_trial("s1", make_trial(make_case()))
        with pytest.raises(StoreError, match=r"(?i)unique.*wait for the other process that runs this sweep, then"):
            store.add_trial("s1", make_trial(make_case()))
        assert len(store.trials("s1")) == 1

    def test_latest_is_the_one_that_began_last(self, new_place, opened):
        store = opened(new_place())
        begin(store, "b", "2026-01-02T00:00:00+00:00")
        begin(store, "a", "2026-01-03T00:00:00+00:00")
        assert store.sweep("latest").id == "a"
        with pytest.raises(StoreError, match="has no sweep 'c'"):
            store.sweep("c")

    def test_a_sweep_is_named_by_its_place_a_tag_or_the_start_of_its_id(self, new_place, opened):
        store = opened(new_place())
        begin(store, "old-1", "2026-01-02T00:00:00+00:00")
        begin(store, "new-1", "2026-01-03T00:00:00+00:00", labels=SweepLabels(tags=("loader",)))
        for name, sweep in {"latest~1": "old-1", "loader": "new-1", "ol": "old-1"}.items():
            assert store.sweep(name).id == store.sweep_id(name) == sweep
        with pytest.raises(StoreError, match="holds 2"):
            store.sweep("latest~2")

    def test_labels_are_kept_beside_the_record_and_may_change(self, new_place, opened):
        store = opened(new_place())
        labels = SweepLabels(title="a [red] title", note="line\nline", tags=("x",))
        assert begin(store, labels=labels).labels == labels
        begin(store, "s2", "2026-01-03T00:00:00+00:00")
        assert store.sweep("s1").labels == labels
        assert store.sweep("s2").labels == SweepLabels()
        assert store.sweep("s2").shown_title == "synthetic: ddp at 2 ranks"
        changed = store.change_labels("s1", lambda before: SweepLabels(title="other", tags=(*before.tags, "y")))
        assert store.sweep("s1").labels == changed == SweepLabels(title="other", tags=("x", "y"))
        store.change_labels("s1", lambda _: SweepLabels())
        assert [info.labels for info in store.sweeps()] == [SweepLabels(), SweepLabels()]
        with pytest.raises(StoreError, match="sweep gone was deleted meanwhile"):
            store.change_labels("gone", lambda before: before)

    def test_tags_that_are_added_at_once_are_all_there_while_a_sweep_writes(self, new_place, opened):
        place = new_place()
        begin(opened(place), "s1")

        def tag(number: int) -> None:
            store = open_store(place, create=False, upgrade=True)
            store.change_labels("s1", lambda before: SweepLabels(tags=(*before.tags, f"t{number}")))
            store.close()

        workers = [threading.Thread(target=tag, args=(number,)) for number in range(6)]
        workers.append(threading.Thread(target=write_sweep, args=(place, "other", 10)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert set(opened(place, create=False).sweep("s1").tags) == {f"t{number}" for number in range(6)}
        assert len(opened(place, create=False).trials("other")) == 10

    def test_a_deleted_sweep_is_gone_from_every_table_and_the_others_stay(self, new_place, opened):
        store = opened(new_place())
        for number, name in enumerate(("s1", "s2")):
            begin(store, name, f"2026-01-0{number + 1}T00:00:00+00:00", "nightly", SweepLabels(tags=(f"t{number}",)))
            store.add_trial(name, make_trial(make_case()))
            store.ledger.save_verdicts(name, [Verdict(name="a", status="pass")])
        store.ledger.add_pair(pair(0, "head"))
        store.ledger.add_run(run("r1", "s1"))

        def read() -> tuple:
            ledger = store.ledger
            return store.sweep("s2"), store.trials("s2"), ledger.measures(["s2"]), ledger.verdicts("s2")

        kept = read()
        taken = stored_rows(store.database, "s1")
        assert (taken.trials, taken.verdicts, taken.pairs) == (1, 1, 1)
        assert taken.bytes > stored_rows(store.database, "s2").bytes > 1_000
        assert delete_rows(store.database, "s1")
        assert not delete_rows(store.database, "s1")
        assert stored_rows(store.database, "s1") == StoredRows()
        assert store.sweep_ids() == ["s2"]
        assert [night.id for night in store.ledger.nights()] == ["s2"]
        assert read() == kept
        assert len(store.ledger.runs(["s1"])) == 1, "ingested runs belong to no sweep"

    def test_an_acceptance_of_a_deleted_sweep_begins_with_the_next_of_its_suite(self, new_place, opened):
        store = opened(new_place())
        for number, suite in enumerate(("nightly", "quick", "nightly")):
            begin(store, f"s{number}", f"2026-01-0{number + 1}T00:00:00+00:00", suite)
        store.ledger.accept(Acceptance(curve="c", since="s0", because="bigger", at="2026-01-03"))
        assert begun_acceptances(store.database) == {"s0": 1}
        delete_rows(store.database, "s0")
        assert [one.since for one in store.ledger.acceptances()] == ["s2"]
        delete_rows(store.database, "s2")
        assert store.ledger.acceptances() == ()

    def test_space_of_deleted_rows_is_returned_to_the_disk(self, new_place, opened):
        store = opened(new_place())
        # Text that no server can compress.
        log = tuple(secrets.token_urlsafe(40_000) for _ in range(30))
        for name in ("small", "large"):
            begin(store, name)
        store.add_trial("small", make_trial(make_case()))
        store.add_trial("large", make_trial(make_case(), log_tail=log))
        before = disk_bytes(store.database)
        delete_rows(store.database, "large")
        return_space(store.database)
        assert before - disk_bytes(store.database) > 1_000_000
        assert len(store.trials("small")) == 1
        begin(store, "next")  # the connection is as before
        assert store.sweep_ids() == ["next", "small"]

    def test_whoever_writes_or_reads_a_sweep_that_is_deleted_is_told(self, new_place, opened):
        place = new_place()
        writer, reader, other = opened(place), opened(place, create=False), opened(place)
        begin(writer)
        for number in range(20):
            writer.add_trial("s1", make_trial(make_case(), number))
        batches = reader.database.batches(trials_table, 8, trials_table.c.sweep == "s1")
        assert len(next(batches)) == 8
        delete_rows(other.database, "s1")
        assert next(batches) == []
        with pytest.raises(StoreError, match="sweep s1 was deleted while it was read"):
            reader.trials("s1")
        with pytest.raises(StoreError, match="sweep s1 was deleted while it ran"):
            writer.add_trial("s1", make_trial(make_case(), 20))
        assert stored_rows(other.database, "s1") == StoredRows()

    def test_two_sweeps_at_once_share_a_store(self, new_place, opened):
        place = new_place()
        writers = [threading.Thread(target=write_sweep, args=(place, name, 20)) for name in ("one", "two")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        store = opened(place, create=False)
        for name in ("one", "two"):
            assert [trial.round for trial in store.trials(name)] == list(range(20))
            assert len({number for _, _, number, _, _ in store.ledger.measures([name])}) == 20

    def test_a_sweep_knows_what_is_done_and_whether_it_ended(self, new_place, opened):
        store = opened(new_place())
        begin(store, "old", "2026-01-01T00:00:00+00:00")
        begin(store, "new", "2026-01-02T00:00:00+00:00")
        store.add_trial("new", make_trial(make_case(), 0))
        store.add_trial("new", make_trial(make_case(), 1, outcome="failed"))
        assert store.done("new") == {(make_case().key, 0), (make_case().key, 1)}
        assert store.unfinished() == "new"
        store.finish_sweep("new", "2026-01-03T00:00:00+00:00")
        store.finish_sweep("old", "2026-01-03T00:00:00+00:00")
        assert store.unfinished() is None

    def test_an_empty_store_is_not_made_by_reading(self, new_place):
        place = new_place()
        check_store(place)
        with pytest.raises(StoreError, match="run `python -m harness sweep` first"):
            open_store(place, create=False)


class LedgerBehaviour:
    def test_nights_are_sweeps_the_oldest_first(self, new_place, opened):
        store = opened(new_place())
        for number, suite in enumerate(("nightly", "quick", "nightly", "nightly")):
            begin(store, f"s{9 - number}", f"2026-01-0{number + 1}T00:00:00+00:00", suite)
        store.finish_sweep("s9", "2026-01-01T02:00:00+00:00")
        nights = store.ledger.nights()
        assert [night.id for night in nights] == ["s9", "s8", "s7", "s6"]
        assert [night.finished_at is None for night in nights] == [False, True, True, True]
        assert [night.id for night in store.ledger.nights(suite="nightly", last=2)] == ["s7", "s6"]
        here = this_environment()
        assert store.ledger.environments() == {here.id: here}
        assert nights[0].environment == here.id

    def test_measures_of_good_trials_and_outcomes_of_all(self, new_place, opened):
        store = opened(new_place())
        begin(store)
        case, asked_to_fail = make_case(), make_case(fault=Fault(kind="kill", rank=0))
        store.add_trial("s1", make_trial(case, 0, step_s=0.2))
        store.add_trial("s1", make_trial(case, 1, outcome="failed", ranks=(), reason="rank 1 died"))
        store.add_trial("s1", make_trial(asked_to_fail, 0, outcome="failed", ranks=(), reason="on purpose"))
        ledger = store.ledger
        found = {(number, name): value for _, _, number, name, value in ledger.measures(["s1", "s2"])}
        assert found == {(0, "step_s"): 0.2, (0, "rate"): pytest.approx(40)}
        assert ledger.outcomes("s1") == [(case.key, 0, "ok", None), (case.key, 1, "failed", "rank 1 died")]
        assert set(ledger.settings(["s1"])) == {("s1", case.key)}
        assert ledger.measures([]) == []

    def test_settings_say_what_the_key_does_not(self, new_place, opened):
        store = opened(new_place())
        begin(store)
        data = DataSource(name="MNIST", digest="abc", path="/somewhere")
        store.add_trial("s1", make_trial(make_case(data=data, window_s=2.5)))
        ((_, settings),) = store.ledger.settings(["s1"]).items()
        assert settings["data"] == "MNIST abc"
        assert settings["window_s"] == "2.5"

    def test_settings_hold_the_variables_of_ranks_also_after_a_trial_without_any(self, new_place, opened):
        store = opened(new_place())
        begin(store)
        case = make_case(ranks=1)
        record = make_record(variables={"NCCL_DEBUG": "INFO"})
        store.add_trial("s1", make_trial(case, 0, outcome="failed", ranks=(), reason="rank 0 died"))
        store.add_trial("s1", make_trial(case, 1, ranks=(record,)))
        store.add_trial("s1", make_trial(case, 2, outcome="failed", ranks=(), reason="rank 0 died"))
        ((_, settings),) = store.ledger.settings(["s1"]).items()
        assert settings["variable NCCL_DEBUG"] == "INFO"

    def test_a_second_check_of_a_night_replaces_its_verdicts(self, new_place, opened):
        ledger = opened(new_place()).ledger
        first = [Verdict(name="a", status="suspect", pairs_wanted=8), Verdict(name="b", status="pass")]
        ledger.save_verdicts("n1", first)
        ledger.save_verdicts("n2", [Verdict(name="a", metric="memory", status="new", change_pct=1.5)])
        ledger.save_verdicts("n1", [Verdict(name="a", status="pass")])
        assert ledger.statuses(["n1", "n2"]) == {("n1", "a", "step"): "pass", ("n2", "a", "memory"): "new"}
        assert ledger.statuses(["n2"]) == {("n2", "a", "memory"): "new"}
        assert ledger.verdicts("n2") == (Verdict(name="a", metric="memory", status="new", change_pct=1.5),)

    def test_the_last_reason_of_an_acceptance_stands(self, new_place, opened):
        ledger = opened(new_place()).ledger
        ledger.accept(Acceptance(curve="c", since="s2", because="bigger", at="2026-01-03"))
        ledger.accept(Acceptance(curve="c", since="s1", because="safer", at="2026-01-02"))
        ledger.accept(Acceptance(curve="c", since="s2", because="bigger model", at="2026-01-04"))
        assert [(one.since, one.because) for one in ledger.acceptances()] == [("s1", "safer"), ("s2", "bigger model")]

    def test_pairs_come_back_in_order_and_none_twice(self, new_place, opened):
        ledger = opened(new_place()).ledger
        for number in (10, 2):
            for side in ("head", "base"):
                ledger.add_pair(pair(number, side))
        found = ledger.pairs("s1")
        assert [(one.pair, one.side) for one in found] == [(2, "base"), (2, "head"), (10, "base"), (10, "head")]
        assert found[0] == pair(2, "base")
        with pytest.raises(StoreError, match=r"(?i)unique"):
            ledger.add_pair(pair(2, "head"))

    def test_a_run_is_taken_once(self, new_place, opened):
        ledger = opened(new_place()).ledger
        assert ledger.add_run(run("r2", "b-night", "2026-01-02"))
        assert ledger.add_run(run("r1", "a-night", "2026-01-03"))
        assert ledger.add_run(run("r1", "a-night", "2026-01-01", benchmark="a"))
        assert not ledger.add_run(run("r1", "other", "2026-01-09"))
        assert ledger.ingested_nights() == ["a-night", "b-night"]
        assert ledger.ingested_nights(last=1) == ["b-night"]
        assert [(one.benchmark, one.run) for one in ledger.runs(["a-night", "b-night"])] == [
            ("a", "r1"),
            ("b", "r2"),
            ("b", "r1"),
        ]
