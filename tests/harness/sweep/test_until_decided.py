"""Sweeps that go on where their answers are open."""

from __future__ import annotations

import math
import random

import pytest

from bench.backends.ddp import BACKEND
from bench.core.records import Condition
from bench.plugins.registry import Plugins
from harness.planning.plan import Plan, imprecise_cases
from harness.planning.suite import Suite
from harness.reporting.decisions import decisions_of, observe, with_trial
from harness.sites.base.contract import Job, Site, TrialResult
from harness.store.opening import open_store
from harness.store.past_trials import read_past_rates
from harness.store.store import Store, SweepInfo
from harness.store.tables import measures_table, trials_table
from harness.store.trial_outcomes import read_throughputs, read_trial_outcomes
from harness.sweep.prepared import PreparedSweep
from harness.sweep.rounds import rounds_until_precise, run_sweep
from reports.analysis.decisions import Observed
from tests.support.builders import make_case, make_record, make_trial
from tests.support.stored_once import this_environment
from tests.support.stores import FIRST_NIGHT

CASES = tuple(
    make_case(ranks=ranks, workload_options=options, site="model")
    for options in ({}, {"model": "transformer"})
    for ranks in (1, 2, 3, 4, 6, 8)
)
ADAPTED = tuple(case.model_copy(update={"adapt_window": True}) for case in CASES)
SPEED = {case.key: 0.1 / case.ranks**0.3 for case in CASES}
"""Seconds of a step: efficiencies are 62 % and less, and the most ranks are the fastest."""


class ModelJob(Job):
    def __init__(self, request, step_s: tuple[float, ...], outcome):
        self.request, self.step_s, self.outcome = request, step_s, outcome

    def wait(self, timeout_s):
        if self.outcome != "ok":
            return TrialResult(self.outcome, "it fell over", (), (), ())
        ranks = self.request.case.ranks
        records = tuple(make_record(rank, ranks, self.step_s) for rank in range(ranks))
        return TrialResult("ok", None, records, (), ())

    def cancel(self):
        pass


class ModelSite(Site):
    """A site whose trials take a known time, with noise that the case and the number of its trial decide."""

    name, summary = "model", ""

    def __init__(self, noise=0.01, failing=(), submits_rounds=False, steps=2):
        super().__init__()
        self.noise, self.failing, self._whole, self.steps = noise, failing, submits_rounds, steps
        self.started = []

    @property
    def submits_rounds(self):
        return self._whole

    def render(self, case, roles):
        return {}

    def start(self, request):
        key = request.case.key
        # By its round where rounds are submitted: what an interrupt cancelled is started again.
        number = int(request.folder.name[:2]) if self._whole else sum(other == key for other, _ in self.started)
        self.started.append((key, number))
        noise = random.Random(f"{key} {number}").gauss(0, self.noise)
        outcome = "failed" if key in self.failing else "ok"
        return ModelJob(request, (SPEED[key] * math.exp(noise),) * self.steps, outcome)


class Watching:
    """Interrupts the sweep after a number of trials."""

    def __init__(self, interrupt_after=None):
        self.left, self.totals, self.done = interrupt_after, [], 0

    def begins(self, case, round_number):
        pass

    def ends(self, trial):
        self.done += 1
        if self.done == self.left:
            raise KeyboardInterrupt

    def may_follow(self, trials):
        self.totals.append(self.done + trials)


def new_sweep(store: Store, name: str = "s1", rounds: int = 5, cases=CASES, **suite) -> SweepInfo:
    info = SweepInfo(
        id=name,
        started_at=FIRST_NIGHT,
        command="python -m harness sweep",
        suite=Suite(**{"until": "decided", "repeats": rounds, **suite}),
        plan=Plan(cases=cases, skips=(), not_applicable=(), repeats=rounds),
        environment=this_environment(),
    )
    store.begin_sweep(info)
    return info


def run(info, store, folder, site=None, watching=None) -> set[tuple[str, int]]:
    plugins = Plugins({"ddp": BACKEND}, {}, [])
    run_sweep(PreparedSweep(info, store, site or ModelSite(), plugins, folder), watching or Watching())
    return store.done(info.id)


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path / "r.sqlite"), create=True)
    yield store
    store.close()


def test_what_is_settled_gets_no_more_trials_and_what_is_open_does(store, tmp_path):
    watching, info = Watching(), new_sweep(store)
    done = run(info, store, tmp_path, watching=watching)
    assert {key for key, number in done if number == 0} == {case.key for case in CASES}, "every case runs once"
    assert len(done) < len(CASES) * 5
    found = decisions_of(info, store)
    assert (found.trials, found.max_trials) == (len(done), len(CASES) * 5)
    assert found.needed == ()
    decided = [decision for decision in found.decisions if decision.state == "decided"]
    assert {decision.answer for decision in decided if decision.kind == "efficiency"} == {"below"}
    assert watching.totals[0] == len(CASES) * 5
    assert watching.totals[-1] >= len(done)
    assert store.sweep(info.id).finished_at is not None


@pytest.mark.parametrize("trials", [1, 13, 17])
def test_a_sweep_that_was_interrupted_goes_on_with_the_same_trials(store, tmp_path, trials):
    without_break = new_sweep(store, "whole")
    whole = run(without_break, store, tmp_path, ModelSite(noise=0.05))
    info, site = new_sweep(store, "cut"), ModelSite(noise=0.05)
    with pytest.raises(KeyboardInterrupt):
        run(info, store, tmp_path, site, Watching(trials))
    assert len(store.done(info.id)) == trials
    assert run(info, store, tmp_path, site) == whole
    # Throughputs are of the same trials, so that everything that follows from them is equal.
    assert decisions_of(info, store) == decisions_of(without_break, store)


def outcomes(info, store):
    return observe(info, read_trial_outcomes(store, info.id))


def test_of_trials_that_gave_a_number_the_conditions_alone_are_read(store, tmp_path):
    info, site = new_sweep(store), ModelSite(failing=[CASES[3].key])
    run(info, store, tmp_path, site)
    found, known = decisions_of(info, store), outcomes(info, store)

    def change(body):
        with store.database.writing("") as connection:
            connection.execute(trials_table.update().where(trials_table.c.outcome == "ok").values(body=body))

    change('{"conditions": [{"name": "not_measured"}]}')
    assert decisions_of(info, store) == found
    change('{"conditions": [{"name": "host_load"}]}')
    assert {key: seen._replace(is_disturbed=False) for key, seen in outcomes(info, store).items()} == known
    assert {key for key, seen in outcomes(info, store).items() if seen.is_disturbed} == set(SPEED) - {CASES[3].key}
    change("{")
    assert not any(seen.rates for seen in outcomes(info, store).values()), "a damaged trial is no number"


def test_a_store_without_measures_decides_alike(store, tmp_path):
    info = new_sweep(store)
    run(info, store, tmp_path, ModelSite(failing=[CASES[3].key]))
    found = outcomes(info, store)
    with store.database.writing("") as connection:
        connection.execute(measures_table.delete())
    assert outcomes(info, store) == found


@pytest.mark.parametrize("trials", [1, 13, 15, 17])
def test_a_round_that_was_submitted_is_completed_after_an_interrupt(store, tmp_path, trials):
    whole = run(new_sweep(store, "whole"), store, tmp_path, ModelSite(noise=0.05, submits_rounds=True))
    info = new_sweep(store, "cut")
    with pytest.raises(KeyboardInterrupt):
        run(info, store, tmp_path, ModelSite(noise=0.05, submits_rounds=True), Watching(trials))
    assert len(store.done(info.id)) == trials
    assert run(info, store, tmp_path, ModelSite(noise=0.05, submits_rounds=True)) == whole


@pytest.mark.parametrize("trials", [25, 30, 37])
def test_a_round_for_a_precision_is_completed_after_an_interrupt(store, tmp_path, trials):
    suite = {"until": None, "precision": 0.05, "rounds": 2}
    whole = run(new_sweep(store, "whole", **suite), store, tmp_path, ModelSite(noise=0.05, submits_rounds=True))
    assert max(number for _, number in whole) > 2
    info = new_sweep(store, "cut", **suite)
    with pytest.raises(KeyboardInterrupt):
        run(info, store, tmp_path, ModelSite(noise=0.05, submits_rounds=True), Watching(trials))
    assert run(info, store, tmp_path, ModelSite(noise=0.05, submits_rounds=True)) == whole


def test_windows_that_adapt_do_so_from_the_third_trial_on_and_are_the_same_after_a_break(store, tmp_path):
    def windows(info) -> dict[tuple[str, int], float | None]:
        return {(trial.case.key, trial.round): trial.case.chosen_window_s for trial in store.trials(info.id)}

    whole, cut = (new_sweep(store, name, cases=ADAPTED, adapt_window=True) for name in ("whole", "cut"))
    run(whole, store, tmp_path, ModelSite(noise=0.1, steps=20))
    site = ModelSite(noise=0.1, steps=20)
    with pytest.raises(KeyboardInterrupt):
        run(cut, store, tmp_path, site, Watching(16))
    run(cut, store, tmp_path, site)
    assert windows(cut) == windows(whole)
    adapted = {number: window for (_, number), window in windows(whole).items()}
    assert max(adapted) >= 2, "some question is open after two rounds"
    assert all((window is not None) == (number >= 2) for number, window in adapted.items())


class CountedStore(Store):
    """Counts how often trials are read with all of their steps, those of many cases at once."""

    read = 0

    def trials(self, sweep):
        self.read += 1
        return super().trials(sweep)

    def trials_of_cases(self, sweep, keys):
        self.read += 1
        return super().trials_of_cases(sweep, keys)


def test_a_resumed_sweep_reads_its_trials_once_for_its_windows_and_not_for_its_decisions(store, tmp_path):
    info, site = new_sweep(store, cases=ADAPTED, adapt_window=True), ModelSite(noise=0.1, steps=20)
    with pytest.raises(KeyboardInterrupt):
        run(info, store, tmp_path, site, Watching(16))
    counted = CountedStore(store.database, store.location)
    done = run(info, counted, tmp_path, site)
    assert max(number for _, number in done) >= 2
    assert counted.read == 1


def test_rounds_go_on_for_the_cases_whose_intervals_are_wide(store, tmp_path):
    info = new_sweep(store, rounds=3)
    info = info.model_copy(update={"suite": info.suite.model_copy(update={"until": None, "precision": 0.03})})
    done = run(info, store, tmp_path, ModelSite(noise=0.02, failing=[CASES[3].key]))
    trials = {case.key: sum(key == case.key for key, _ in done) for case in CASES}
    assert trials[CASES[3].key] == 3, "more rounds would not make its number precise"
    assert min(trials.values()) == 3
    assert max(trials.values()) > 3
    rates = {key: [rate for (of, _), rate in read_throughputs(store, info.id).items() if of == key] for key in trials}
    assert imprecise_cases(info.plan, rates, 0.03) == []
    narrower = next(rounds_until_precise(info, 0.01, store, lambda: 0.0, whole_rounds=True))
    with store.database.writing("") as connection:
        connection.execute(measures_table.delete())
    assert next(rounds_until_precise(info, 0.01, store, lambda: 0.0, whole_rounds=True)) == narrower


def test_a_site_that_takes_whole_rounds_is_given_them(store, tmp_path):
    site = ModelSite(submits_rounds=True)
    done = run(new_sweep(store), store, tmp_path, site)
    assert len(site.started) == len(done) < len(CASES) * 5


@pytest.mark.parametrize(("name", "disturbed"), [("host_load", True), ("not_measured", False)])
def test_a_trial_tells_whether_something_disturbed_it(name, disturbed):
    trial = make_trial(CASES[0], conditions=(Condition(name=name, seen="what was seen"),))
    seen = with_trial(Observed(CASES[0], CASES[0].key, {}), trial)
    assert seen.is_disturbed is disturbed
    assert with_trial(seen, make_trial(CASES[0], 1)).is_disturbed is disturbed


def test_a_case_that_fails_is_not_repeated(store, tmp_path):
    failing = CASES[3].key
    done = run(new_sweep(store), store, tmp_path, ModelSite(failing=[failing]))
    assert [number for key, number in done if key == failing] == [0]


def test_no_case_has_more_trials_than_the_cap(store, tmp_path):
    watching, info = Watching(), new_sweep(store, rounds=4, margin=0.001)
    done = run(info, store, tmp_path, ModelSite(noise=0.2), watching)
    assert max(number for _, number in done) <= 3
    assert max(watching.totals) <= 4 * len(CASES), "nor is more announced"


def test_an_earlier_sweep_tells_the_noise_of_trials(store, tmp_path):
    first = new_sweep(store, "first")
    without = run(first, store, tmp_path)
    machine = first.environment.machine
    keys = {case.key for case in CASES}
    past = read_past_rates(store, machine, keys)
    assert past.keys() == keys
    assert read_past_rates(store, "another machine", keys) == {}
    second = new_sweep(store, "second").model_copy(update={"past_rates": past})
    assert len(run(second, store, tmp_path)) <= len(without)
