"""Numbers of one place (machine, interpreter, versions) are one series; a place that did not come is missing."""

from __future__ import annotations

import json
import random
import subprocess
from contextlib import closing
from functools import partial

import pytest

from harness.check.ingested import gather_ingested
from harness.check.ingested_series import stored_name
from harness.cli.app import main
from harness.store.ledger import IngestedRun
from harness.store.opening import open_store
from reports.regression.places import place_of
from reports.regression.values import Verdict
from tests.support.nights import CASES, write_nights
from tests.support.paths import ROOT
from tests.support.stored_once import write_once

HOST = {"host": "ci", "cpu": "EPYC", "cores": "8"}
OLD, NEW = ({**HOST, "python": version} for version in ("3.9.18", "3.10.13"))
SECONDS = {"3.9.18": 0.32e-3, "3.10.13": 0.20e-3}
"""A nightly matrix of two Pythons, 3 runs each."""
NIGHTS = 12
ONE = CASES[0]
LAST = NIGHTS + 1
"""A night of sweeps on which no unchanged series is suspected by chance."""


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "r.sqlite")


def add(store, night, *places, **asked):
    """Three runs at each place in that order, a minute apart."""
    with closing(open_store(store, create=True)) as opened:
        add_runs(opened, night, *places, **asked)


def add_runs(opened, night, *places, factor=1.0, label=None, benchmark="test_parse", at=None, commit=None):
    noise, spread = random.Random(night), 0.002 if night >= NIGHTS else 0.01
    for number, place in enumerate(place for place in places for _ in range(3)):
        seconds = SECONDS.get(place.get("python"), 1e-3) * factor * (1 + noise.gauss(0, spread))
        run = IngestedRun(
            night=label or f"2026-01-{night:02d}",
            benchmark=benchmark,
            run=f"{night}-{place.get('host')}-{number}",
            at=at or f"2026-01-{night:02d}T02:{number:02d}:00+00:00",
            commit=commit or f"{night:012x}",
            place=place,
            seconds=(seconds,),
            source="a.json",
        )
        opened.ledger.add_run(run)


def check(capsys, store, *arguments):
    status = main(["check", "--store", store, "--json", *arguments])
    document = json.loads(capsys.readouterr().out)
    assert document["exit"] == status
    return status, {name: found["status"] for name, found in document["benchmarks"].items()}, document


@pytest.fixture
def matrix(store):
    def write():
        with closing(open_store(store, create=True)) as opened:
            for night in range(1, NIGHTS):
                add_runs(opened, night, OLD, NEW)

    write_once(store, write, "matrix")
    return store


AT_OLD, AT_NEW = "test_parse @ python 3.9.18", "test_parse @ python 3.10.13"


def test_both_came_and_are_two_series(capsys, matrix):
    add(matrix, NIGHTS, OLD, NEW)
    status, found, document = check(capsys, matrix)
    assert (status, found) == (0, {AT_OLD: "pass", AT_NEW: "pass"})
    assert document["benchmarks"][AT_OLD]["nights"] == NIGHTS - 1
    assert all(abs(one["change_pct"]) < 5 for one in document["benchmarks"].values())


def test_jobs_that_finish_in_another_order_change_nothing(capsys, matrix):
    add(matrix, NIGHTS, NEW, OLD)
    assert check(capsys, matrix)[:2] == (0, {AT_OLD: "pass", AT_NEW: "pass"})


def test_only_one_came_unchanged_and_nothing_improved(capsys, matrix):
    add(matrix, NIGHTS, OLD)
    status, found, document = check(capsys, matrix)
    assert (status, found) == (3, {AT_OLD: "pass", AT_NEW: "missing"})
    assert "2026-01-11" in document["benchmarks"][AT_NEW]["reason"]


def test_only_one_came_and_is_slower(capsys, matrix):
    add(matrix, NIGHTS, OLD, factor=1.27)
    status, found, document = check(capsys, matrix)
    assert (status, found) == (3, {AT_OLD: "suspect", AT_NEW: "missing"})
    assert 20 < document["benchmarks"][AT_OLD]["change_pct"] < 35
    assert [finding["place"] for finding in document["findings"]] == ["python 3.10.13", "python 3.9.18"]


def test_a_place_that_stays_away_is_missed_once(capsys, matrix):
    add(matrix, NIGHTS, OLD)
    add(matrix, NIGHTS + 1, OLD)
    assert check(capsys, matrix)[:2] == (0, {"test_parse": "pass"})


def test_an_upgrade_is_incomparable_and_no_place_is_missed(capsys, matrix):
    upgraded = {**NEW, "python": "3.10.14"}
    add(matrix, NIGHTS, OLD, upgraded)
    status, found, document = check(capsys, matrix)
    at_upgraded = "test_parse @ python 3.10.14"
    assert (status, found) == (3, {AT_OLD: "pass", at_upgraded: "incomparable"})
    assert document["benchmarks"][at_upgraded]["reason"] == "python 3.10.14, not 3.10.13"


def test_one_more_place_is_new(capsys, matrix):
    third = {**NEW, "python": "3.11.9"}
    add(matrix, NIGHTS, OLD, NEW, third)
    assert check(capsys, matrix)[:2] == (0, {AT_OLD: "pass", AT_NEW: "pass", "test_parse @ python 3.11.9": "new"})


def test_a_benchmark_that_one_place_left_out_is_missing_there(capsys, matrix):
    for night in (NIGHTS - 1, NIGHTS):
        add(matrix, night, *((OLD, NEW) if night < NIGHTS else (OLD,)), benchmark="test_write")
    add(matrix, NIGHTS, OLD, NEW)
    found = check(capsys, matrix)[1]
    assert found["test_write @ python 3.10.13"] == "missing"
    assert found["test_write @ python 3.9.18"] == "new"


# Stores of two machines, merged


@pytest.fixture
def merged(tmp_path):
    """``merged(tonight=…)``: the stores of two machines with nights of their own labels, merged."""

    def write(host, last):
        with closing(open_store(str(tmp_path / host), create=True)) as opened:
            for night in range(1, NIGHTS + (last is not None)):
                at = f"2026-01-{night:02d}T0{1 + (host == 'b')}:00:00+00:00"
                label, factor = f"micro-2026-01-{night:02d}-{host}", last if night == NIGHTS else 1.0
                slower = {"a": 1.0, "b": 1.6}[host]
                add_runs(opened, night, {**HOST, "host": host}, label=label, at=at, factor=factor * slower)

    def make(**tonight):
        for host in "ab":
            last = {"a": 1.0, "b": 1.0, **tonight}[host]
            write_once(tmp_path / host, partial(write, host, last), "merged", host, last)
        assert main(["merge", str(tmp_path / "b"), "--store", str(tmp_path / "a")]) == 0
        return str(tmp_path / "a")

    return make


def test_merged_machines_are_series_of_their_own(capsys, merged):
    place = merged()
    capsys.readouterr()
    assert check(capsys, place)[:2] == (0, {"test_parse @ host a": "pass", "test_parse @ host b": "pass"})


@pytest.mark.parametrize(
    ("tonight", "status", "at_a", "at_b"),
    [
        ({"a": None}, 3, "missing", "pass"),
        ({"b": None}, 3, "pass", "missing"),
        ({"a": 1.27}, 3, "suspect", "pass"),
        ({"b": 1.27}, 3, "pass", "suspect"),
    ],
)
def test_of_merged_machines_the_absent_and_the_slower_one_are_told(capsys, merged, tonight, status, at_a, at_b):
    place = merged(**tonight)
    capsys.readouterr()
    found = check(capsys, place)
    assert found[:2] == (status, {"test_parse @ host a": at_a, "test_parse @ host b": at_b})


def test_the_histories_of_merged_machines_are_as_long_as_before(capsys, store):
    """61 nights are read of each place, however many labels lie between them."""
    from datetime import UTC, datetime, timedelta

    with closing(open_store(store, create=True)) as opened:
        for night in range(70):
            for host in "abc":
                at = (datetime(2026, 1, 1, "abc".index(host), tzinfo=UTC) + timedelta(days=night)).isoformat()
                add_runs(opened, night, {**HOST, "host": host}, label=f"{night}-{host}", at=at)
    document = check(capsys, store)[2]
    assert [one["nights"] for one in document["benchmarks"].values()] == [60, 60, 60]


def test_regressions_are_remembered_whatever_the_series_is_called(capsys, matrix):
    """The store keeps verdicts by place: the names that are shown depend on which other places there are."""
    add(matrix, NIGHTS, OLD, NEW)
    check(capsys, matrix)
    with closing(open_store(matrix, create=True)) as opened:
        verdicts = opened.ledger.verdicts("2026-01-12")
        at_old = stored_name("test_parse", place_of(OLD))
        assert {verdict.name for verdict in verdicts} == {at_old, stored_name("test_parse", place_of(NEW))}
        bad = [one.model_copy(update={"status": "regressed"}) if one.name == at_old else one for one in verdicts]
        opened.ledger.save_verdicts("2026-01-12", bad)
    for night, places in ((NIGHTS + 1, (OLD, NEW)), (NIGHTS + 2, (OLD,)), (NIGHTS + 3, (OLD,))):
        add(matrix, night, *places)
        with closing(open_store(matrix, create=True)) as opened:
            (series,) = [one for one in gather_ingested(opened.ledger, (), None).series if dict(one.place) == OLD]
        assert [one.night for one in series.series.past if not one.good] == ["2026-01-12"]


def test_verdicts_from_before_places_were_part_of_names_count(capsys, store):
    for night in range(1, NIGHTS):
        add(store, night, OLD)
    with closing(open_store(store, create=True)) as opened:
        opened.ledger.save_verdicts("2026-01-05", [Verdict(name="test_parse", status="regressed")])
        (series,) = gather_ingested(opened.ledger, (), None).series
    assert [one.night for one in series.series.past if not one.good] == ["2026-01-05"]


def test_an_acceptance_holds_at_every_place(capsys, matrix):
    for night in (NIGHTS, NIGHTS + 1):
        add(matrix, night, OLD, NEW, factor=1.5)
    assert set(check(capsys, matrix)[1].values()) == {"suspect"}
    assert main(["check", "--store", matrix, "--accept", "test_parse", "--because", "more work"]) == 0
    capsys.readouterr()
    add(matrix, NIGHTS + 2, OLD, NEW, factor=1.5)
    assert check(capsys, matrix)[:2] == (0, {AT_OLD: "pass", AT_NEW: "pass"})


# Sweeps


def write_sweeps(store, nights, hosts, factor=1.0):
    """One sweep a night on each machine, an hour apart."""

    def write():
        for night in nights:
            for hour, host in enumerate(hosts):
                write_nights(store, 1, first=night, hour=hour, host=host, slower={1: factor})

    write_once(store, write, "sweeps", list(nights), hosts, factor)


@pytest.mark.slow
def test_sweeps_of_merged_machines_are_judged_each_by_its_own_history(capsys, store):
    write_sweeps(store, range(1, LAST), "ab")
    write_nights(store, 1, first=LAST, hour=0, host="a", slower={1: 1.4})
    write_nights(store, 1, first=LAST, hour=1, host="b")
    status, found, document = check(capsys, store)
    assert status == 3
    assert found[f"{ONE.key} @ host a"] == "suspect"
    assert found[f"{ONE.key} @ host b"] == "pass"
    assert document["benchmarks"][f"{ONE.key} @ host a"]["nights"] == LAST - 1
    alone = check(capsys, store, "--sweep", f"202601{LAST}-010000-abcd")
    assert (alone[0], set(alone[1].values())) == (0, {"pass"}), "it alone was asked for"


@pytest.mark.slow
def test_an_acceptance_holds_for_the_sweeps_of_every_machine(capsys, store):
    write_sweeps(store, range(1, NIGHTS), "ab")
    for night in (NIGHTS, NIGHTS + 1):
        write_sweeps(store, [night], "ab", factor=1.5)
        found = check(capsys, store)[1]
        assert {found[f"{ONE.key} @ host {host}"] for host in "ab"} == {"suspect"}
    assert main(["check", "--store", store, "--accept", ONE.curve, "--because", "more work"]) == 0
    capsys.readouterr()
    write_sweeps(store, [NIGHTS + 2], "ab", factor=1.5)
    status, found, _ = check(capsys, store)
    assert (status, {found[f"{ONE.key} @ host {host}"] for host in "ab"}) == (0, {"pass"})


def test_a_machine_without_a_sweep_of_the_night_is_missing(capsys, store):
    write_sweeps(store, range(1, LAST), "ab")
    write_sweeps(store, [LAST], "a")
    status, found, document = check(capsys, store)
    assert (status, found[f"{ONE.key} @ host a"], found[f"{ONE.key} @ host b"]) == (3, "pass", "missing")
    assert f"202601{LAST - 1}-010000-abcd" in document["benchmarks"][f"{ONE.key} @ host b"]["reason"]
    write_sweeps(store, [LAST + 1], "a")
    assert check(capsys, store)[0] == 0, "it is told once"


# What to do next


def advice(document):
    return [f"{step['said']}: {step['command']}" for step in document["next"]]


def test_another_project_s_benchmark_is_not_to_be_confirmed(capsys, matrix):
    """`--confirm` cannot run it, and said so by advising `--confirm`, for ever."""
    add(matrix, NIGHTS, OLD, NEW, factor=1.4)
    document = check(capsys, matrix)[2]
    (found,) = advice(document)
    assert "not to be confirmed here: it is another project's benchmark" in found
    assert "--pairs P.csv" in found
    assert check(capsys, matrix, "--confirm")[2]["next"] == document["next"]


@pytest.mark.slow
def test_a_micro_benchmark_of_another_place_is_confirmed_there(capsys, store):
    name = "suites/test_micro.py::test_toy"
    for night in range(1, NIGHTS + 1):
        add(store, night, OLD, benchmark=name, factor=1.4 if night == NIGHTS else 1)
    (found,) = advice(check(capsys, store)[2])
    assert "it ran elsewhere (host " in found
    assert "not ci; python " in found
    assert not found.endswith("--confirm")


@pytest.mark.slow
def test_a_sweep_without_a_base_names_the_option_that_helps(capsys, store):
    write_nights(store, NIGHTS, changed_files=True)
    write_nights(store, 1, first=NIGHTS + 1, slower={1: 1.4})
    found = advice(check(capsys, store)[2])
    assert any("no earlier night has a commit" in step and "--confirm --base-rev REV" in step for step in found)
    assert not any("pairs needed" in step for step in found)


@pytest.mark.slow
def test_a_sweep_of_another_machine_is_confirmed_there(capsys, store):
    write_nights(store, NIGHTS, host="a")
    write_nights(store, 1, first=NIGHTS + 1, slower={1: 1.4}, host="a")
    found = advice(check(capsys, store)[2])
    assert any("the sweep ran elsewhere (host " in step for step in found)
    assert not any("pairs needed" in step for step in found)


@pytest.mark.slow
def test_the_advice_is_about_the_sweep_that_was_judged(capsys, store):
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    write_nights(store, NIGHTS, commit=head.strip())
    write_nights(store, 1, first=NIGHTS + 1, slower={1: 1.4})
    write_nights(store, 1, first=NIGHTS + 2)
    found = advice(check(capsys, store, "--sweep", "20260113-000000-abcd")[2])
    assert any("--confirm" in step and "--sweep 20260113-000000-abcd" in step for step in found)
