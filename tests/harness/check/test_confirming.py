"""Which commit suspects are held against, and what becomes of those that get no pairs."""

from __future__ import annotations

import json

import pytest

from harness.check.bases import base_of, last_good_commit, suspects_by_base
from harness.check.confirmation import NightPairs, stored_pairs
from harness.check.history import SweepSelection, gather_sweep
from harness.cli.app import main
from harness.store.ledger import PairTrial
from harness.store.opening import open_store
from reports.regression.evidence import AcceptedLevel, EarlierVerdicts, NightFacts
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries, NightTrials, Verdict
from tests.support.builders import make_trial
from tests.support.nights import CASES, write_nights

TWO = CASES[1]
SUBJECT = Subject(TWO.key, "step", TWO.curve, TWO.key, 2)
NAMES = tuple("abcdefgh")
PAST = tuple(
    NightFacts(night=name, started_at=name, place={}, commit=f"c{name}", numbers={}, settings={}) for name in NAMES
)
MEMBER = (
    SUBJECT,
    MetricSeries(name=TWO.key, past=tuple(NightTrials(night=name, logs=(0.0,)) for name in NAMES)),
    Verdict(name=TWO.key, status="suspect"),
)


def base(statuses=None, accepted=()):
    known = {(name, TWO.key, "step"): status for name, status in (statuses or {}).items()}
    return last_good_commit([MEMBER], PAST, EarlierVerdicts(known, accepted), 4)


def test_the_base_is_older_than_what_is_looked_back_over():
    assert base() == "cd", "e to h may hold what the newest night is suspected of"


def test_nights_that_were_left_open_are_no_base():
    assert base({"d": "suspect", "c": "inconclusive", "b": "pass"}) == "cb"
    assert base(dict.fromkeys("abcd", "regressed")) == "ce", "younger ones are better than none"
    assert base(dict.fromkeys(NAMES, "regressed")) is None
    assert base({"d": "regressed"}, (AcceptedLevel(TWO.curve, since="d", at="z"),)) == "cd"


def test_a_suspect_held_against_an_improvement_has_a_base_with_that_improvement():
    lost = (SUBJECT, MEMBER[1], Verdict(name=TWO.key, status="suspect", compared_since="f"))
    other = Subject(CASES[2].key, "step", TWO.curve, CASES[2].key, 4)
    usual = (other, MEMBER[1], Verdict(name=other.name, status="suspect"))
    groups = suspects_by_base([usual, lost], PAST, EarlierVerdicts())
    assert {commit: [subject for subject, _, _ in group] for commit, group in groups.items()} == {
        "cd": [other],
        "cf": [SUBJECT],
    }
    speed_up = Subject(CASES[2].key, "efficiency", TWO.curve, CASES[2].key, 4, TWO.key)
    unrelated = Subject(CASES[0].key, "memory", TWO.curve, CASES[0].key, 1)
    assert [base_of(subject, groups) for subject in (SUBJECT, other, speed_up, unrelated)] == ["cf", "cd", "cd", "cd"]
    bad = EarlierVerdicts({("f", TWO.key, "step"): "suspect"})
    assert list(suspects_by_base([lost], PAST, bad)) == ["cg"], "the oldest of the level that is good"


def pair(number, side, commit, outcome="ok"):
    trial = make_trial(TWO, number, 0.06 if side == "base" else 0.08, outcome=outcome)
    return PairTrial(sweep="s", key=TWO.key, pair=number, side=side, commit=commit, trial=trial)


def test_failed_trials_make_a_case_hopeless_and_foreign_pairs_do_not():
    pairs = NightPairs()
    for number in range(2):
        pairs.add(pair(number, "head", "h", outcome="failed"))
    assert pairs.hopeless(TWO.key)
    assert not NightPairs(next_pair={TWO.key: 12}).hopeless(TWO.key)


@pytest.mark.slow
def test_an_answer_that_pairs_gave_stays_when_nobody_confirms(tmp_path, capsys):
    place = str(tmp_path / "nights.sqlite")
    write_nights(place, 12)
    write_nights(place, 1, first=13, slower={2: 1.3})
    store = open_store(place, create=True)
    night = gather_sweep(store, SweepSelection()).newest.night
    for number in range(6):
        for side, commit in (("head", "c13"), ("base", "c8")):
            store.ledger.add_pair(pair(number, side, commit).model_copy(update={"sweep": night}))
    other = stored_pairs(store.ledger, night, "c13", "c7")
    assert (other.numbers["base"], other.next_pair[TWO.key], other.trials) == ({}, 6, 0)
    store.close()
    assert main(["check", "--store", place]) == 1
    assert main(["check", "--store", place, "--baseline", "20260102-000000-abcd"]) == 3
    assert main(["check", "--store", place]) == 1, "a check against one night keeps no verdicts"
    assert "regressed" in capsys.readouterr().out


@pytest.mark.slow
def test_an_improvement_that_was_lost_is_confirmed_against_its_own_commit(tmp_path, capsys):
    place = str(tmp_path / "nights.sqlite")
    write_nights(place, 12)
    write_nights(place, 4, first=13, slower={2: 0.7})
    write_nights(place, 1, first=17)
    assert main(["check", "--store", place, "--json"]) == 3
    verdict = json.loads(capsys.readouterr().out)["benchmarks"][TWO.key]
    assert (verdict["status"], verdict["compared_since"]) == ("suspect", "20260113-000000-abcd")
    assert verdict["change_pct"] == pytest.approx(43, abs=6)
    store = open_store(place, create=True)
    night = gather_sweep(store, SweepSelection()).newest.night
    for number in range(6):
        for side, commit in (("head", "c17"), ("base", "c13")):
            store.ledger.add_pair(pair(number, side, commit).model_copy(update={"sweep": night}))
    store.close()
    assert main(["check", "--store", place, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["benchmarks"][TWO.key]["status"] == "regressed"
    assert document["extra_trials"] == 12
