"""A cell is a case over its trials: what a sweep's table, page and JSON are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts
from bench.core.records import Condition, Gradients, Link, Outcome, RankFailure, SameWork, Trial
from bench.plugins.backend import FLOAT32_TOLERANCE
from reports.analysis.cell_details import (
    Decomposition,
    MessageCell,
    ReadingCell,
    cost_of,
    cost_per_unit,
    decomposition,
    messages,
    readings,
)
from reports.analysis.placement import curve_family, exceeds_cores, hosts_of
from reports.analysis.roofline import Roofline, roofline_of
from reports.analysis.stats import Estimate, estimate, half_width
from reports.analysis.telemetry import TelemetryWindow, usage_of
from reports.analysis.throughput import StepTimes, slowest_steps, speedup_and_efficiency, step_times_of, throughput_of
from reports.analysis.timeline import Timeline, timelines_of

UNITS = {"samples": "samples/s", "bytes": "B/s", "elements": "elements/s"}
MIN_TRIALS = 3
FULL_RATE_SHARE = 0.9
"""Of the rate wanted: links that carry less are flagged. A full one carries 0.956 in payload."""


class Coverage(FrozenModel):
    """How well a cell's windows were sampled: on the node and in the trial where it was least."""

    samples: int
    share: float
    """Of the window, between its first and last sample."""


class Cell(FrozenModel):
    """A case over its trials. What is not known is ``None``, with :attr:`reason` or :attr:`scaling_reason`."""

    case: Case
    outcome: Outcome
    reason: str | None = None
    flags: tuple[str, ...] = ()
    trials: int = 0
    throughput: Estimate | None = None
    rates: tuple[float, ...] = ()
    """The throughput of each trial that counts."""
    step_s: Estimate | None = None
    speedup: Estimate | None = None
    efficiency: Estimate | None = None
    scaling_reason: str | None = None
    same_work: SameWork | None = None
    device: str | None = None
    link: Link | None = None
    """What joined the ranks, where they ran in namespaces: the slowest of what its trials had."""
    settings: dict[str, str] = Field(default={})
    readings: tuple[ReadingCell, ...] = ()
    usage: tuple[ReadingCell, ...] = ()
    """Of ranks, hosts and GPUs during the window, over the trials."""
    coverage: Coverage | None = None
    conditions: tuple[Condition, ...] = ()
    """What may have spoilt its trials' numbers."""
    contaminated: int = 0
    """Trials whose numbers were left out for that."""
    messages: tuple[MessageCell, ...] = ()
    gradients: Gradients | None = None
    """What a rank exchanges in a step, where that is known."""
    step_times: tuple[StepTimes, ...] = ()
    """By rank, over the steps of all trials that count."""
    timelines: tuple[Timeline, ...] = ()
    """Of one trial's devices."""
    machinery: str | None = None
    decomposition: Decomposition | None = None
    roofline: Roofline | None = None
    roofline_reason: str | None = "the cell has no number"
    failures: tuple[RankFailure, ...] = ()
    """Of its first trial that did not end well: which rank, which exception, the last lines."""
    log_tail: tuple[str, ...] = ()
    hosts: tuple[NodeFacts, ...] = ()
    """Where its trials ran, beyond the harness's own machine."""
    cost: Estimate | None = None
    """Of a trial, in the unit of the price that was given; ``None`` where none was billed, or nobody knows."""
    cost_per_unit: tuple[float, float] | None = None
    """At least and at most; see :mod:`reports.analysis.cell_details`."""
    cost_reason: str | None = None
    """Why a cost is unknown, where the site bills its trials."""

    @property
    def feeds_a_curve(self) -> bool:
        """Not what is oversubscribed, has a fault or is a collective alone."""
        return bool(self.rates) and self.speedup is not None and self.case.fault is None


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
    cases = [_with_oversubscription(case, by_key.get(case.key, ())) for case in cases]
    baselines = _baselines(cases, by_key, rates)
    cells = (_cell(case, by_key, skipped.get(case.key), rates, baselines, machinery.get(case.key)) for case in cases)
    return tuple(_mark_imprecise(cell, precision) for cell in cells)


def _with_oversubscription(case: Case, trials: Sequence[Trial]) -> Case:
    """The case, marked where its nodes had fewer cores than the plan could know."""
    if "oversubscribed" in case.flags or not exceeds_cores(case, trials):
        return case
    return case.model_copy(update={"flags": (*case.flags, "oversubscribed")})


def _mark_imprecise(cell: Cell, precision: float | None) -> Cell:
    width = half_width(cell.throughput)
    if precision is None or cell.throughput is None or (width is not None and width <= precision):
        return cell
    return cell.model_copy(update={"flags": (*cell.flags, "imprecise")})


def _baselines(
    cases: Sequence[Case], trials: Mapping[str, Sequence[Trial]], rates: Mapping[str, Sequence[float]]
) -> dict[str, Case]:
    """By curve, the case with the fewest ranks whose number may be shown and isn't oversubscribed.

    One rank is on one node, whatever others that node had room for: it serves all curves of the same work.
    """
    found: dict[str, Case] = {}
    single_rank_cases: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.ranks):
        shown = rates.get(case.key) and _outcome(trials.get(case.key, ())) != "invalid"
        if shown and "oversubscribed" not in case.flags and case.fault is None:
            found.setdefault(case.curve, case)
            if case.ranks == 1:
                single_rank_cases.setdefault(curve_family(case), case)
    placed = {
        case.curve: single_rank_cases[curve_family(case)]
        for case in cases
        if case.ranks_per_node and curve_family(case) in single_rank_cases
    }
    return {**found, **{curve: base for curve, base in placed.items() if curve in found and found[curve].ranks > 1}}


def _outcome(trials: Sequence[Trial]) -> Outcome:
    """Of the cell: a trial that did other work spoils it, one that was contaminated is left out."""
    if any(trial.same_work is not None and trial.same_work.verdict == "different" for trial in trials):
        return "invalid"
    order: tuple[Outcome, ...] = ("failed", "timeout", "ok", "invalid")
    return next((outcome for outcome in order if any(trial.outcome == outcome for trial in trials)), "failed")


def _coverage(good: Sequence[Trial]) -> Coverage | None:
    found = [TelemetryWindow(node).coverage() for trial in good for node in trial.telemetry]
    if not found:
        return None
    return Coverage(samples=min(samples for samples, _ in found), share=min(share for _, share in found))


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
    outcome = _outcome(trials)
    good = [trial for trial in trials if trial.outcome == "ok"]
    reason = None
    bad = [trial for trial in trials if trial.outcome == outcome != "ok"]
    if bad:
        reason = f"{len(bad)} of {len(trials)} trials: {bad[0].reason}"
    conditions = tuple(condition for trial in trials for condition in trial.conditions)
    contaminated = sum(any(condition.serious for condition in trial.conditions) for trial in trials)
    link = _slowest_link([trial.link for trial in trials if trial.link is not None])
    proof = _decisive_proof([trial.same_work for trial in trials if trial.same_work is not None])
    cell = Cell(
        case=case,
        outcome=outcome,
        reason=reason,
        trials=len(good),
        same_work=proof,
        machinery=machinery,
        flags=(
            *_flags(case, good, baselines, proof, machinery, link),
            *dict.fromkeys(condition.name for condition in conditions),
        ),
        conditions=conditions,
        contaminated=contaminated,
        link=link,
        hosts=hosts_of(trials),
        cost=cost_of(trials),
        cost_reason=next((trial.cost_reason for trial in trials if trial.cost_reason), None),
        failures=bad[0].failures if bad else (),
        log_tail=bad[0].log_tail if bad else (),
    )
    if not good or outcome == "invalid":
        return cell
    base = baselines.get(case.curve)
    base_trials = [trial for trial in by_key[base.key] if trial.outcome == "ok"] if base else []
    return _with_numbers(cell, good, base_trials, rates[case.key], _scaling(case, good, rates, baselines))


def _with_numbers(
    cell: Cell,
    good: Sequence[Trial],
    base: Sequence[Trial],
    rates: Sequence[float],
    scaling: tuple[Estimate | None, Estimate | None, str | None],
) -> Cell:
    """The cell with what its good trials measured; ``base``: those that speed-up starts from."""
    first = good[0].ranks[0]
    speedup, efficiency, scaling_reason = scaling
    roofline, no_roofline = roofline_of(good)
    return cell.model_copy(
        update={
            "throughput": estimate(rates, UNITS[first.unit]),
            "rates": tuple(rates),
            "step_s": estimate([median(slowest_steps(trial.ranks)) for trial in good], "s"),
            "speedup": speedup,
            "efficiency": efficiency,
            "scaling_reason": scaling_reason,
            "device": first.device,
            "settings": first.settings,
            "readings": readings(good, lambda trial: trial.ranks[0].readings),
            "usage": readings(good, lambda trial: usage_of(trial.ranks, trial.telemetry)),
            "coverage": _coverage(good),
            "messages": messages(good),
            "gradients": first.gradients,
            "step_times": step_times_of([trial.ranks for trial in good]),
            "timelines": timelines_of(good),
            "decomposition": decomposition(good, base, efficiency),
            "cost_per_unit": cost_per_unit(good),
            "roofline": roofline,
            "roofline_reason": no_roofline,
        }
    )


def _decisive_proof(proofs: Sequence[SameWork]) -> SameWork | None:
    """The verdict that counts for the cell: a failed one, else the one with the largest deviation."""
    failed = [proof for proof in proofs if proof.verdict == "different"]
    return max(failed or proofs, key=lambda proof: proof.deviation or 0.0, default=None)


def _slowest_link(links: Sequence[Link]) -> Link | None:
    return min(links, key=lambda link: link.achieved_bytes_s, default=None)


def _flags(
    case: Case,
    good: Sequence[Trial],
    baselines: Mapping[str, Case],
    proof: SameWork | None,
    machinery: str | None,
    link: Link | None,
) -> tuple[str, ...]:
    base = baselines.get(case.curve)
    extra = {
        "stand_in_data": case.data is not None and case.data.stands_for is not None,
        "other_machinery": machinery is not None,
        "no_baseline": base is not None and base.ranks > 1 and not _is_collective(good),
        "few_trials": len(good) < MIN_TRIALS,
        "loose_tolerance": proof is not None and (proof.tolerance or 0) > FLOAT32_TOLERANCE.value,
        "unproven": proof is not None and proof.verdict == "unproven",
        "slow_links": link is not None and link.achieved_bytes_s < FULL_RATE_SHARE * (link.wanted_bytes_s or 0),
        "never_settled": any(record.settled is False for trial in good for record in trial.ranks),
    }
    return (*case.flags, *(name for name, holds in extra.items() if holds))


def _is_collective(good: Sequence[Trial]) -> bool:
    return bool(good) and good[0].ranks[0].kind == "collective"


def _scaling(
    case: Case, good: Sequence[Trial], rates: Mapping[str, Sequence[float]], baselines: Mapping[str, Case]
) -> tuple[Estimate | None, Estimate | None, str | None]:
    """Speed-up, efficiency, or why there are none; the base is 1 rank where it was measured."""
    if _is_collective(good):
        return None, None, "a collective alone has no speed-up"
    if "oversubscribed" in case.flags:
        return None, None, "oversubscribed: feeds no scaling claim"
    base = baselines.get(case.curve)
    if base is None:
        return None, None, "no rank count of this curve gave a baseline"
    speedup, efficiency = speedup_and_efficiency(rates[case.key], case.ranks, rates[base.key], base.ranks)
    return speedup, efficiency, None
