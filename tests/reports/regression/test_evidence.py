"""Which nights may be compared, cell by cell, and what the verdicts of a curve say together."""

from __future__ import annotations

import math

import pytest

from bench.core.machine import NodeFacts
from reports.analysis.trial_measures import join_settings, node_settings, trial_settings
from reports.regression.evidence import (
    AcceptedLevel,
    EarlierVerdicts,
    NightFacts,
    cell_differences,
)
from reports.regression.findings import findings_of
from reports.regression.night_series import paired_series, series_of
from reports.regression.subjects import Subject, logs_of, subjects_of
from reports.regression.values import Verdict
from tests.support.builders import make_case, make_record, make_trial

ONE, TWO, FOUR = (make_case(ranks=ranks, backend="ddp") for ranks in (1, 2, 4))
CASES = (ONE, TWO, FOUR)


def measured(step_s, rate):
    return {round_number: {"step_s": step_s, "rate": rate} for round_number in range(5)}


def night(name, rates=(100.0, 160.0, 240.0), place=None, settings=None, **about):
    numbers = {case.key: measured(8 / rate, rate) for case, rate in zip(CASES, rates, strict=True)}
    return NightFacts(
        night=name,
        started_at=name,
        place=place or {"host": "a"},
        commit=f"c{name}",
        numbers=numbers,
        settings=settings or {case.key: {"window_s": "0.5"} for case in CASES},
        **about,
    )


def series(newest, past, judged=None, pairs=None, only=None, cases=CASES):
    found = series_of(cases, newest, past, judged or EarlierVerdicts(), pairs or {}, only)
    return {(subject.name, subject.metric): one for subject, one in found}


def test_cells_and_the_curves_shape_are_judged():
    names = {(subject.metric, subject.ranks) for subject in subjects_of(CASES)}
    assert {("step", 1), ("throughput", 4), ("memory", 2), ("energy", 1), ("exposed", 2)} <= names
    assert {("efficiency", 2), ("efficiency", 4), ("serial", 4)} <= names
    assert ("exposed", 1) not in names
    assert ("efficiency", 1) not in names


def test_what_is_oversubscribed_has_no_efficiency():
    crowded = FOUR.model_copy(update={"flags": ("oversubscribed",)})
    shape = [subject for subject in subjects_of((ONE, TWO, crowded)) if subject.base_key]
    assert {(subject.metric, subject.ranks) for subject in shape} == {("efficiency", 2), ("serial", 2)}


def test_efficiency_and_serial_share_come_from_trials_of_the_same_round():
    numbers = {ONE.key: {0: {"rate": 100.0}, 1: {"rate": 50.0}}, FOUR.key: {0: {"rate": 200.0}, 2: {"rate": 1.0}}}
    efficiency = Subject(FOUR.key, "efficiency", FOUR.curve, FOUR.key, 4, ONE.key)
    assert logs_of(efficiency, numbers) == {0: pytest.approx(-math.log(0.5))}
    serial = Subject(FOUR.curve, "serial", FOUR.curve, FOUR.key, 4, ONE.key)
    assert logs_of(serial, numbers) == {0: pytest.approx((0.5 - 0.25) / 0.75)}


def test_only_nights_of_the_same_place_and_settings_count():
    past = [
        night("1", place={"host": "b"}),
        night("2"),
        night("3", settings={case.key: {"window_s": "1.0"} for case in CASES}),
    ]
    found = series(night("9"), past)
    assert [one.night for one in found[ONE.key, "step"].past] == ["2"]
    alone = series(night("9"), [past[0]])[ONE.key, "step"]
    assert (alone.outcome, alone.reason) == ("incomparable", "host a, not b")
    assert cell_differences(ONE.key, night("9"), past[2]) == "window_s 0.5, not 1.0"


def test_no_history_at_all_is_for_the_judge_to_tell():
    assert series(night("9"), [])[ONE.key, "step"].outcome is None


def test_trouble_is_told_once_and_spares_no_number_that_rests_on_it():
    found = series(night("9", failures={ONE.key: "1 of 5 trials failed: rank 0 died"}), [night("1")])
    assert found[ONE.key, "step"].outcome == "failed"
    assert (ONE.key, "throughput") not in found
    assert (FOUR.key, "efficiency") not in found, "it starts from the cell that failed"
    assert found[FOUR.key, "step"].outcome is None


def test_a_cell_that_was_not_run_is_missing_with_the_reason():
    newest = night("9", absent={FOUR.key: "4 ranks need 4 cores"})
    newest = NightFacts(**{**newest.__dict__, "numbers": {ONE.key: newest.numbers[ONE.key]}})
    found = series(newest, [night("1")])
    assert (found[FOUR.key, "step"].outcome, found[FOUR.key, "step"].reason) == ("missing", "4 ranks need 4 cores")
    assert found[TWO.key, "step"].outcome == "missing"
    gone = series(night("9"), [night("1")], cases=(ONE, TWO))
    assert gone[FOUR.key, "step"].outcome == "missing"


def test_a_night_that_regressed_is_no_reference_until_it_is_accepted():
    past = [night(str(number)) for number in range(1, 6)]
    statuses = {(one, TWO.key, "step"): "regressed" for one in ("4", "5")}
    bad = series(night("9"), past, EarlierVerdicts(statuses))[TWO.key, "step"]
    assert [one.good for one in bad.past] == [True, True, True, False, False]
    accepted = EarlierVerdicts(statuses, (AcceptedLevel(TWO.curve, since="4", at="6"),))
    good = series(night("9"), past, accepted)[TWO.key, "step"]
    assert [one.good for one in good.past] == [True] * 5
    assert [one.level for one in (*good.past, good.newest)] == [0, 0, 0, 1, 1, 1]
    later = EarlierVerdicts(
        {**statuses, ("5", TWO.key, "step"): "regressed"}, (AcceptedLevel(TWO.curve, since="4", at="4"),)
    )
    assert [one.good for one in series(night("9"), past, later)[TWO.key, "step"].past][-1] is False


def test_pairs_are_ratios_of_what_both_sides_measured():
    pairs = {
        "head": {TWO.key: {0: {"step_s": 0.11}, 1: {"step_s": 0.2}}},
        "base": {TWO.key: {0: {"step_s": 0.1}, 2: {"step_s": 0.1}}},
    }
    found = series(night("9"), [night("1")], pairs=pairs)[TWO.key, "step"]
    assert found.pairs == (pytest.approx(math.log(1.1)),)
    alone = {(subject.name, subject.metric): one for subject, one in paired_series(CASES, pairs)}
    assert alone[TWO.key, "step"].pairs == found.pairs
    assert (TWO.key, "memory") not in alone


def judged(changes):
    """By (ranks, metric): status and change; everything else passed, at ±1 %."""
    found = []
    for subject in subjects_of(CASES):
        status, change = changes.get((subject.ranks, subject.metric), ("pass", 0.0))
        wide = 1.0
        found.append(
            (
                subject,
                Verdict(
                    name=subject.name,
                    metric=subject.metric,
                    status=status,
                    change_pct=change,
                    low_pct=change - wide,
                    high_pct=change + wide,
                ),
            )
        )
    return found


def test_a_slowdown_at_every_rank_count_is_one_finding():
    slow = {(ranks, "step"): ("regressed", 10.0) for ranks in (1, 2, 4)}
    (found,) = findings_of(judged(slow))
    assert (found.kind, found.status, found.ranks) == ("slower", "regressed", (1, 2, 4))
    assert found.change_pct == 10.0


def test_a_slowdown_at_more_ranks_only_is_lost_scaling():
    slow = {(4, "step"): ("regressed", 10.0), (4, "throughput"): ("regressed", -9.0)}
    (found,) = findings_of(judged(slow))
    assert (found.kind, found.ranks) == ("lost scaling", (4,))
    shape = {(4, "efficiency"): ("regressed", -9.0), (4, "exposed"): ("regressed", 5.0)}
    assert findings_of(judged(shape))[0].kind == "lost scaling"


def test_it_is_not_lost_scaling_where_one_rank_may_be_as_much_slower():
    found = findings_of(judged({(1, "step"): ("pass", 9.5), (4, "step"): ("regressed", 10.0)}))
    assert found[0].kind == "slower"


def test_findings_come_worst_first_and_passes_make_none():
    assert findings_of(judged({})) == ()
    found = findings_of(judged({(1, "memory"): ("regressed", 8.0), (2, "step"): ("improved", -5.0)}))
    assert [(one.kind, one.status) for one in found] == [("more memory", "regressed"), ("faster", "improved")]


def test_the_baseline_of_another_machine_is_incomparable():
    past = [night("1", place={"host": "b"}), *(night(str(number)) for number in range(2, 8))]
    found = series(night("9"), past, only="1")[ONE.key, "step"]
    assert (found.outcome, found.reason) == ("incomparable", "host a, not b")


def test_stand_in_data_do_not_pass_for_the_real_ones():
    """The nights before measured other data; that there is a history of tonight's does not make up for them."""

    def on(name, day):
        settings = {case.key: {"data": name} for case in CASES}
        return night(f"2026-01-{day:02d}T00:00:00+00:00", settings=settings)

    past = [on("digits 1" if day in (3, 4, 5, 6) else "mnist 2", day) for day in range(1, 13)]
    found = series(on("digits 1", 13), past)
    assert [one.night[8:10] for one in found[ONE.key, "step"].past] == ["03", "04", "05", "06"]
    missing = found[f"{ONE.key} @ data mnist 2", "step"]
    assert (missing.outcome, missing.newest) == ("missing", None)
    assert "measured on 2026-01-12T00:00:00+00:00 with data mnist 2" in missing.reason
    again = series(on("digits 1", 14), [*past, on("digits 1", 13)])
    assert not any("@" in name for name, _ in again), "it is told once"
    alone = series(on("digits 9", 13), past)
    assert alone[ONE.key, "step"].outcome == "incomparable"
    assert not any("@" in name for name, _ in alone)


def test_other_nodes_of_a_cluster_are_another_place_and_unrecorded_ones_are_unknown():
    def on(name, **nodes):
        known = {"window_s": "0.5", **{f"node {field}": value for field, value in nodes.items()}}
        return night(name, settings={case.key: known for case in CASES})

    past = [on("1"), on("2", cpu="EPYC"), on("3", cpu="Xeon")]
    found = series(on("9", cpu="EPYC"), past)[ONE.key, "step"]
    assert [one.night for one in found.past] == ["1", "2"]
    alone = series(on("9", cpu="EPYC"), past[2:])[ONE.key, "step"]
    assert (alone.outcome, alone.reason) == ("incomparable", "node cpu EPYC, not Xeon")


def test_numbers_over_encrypted_connections_are_not_compared_with_others():
    case = make_case(backend="dask", transport="tasks", ranks=1)
    encrypted = make_trial(case, ranks=(make_record(settings={"connections": "tls", "dask": "2026.8.0"}),))
    settings = trial_settings(encrypted)
    assert settings["connections"] == "tls"
    assert "connections" not in trial_settings(make_trial(case)), "records from before have none"
    # A trial that failed has no ranks, and tells nothing else.
    assert join_settings(settings, trial_settings(make_trial(case, ranks=(), outcome="failed"))) == settings

    def on(name, **known):
        return night(name, settings={case.key: {"window_s": "0.5", **known} for case in CASES})

    found = series(on("9", connections="tls"), [on("1"), on("2")])[ONE.key, "step"]
    assert (found.outcome, found.reason) == ("incomparable", "connections tls, not none")


def test_the_kind_of_nodes_is_a_setting_and_their_names_are_not():
    def node(number, host, cpu="EPYC", torch="2.13.0"):
        facts = {"host": host, "system": "Linux", "cpu": cpu, "cores": 8, "memory_bytes": 1, "gpus": ()}
        return NodeFacts(node=number, python="3.11.7", packages={"torch": torch}, **facts)

    assert node_settings(()) == {}
    first = node_settings((node(0, "n1"), node(1, "n2")))
    assert first == {"node cpu": "EPYC", "node GPUs": "none", "node python": "3.11.7", "node torch": "2.13.0"}
    assert node_settings((node(0, "n7"), node(1, "n3"))) == first
    mixed = node_settings((node(0, "n1"), node(1, "n2", torch="2.12.1")))
    assert mixed["node torch"] == "2.12.1 | 2.13.0"
    later = node_settings((node(0, "n1", cpu="Xeon"),))
    assert join_settings(mixed, later) == {**first, "node cpu": "EPYC | Xeon", "node torch": "2.12.1 | 2.13.0"}
