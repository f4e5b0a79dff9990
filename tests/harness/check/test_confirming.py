"""Which commit suspects are held against, and what becomes of those that get no pairs."""

from __future__ import annotations

from harness.check.confirmation import NightPairs, last_good_commit, stored_pairs
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


def pair(number, side, commit, outcome="ok"):
    trial = make_trial(TWO, number, 0.06 if side == "base" else 0.08, outcome=outcome)
    return PairTrial(sweep="s", key=TWO.key, pair=number, side=side, commit=commit, trial=trial)


def test_failed_trials_make_a_case_hopeless_and_foreign_pairs_do_not():
    pairs = NightPairs()
    for number in range(2):
        pairs.add(pair(number, "head", "h", outcome="failed"))
    assert pairs.hopeless(TWO.key)
    assert not NightPairs(next_pair={TWO.key: 12}).hopeless(TWO.key)


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
    assert (other.numbers["base"], other.next_pair[TWO.key]) == ({}, 6)
    store.close()
    assert main(["check", "--store", place]) == 1
    assert main(["check", "--store", place, "--baseline", "20260102-000000-abcd"]) == 3
    assert main(["check", "--store", place]) == 1, "a check against one night keeps no verdicts"
    assert "regressed" in capsys.readouterr().out
