"""How long a sweep will take, from what like trials took on this machine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.text import one_line
from bench.host.paths import from_home
from harness.errors import StoreError
from harness.planning.plan import Plan
from reports.analysis.formatting import counted

if TYPE_CHECKING:
    from harness.store.past_trials import PastTrial

MAX_ALIKE = 12
"""The newest trials of a kind that count."""
LEAST_SPREAD = 0.15
"""Of a trial that resembles a few others only: as a share of its time, in both directions."""
OTHER_SPREAD = 0.4
"""The same where none of the trials is of the same case."""
MAX_REASON_LENGTH = 200


class SweepDuration(FrozenModel):
    """How long the trials of a plan will take, in seconds. ``None``: unknown, with the reason."""

    seconds: float | None
    low_s: float | None = None
    high_s: float | None = None
    windows_s: float
    """The measured windows alone, which every trial takes at least."""
    past_trials: int
    """The number of stored trials that it is made of."""
    reason: str | None = None

    def text(self) -> str:
        """``about 3 min (2–5)``; ``unknown; the measured windows alone take about 40 s``, of counted steps
        ``unknown``."""
        if self.seconds is None or self.low_s is None or self.high_s is None:
            if not self.windows_s:
                return "unknown"
            amount, unit = _unit(self.windows_s)
            return f"unknown; the measured windows alone take about {amount:.0f} {unit}"
        value, unit = _unit(self.seconds)
        scale = value / self.seconds if self.seconds else 1.0
        digits = 1 if value < 3 and unit != "s" else 0
        mean, low, high = (f"{part:.{digits}f}" for part in (value, self.low_s * scale, self.high_s * scale))
        return f"about {mean} {unit}" + (f" ({low}–{high})" if low != high else "")

    def explanation(self) -> str:
        """Where it is from: ``from 18 trials on this machine``; why it is unknown."""
        return self.reason or f"from {counted(self.past_trials, 'trial')} on this machine"


def predict_duration(plan: Plan, past: Sequence[PastTrial], reason: str = "") -> SweepDuration:
    """The duration of a plan's trials (pure).

    A trial is taken to last as long as the mean of those stored ones that resemble it most: of the same case, of the
    same backend and ranks with the same workload, of the same backend and ranks, of the same backend, or any. A longer
    window adds its length. The range is that of these trials, since what disturbs one disturbs the others too.

    Args:
        plan: What will run, on one site.
        past: The trials of this machine, the newest first.
        reason: Why there is none, where that is known.
    """
    trials = [(case, number) for number in range(plan.repeats) for case in plan.cases]
    windows_s = sum(_timed_s(case, number) for case, number in trials)
    alike = _alike(past)
    expected: dict[tuple[str, bool], tuple[float, float, float, frozenset[int]]] = {}
    for case, number in trials:
        if (case.key, number == 0) not in expected:
            found = _expect(case, number, past, alike)
            if found is None:
                none = "no trial of this machine is stored yet"
                return SweepDuration(seconds=None, windows_s=windows_s, past_trials=0, reason=reason or none)
            expected[case.key, number == 0] = found
    each = [expected[case.key, number == 0] for case, number in trials]
    return SweepDuration(
        seconds=sum(mean for mean, *_ in each),
        low_s=sum(low for _, low, *_ in each),
        high_s=sum(high for _, _, high, _ in each),
        windows_s=windows_s,
        past_trials=len(frozenset[int]().union(*(places for *_, places in expected.values()))),
    )


def _alike(past: Sequence[PastTrial]) -> list[dict[Hashable, list[int]]]:
    """By level of likeness and by what is alike, the places of the newest past trials."""
    alike: list[dict[Hashable, list[int]]] = [{} for _ in _LIKENESS]
    for place, trial in enumerate(past):
        for level, likeness in enumerate(_LIKENESS):
            places = alike[level].setdefault((trial.case.site, likeness(trial.case, trial.round)), [])
            if len(places) < MAX_ALIKE:
                places.append(place)
    return alike


def _expect(
    case: Case, number: int, past: Sequence[PastTrial], alike: Sequence[Mapping[Hashable, Sequence[int]]]
) -> tuple[float, float, float, frozenset[int]] | None:
    """Mean, least and most of the time of a trial, and the places of the past trials that say so."""
    for level, likeness in enumerate(_LIKENESS):
        places = alike[level].get((case.site, likeness(case, number)))
        if places:
            timed_s = _timed_s(case, number)
            times = [
                max(timed_s, past[place].wall_s + timed_s - _timed_s(past[place].case, past[place].round))
                for place in places
            ]
            mean, spread = fmean(times), LEAST_SPREAD if level < _OTHER_CASES else OTHER_SPREAD
            return mean, min(*times, mean * (1 - spread)), max(*times, mean * (1 + spread)), frozenset(places)
    return None


def _timed_s(case: Case, number: int) -> float:
    """The windows of a trial, in seconds: in the first round measuring its own cost takes another."""
    return 0.0 if case.steps else case.target_window_s * (1 + (case.own_cost and number == 0))


def _same_case(case: Case) -> tuple[Hashable, ...]:
    return case.key, case.steps, case.decompose


_LIKENESS: tuple[Callable[[Case, int], Hashable], ...] = (
    lambda case, number: (_same_case(case), number == 0),
    lambda case, number: _same_case(case),
    lambda case, number: (case.backend, case.device, case.ranks, case.workload),
    lambda case, number: (case.backend, case.device, case.ranks),
    lambda case, number: (case.backend, case.device),
    lambda case, number: None,
)
"""What trials that are alike have in common, by their case and round, the most alike first."""
_OTHER_CASES = 2
"""From this place in :data:`_LIKENESS` on, trials are of other cases."""


def _unit(time_s: float) -> tuple[float, str]:
    for seconds, unit in ((3600, "h"), (60, "min")):
        if time_s >= 1.5 * seconds:
            return time_s / seconds, unit
    return time_s, "s"


def predict_by_store(plan: Plan, store_url: str) -> SweepDuration:
    """The duration of a plan's trials, by a store that is not made where it is absent (:func:`predict_duration`)."""
    if "://" not in store_url and not from_home(store_url).is_file():
        return predict_duration(plan, ())  # a dry run on a fresh machine loads no database
    try:
        from harness.planning.environment import machine_name
        from harness.store.opening import open_store
        from harness.store.past_trials import read_past_trials

        store = open_store(store_url, create=False)
        try:
            return predict_duration(plan, read_past_trials(store, machine_name()))
        finally:
            store.close()
    except (StoreError, OSError) as problem:
        return predict_duration(plan, (), one_line(str(problem), MAX_REASON_LENGTH))
