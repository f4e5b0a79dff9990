"""A cell is a case over its trials: what a sweep's table, page and JSON are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from pydantic import Field

from bench.backends import FLOAT32
from bench.records import Case, Outcome, RankFailure, RankRecord, SameWork, Trial, Value
from reports.analysis.efficiency import StepSplit, Straggler, split
from reports.analysis.stats import Estimate, arithmetic, estimate, half_width, ratio

UNITS = {"samples": "samples/s", "bytes": "B/s", "elements": "elements/s"}
FEW_TRIALS = 3


class MessageCell(Value):
    """The allreduce of one message size: its time is the slowest rank's."""

    message_bytes: int
    time_s: Estimate
    algorithm_bandwidth: Estimate
    bus_bandwidth: Estimate


class ReadingCell(Value):
    """A further reading over the trials; no estimate where it is unknown, with the reason."""

    name: str
    estimate: Estimate | None
    reason: str | None = None


class Decomposition(Value):
    """Where the time of a step goes: each over the trials, in seconds or as a share."""

    parts_s: dict[str, Estimate]
    """``data``, ``forward``, ``backward``, ``optimizer``, ``waiting``, ``exposed``: they add up to ``step_s``."""
    step_s: Estimate
    load_balance: Estimate
    communication_efficiency: Estimate
    parallel_efficiency: Estimate
    computation_scaling: Estimate | None = None
    """Own time of all ranks at the baseline ÷ here, for the same samples; 1 at the baseline."""
    global_efficiency: float | None = None
    """Parallel efficiency × computation scaling."""
    unexplained: float | None = None
    """Global efficiency ÷ the baseline's ÷ the measured efficiency − 1: what the decomposition does not account for."""
    stragglers: tuple[Straggler, ...] = ()
    """Of the trials that had one."""


class Cell(Value):
    """A case over its trials. What is not known is ``None``, with :attr:`reason` or :attr:`scaling_reason`."""

    case: Case
    outcome: Outcome
    reason: str | None = None
    flags: tuple[str, ...] = ()
    trials: int = 0
    throughput: Estimate | None = None
    step_s: Estimate | None = None
    speedup: Estimate | None = None
    efficiency: Estimate | None = None
    scaling_reason: str | None = None
    same_work: SameWork | None = None
    device: str | None = None
    settings: dict[str, str] = Field(default={})
    readings: tuple[ReadingCell, ...] = ()
    messages: tuple[MessageCell, ...] = ()
    machinery: str | None = None
    decomposition: Decomposition | None = None
    failures: tuple[RankFailure, ...] = ()
    """Of its first trial that did not end well: which rank, which exception, the last lines."""
    log_tail: tuple[str, ...] = ()


def throughput_of(ranks: Sequence[RankRecord]) -> float:
    """Of all ranks, per second of the measured window; the window lasts as long as on its slowest rank."""
    window_s = max(sum(record.step_s) for record in ranks)
    return ranks[0].amount_per_step * len(ranks[0].step_s) / window_s


def slowest_steps(ranks: Sequence[RankRecord]) -> list[float]:
    """The duration of each step on its slowest rank, in seconds."""
    return [max(times) for times in zip(*(record.step_s for record in ranks), strict=True)]


def make_cells(
    cases: Sequence[Case],
    skipped: Mapping[str, str],
    trials: Sequence[Trial],
    machinery: Mapping[str, str],
    precision: float | None = None,
) -> tuple[Cell, ...]:
    """One cell a case, in the order of ``cases``; those without a trial are skipped or failed with a reason.

    ``skipped``: reason by case key. ``machinery``: by case key, how a backend's machinery differs from the rest's.
    ``precision``: the half width that was asked for; wider cells are flagged.
    """
    by_key: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_key[trial.case.key].append(trial)
    rates = {
        key: [throughput_of(trial.ranks) for trial in found if trial.outcome == "ok"] for key, found in by_key.items()
    }
    baselines = _baselines(cases, by_key, rates)
    cells = (_cell(case, by_key, skipped.get(case.key), rates, baselines, machinery.get(case.key)) for case in cases)
    return tuple(_mark_imprecise(cell, precision) for cell in cells)


def _mark_imprecise(cell: Cell, precision: float | None) -> Cell:
    width = half_width(cell.throughput)
    if precision is None or cell.throughput is None or (width is not None and width <= precision):
        return cell
    return cell.model_copy(update={"flags": (*cell.flags, "imprecise")})


def _baselines(
    cases: Sequence[Case], trials: Mapping[str, Sequence[Trial]], rates: Mapping[str, Sequence[float]]
) -> dict[str, Case]:
    """By curve, the case with the fewest ranks whose number may be shown and isn't oversubscribed."""
    found: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.ranks):
        shown = rates.get(case.key) and _worst(trials.get(case.key, ())) != "invalid"
        if shown and "oversubscribed" not in case.flags:
            found.setdefault(case.curve, case)
    return found


def _worst(trials: Sequence[Trial]) -> Outcome:
    order: tuple[Outcome, ...] = ("invalid", "failed", "timeout", "ok")
    return next((outcome for outcome in order if any(trial.outcome == outcome for trial in trials)), "failed")


def _cell(
    case: Case,
    by_key: Mapping[str, Sequence[Trial]],
    skipped: str | None,
    rates: Mapping[str, Sequence[float]],
    baselines: Mapping[str, Case],
    machinery: str | None,
) -> Cell:
    trials = by_key.get(case.key, ())
    if skipped is not None:
        return Cell(case=case, outcome="skipped", reason=skipped, flags=case.flags, machinery=machinery)
    if not trials:
        return Cell(case=case, outcome="skipped", reason="the sweep ended before its first trial", flags=case.flags)
    outcome = _worst(trials)
    good = [trial for trial in trials if trial.outcome == "ok"]
    reason = None
    bad = [trial for trial in trials if trial.outcome == outcome != "ok"]
    if bad:
        reason = f"{len(bad)} of {len(trials)} trials: {bad[0].reason}"
    proof = _hardest([trial.same_work for trial in trials if trial.same_work is not None])
    whole = Cell(
        case=case, outcome=outcome, reason=reason, trials=len(good), same_work=proof, machinery=machinery,
        flags=_flags(case, good, baselines, proof, machinery),
        failures=bad[0].failures if bad else (), log_tail=bad[0].log_tail if bad else (),
    )  # fmt: skip
    if not good or outcome == "invalid":
        return whole
    first = good[0].ranks[0]
    speedup, efficiency, why = _scaling(case, good, rates, baselines)
    base = baselines.get(case.curve)
    base_trials = [trial for trial in by_key[base.key] if trial.outcome == "ok"] if base else []
    return whole.model_copy(
        update={
            "throughput": estimate(rates[case.key], UNITS[first.unit]),
            "step_s": estimate([median(slowest_steps(trial.ranks)) for trial in good], "s"),
            "speedup": speedup,
            "efficiency": efficiency,
            "scaling_reason": why,
            "device": first.device,
            "settings": first.settings,
            "readings": _readings(good),
            "messages": _messages(good),
            "decomposition": _decomposition(good, base_trials, efficiency),
        }
    )


def _hardest(proofs: Sequence[SameWork]) -> SameWork | None:
    """The verdict that counts for the cell: a failed one, else the one with the largest deviation."""
    failed = [proof for proof in proofs if proof.verdict == "different"]
    return max(failed or proofs, key=lambda proof: proof.deviation or 0.0, default=None)


def _flags(
    case: Case, good: Sequence[Trial], baselines: Mapping[str, Case], proof: SameWork | None, machinery: str | None
) -> tuple[str, ...]:
    base = baselines.get(case.curve)
    extra = {
        "stand_in_data": case.data is not None and case.data.stands_for is not None,
        "other_machinery": machinery is not None,
        "no_baseline": base is not None and base.ranks > 1 and not _is_collective(good),
        "few_trials": len(good) < FEW_TRIALS,
        "loose_tolerance": proof is not None and (proof.tolerance or 0) > FLOAT32.value,
        "unproven": proof is not None and proof.verdict == "unproven",
    }
    return (*case.flags, *(name for name, holds in extra.items() if holds))


def _is_collective(good: Sequence[Trial]) -> bool:
    return bool(good) and good[0].ranks[0].kind == "collective"


def _scaling(
    case: Case, good: Sequence[Trial], rates: Mapping[str, Sequence[float]], baselines: Mapping[str, Case]
) -> tuple[Estimate | None, Estimate | None, str | None]:
    """S = X(N) ÷ X(base) × base ranks and E = S ÷ N; the base is 1 rank where it was measured."""
    if _is_collective(good):
        return None, None, "a collective alone has no speed-up"
    if "oversubscribed" in case.flags:
        return None, None, "oversubscribed: feeds no scaling claim"
    base = baselines.get(case.curve)
    if base is None:
        return None, None, "no rank count of this curve gave a baseline"
    if base.key == case.key:
        exact = Estimate(value=float(base.ranks), low=None, high=None, n=len(rates[case.key]), unit="×")
        return exact, exact.model_copy(update={"value": 1.0, "unit": "1"}), None
    speedup = ratio(rates[case.key], rates[base.key], factor=base.ranks)
    efficiency = ratio(rates[case.key], rates[base.key], factor=base.ranks / case.ranks, unit="1")
    return speedup, efficiency, None


def _readings(good: Sequence[Trial]) -> tuple[ReadingCell, ...]:
    names = {reading.name: reading for trial in good for record in trial.ranks for reading in record.readings}
    cells = []
    for name, sample in names.items():
        known = [
            reading.value
            for trial in good
            for reading in trial.ranks[0].readings
            if reading.name == name and reading.value is not None
        ]
        found = arithmetic(known, sample.unit) if known else None
        cells.append(ReadingCell(name=name, estimate=found, reason=None if found else sample.reason))
    return tuple(cells)


def _decomposition(good: Sequence[Trial], base: Sequence[Trial], measured: Estimate | None) -> Decomposition | None:
    splits = _splits(good)
    if not splits:
        return None
    names = ("data", "forward", "backward", "optimizer", "waiting", "exposed")
    found = Decomposition(
        parts_s={name: arithmetic([getattr(one, f"{name}_s") for one in splits], "s") for name in names},
        step_s=arithmetic([one.step_s for one in splits], "s"),
        load_balance=arithmetic([one.load_balance for one in splits], "1"),
        communication_efficiency=arithmetic([one.communication_efficiency for one in splits], "1"),
        parallel_efficiency=arithmetic([one.parallel_efficiency for one in splits], "1"),
        stragglers=tuple(one.straggler for one in splits if one.straggler is not None),
    )
    base_splits = _splits(base)
    if not base_splits or measured is None:
        return found
    more = good[0].ranks[0].amount_per_step / base[0].ranks[0].amount_per_step
    scaling = ratio([sum(one.own_s) for one in base_splits], [sum(one.own_s) for one in splits], more, "1")
    whole = found.parallel_efficiency.value * scaling.value
    at_base = fmean(one.parallel_efficiency for one in base_splits)
    unexplained = whole / at_base / measured.value - 1
    return found.model_copy(
        update={"computation_scaling": scaling, "global_efficiency": whole, "unexplained": unexplained}
    )


def _splits(trials: Sequence[Trial]) -> list[StepSplit]:
    return [found for trial in trials if (found := split(trial.ranks)) is not None]


def _messages(good: Sequence[Trial]) -> tuple[MessageCell, ...]:
    cells = []
    world = len(good[0].ranks)
    for position, first in enumerate(good[0].ranks[0].messages):
        times = [
            median(
                [max(once) for once in zip(*(record.messages[position].times_s for record in trial.ranks), strict=True)]
            )
            for trial in good
        ]
        bandwidths = [first.message_bytes / time_s for time_s in times]
        cells.append(
            MessageCell(
                message_bytes=first.message_bytes,
                time_s=estimate(times, "s"),
                algorithm_bandwidth=estimate(bandwidths, "B/s"),
                bus_bandwidth=estimate([value * 2 * (world - 1) / world for value in bandwidths], "B/s"),
            )
        )
    return tuple(cells)
