"""The answers of a sweep, one for each workload: which backend, how far it scales, why it stops, how sure that is.

The page, the terminal, the summaries and the JSON are drawn from these values: none of them decides anything of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis import formatting
from reports.analysis.bottleneck import (
    COMPUTE,
    DATA,
    MIN_SHARE,
    TERM_TITLES,
    Bottleneck,
    efficiency_losses,
    shares_of_step,
)
from reports.analysis.cells import Cell
from reports.analysis.decided_cells import tied_by_decisions, trust_by_decisions
from reports.analysis.decisions import Decisions
from reports.analysis.findings import CellGroup, Findings, group_cells
from reports.analysis.flags import NO_SCALING_CLAIM, claim_problem
from reports.analysis.group_titles import options_text, short_titles
from reports.analysis.predictions import CurvePrediction
from reports.analysis.scaling_reach import (
    EFFICIENCY_BAR,
    RanksReached,
    efficient_to,
    throughput_peak,
    unknown_reach,
)
from reports.analysis.stats import Estimate, ratio
from reports.analysis.trust import Trust

__all__ = ["EFFICIENCY_BAR", "Cause", "EfficiencyRow", "EfficiencyValue", "WorkloadAnswer", "workload_answers"]
COLLECTIVE = "a collective alone has no speed-up"
HOST_LAUNCHES = "waiting for launches by the host"
ONE_RANK_COUNT = "one rank count was measured"
PROGRAM_DATA = "the program's own"
NOT_ASKED = "others peak at another rank count, and only equal ones were compared"
"""Of a sweep that stopped when its questions were decided."""


class Cause(FrozenModel):
    """The largest loss of a step, which is why a curve stops scaling."""

    name: str
    """``exposed communication``"""
    share: float
    """Of the step, or of the time that a fitted law gives; 0.46 for 46 %."""
    of: str
    """``a step of ddp/gloo at 8 ranks``"""
    ranks: int
    """Where it is so large."""
    backend: str

    @property
    def sentence(self) -> str:
        """``exposed communication takes 46 % of a step of ddp/gloo at 8 ranks``"""
        return f"{self.name} takes {formatting.share(self.share)} of {self.of}"


class EfficiencyValue(FrozenModel):
    """One cell of the efficiency table. Without an efficiency :attr:`reason` says why."""

    ranks: int
    efficiency: Estimate | None = None
    throughput: Estimate | None = None
    is_baseline: bool = False
    """Efficiency starts from it, and is 1 by definition."""
    reason: str | None = None


class EfficiencyRow(FrozenModel):
    """The parallel efficiency of one curve over the rank counts."""

    backend: str
    values: tuple[EfficiencyValue, ...]
    """The fewest ranks first; rank counts that were not planned are left out."""

    def at(self, ranks: int) -> EfficiencyValue | None:
        """The value at a rank count; ``None``: none was planned."""
        return next((value for value in self.values if value.ranks == ranks), None)


class WorkloadAnswer(FrozenModel):
    """What the cells of one workload say together."""

    workload: str
    """Its name, with what tells it apart from others of that name (:mod:`reports.analysis.group_titles`)."""
    options: str
    """``compute_ms=80, model=emulated``: its options that differ from their defaults; empty for none."""
    conditions: str
    """``strong scaling · global batch 128 · 1 thread per rank · cpu``"""
    data: str
    """What its samples are: ``digits, a stand-in for MNIST``, ``generated``."""
    fastest: tuple[str, ...]
    """The backend with the highest throughput, at whatever rank count; several where they are statistically tied with
    it, the highest first. Empty where no cell has a number."""
    fastest_ranks: tuple[int, ...]
    """The rank count of each of them."""
    fastest_throughput: Estimate | None
    """Of the first of them."""
    fastest_reason: str | None = None
    """Why there is none, or why a comparison is uncertain."""
    scaled: str | None
    """The backend whose curve :attr:`efficient_to`, :attr:`peak` and :attr:`cause` speak of."""
    efficient_to: RanksReached
    """The last rank count before its efficiency falls below :data:`EFFICIENCY_BAR`."""
    peak: RanksReached
    """The rank count of its highest throughput."""
    cause: Cause | None
    cause_reason: str | None
    """Why there is no cause: it is unknown, or nothing is lost."""
    data_share: float | None = None
    """The share of that step in which ranks wait for data, where it is the largest share that is no computing. It
    limits all rank counts alike: it is no loss of efficiency, and no cause."""
    trust: Trust
    efficiency: tuple[EfficiencyRow, ...]
    """One row for each curve, in the order of the cells."""

    @property
    def rank_counts(self) -> tuple[int, ...]:
        """The columns of :attr:`efficiency`."""
        return tuple(sorted({value.ranks for row in self.efficiency for value in row.values}))


def workload_answers(findings: Findings) -> tuple[WorkloadAnswer, ...]:
    """One answer for each group of cells, in the order of :func:`reports.analysis.findings.group_cells`."""
    bottlenecks = {found.curve: found for found in findings.bottlenecks}
    predictions = {found.curve: found for found in findings.curve_predictions}
    groups = group_cells(findings.cells)
    return tuple(
        _answer(title, group, findings, bottlenecks, predictions)
        for title, group in zip(short_titles(groups), groups, strict=True)
    )


def _answer(
    title: str,
    group: CellGroup,
    findings: Findings,
    bottlenecks: Mapping[str, Bottleneck],
    predictions: Mapping[str, CurvePrediction],
) -> WorkloadAnswer:
    fastest, fastest_reason = _fastest(group, findings.decisions)
    key = _scaled_curve(group, findings)
    curve_cells = findings.curve_cells[key] if key is not None else ()
    own = {cell.case.key: cell for cell in group.cells}
    # Its labels name the values of the group's axes.
    shown = [own[cell.case.key] for cell in curve_cells if cell.case.key in own]
    cause: Cause | None = None
    cause_reason: str | None
    data_share: float | None = None
    if key is None:
        cause_reason = COLLECTIVE if any(cell.messages for cell in group.cells) else _no_curve(group)
        reached = peak = unknown_reach(cause_reason)
    else:
        reached = efficient_to(curve_cells, predictions.get(key))
        peak = throughput_peak(curve_cells, findings.curves.get(key), predictions.get(key))
        explained = _explained_cell(shown, reached)
        cause, cause_reason = _cause(shown, explained, bottlenecks.get(key))
        data_share = _data_share(explained)
    if cause is None and fastest and fastest[0].launch_bound is not None:
        share = fastest[0].launch_bound.host_bound_share.value
        cause, cause_reason = _step_cause(HOST_LAUNCHES, share, fastest[0]), None
    return WorkloadAnswer(
        workload=title,
        options=options_text(group),
        conditions=group.conditions,
        data=_data(group.cells[0].case),
        fastest=tuple(cell.labels.backend for cell in fastest),
        fastest_ranks=tuple(cell.case.ranks for cell in fastest),
        fastest_throughput=fastest[0].throughput if fastest else None,
        fastest_reason=fastest_reason,
        scaled=shown[0].labels.backend if shown else None,
        efficient_to=reached,
        peak=peak,
        cause=cause,
        cause_reason=cause_reason,
        data_share=data_share,
        trust=trust_by_decisions(
            tuple({cell.case.key: cell for cell in (*fastest, *shown)}.values()), findings.decisions
        ),
        efficiency=efficiency_rows(group.cells),
    )


def _data(case: Case) -> str:
    if case.data is not None:
        name = case.data.name.split(",")[0]
        return f"{name}, a stand-in for {case.data.stands_for}" if case.data.stands_for else name
    if case.program is not None:
        return PROGRAM_DATA
    return "generated, and compute is emulated" if "emulated_compute" in case.flags else "generated"


def _fastest(group: CellGroup, decisions: Decisions | None) -> tuple[list[Cell], str | None]:
    """The best cell of the fastest backend, and those of others that are statistically tied with it."""
    cells = candidates(group.cells)
    if not cells:
        return [], "no cell has a number"
    if any(cell.messages for cell in cells):
        # More ranks have more links: only equal rank counts can be compared.
        most = max(cell.case.ranks for cell in cells)
        cells = [cell for cell in cells if cell.case.ranks == most]
    by_curve: dict[str, Cell] = {}
    for cell in cells:
        if cell.case.curve not in by_curve or _rate(cell) > _rate(by_curve[cell.case.curve]):
            by_curve[cell.case.curve] = cell
    best, *others = sorted(by_curve.values(), key=_rate, reverse=True)
    if others and (decided := tied_by_decisions(best, others, decisions)) is not None:
        return [best, *decided], None
    gains = [(cell, ratio(best.rates, cell.rates)) for cell in others]
    tied = [cell for cell, gain in gains if gain.low is not None and gain.low <= 1]
    uncertain = not tied and any(gain.low is None for _, gain in gains)
    whose = "one trial has" if len(best.rates) == 1 else "others have one trial,"
    reason = f"{whose} no interval to compare" if decisions is None else NOT_ASKED
    return [best, *tied], reason if uncertain else None


def candidates(cells: Sequence[Cell]) -> list[Cell]:
    """The cells with a number that may be the fastest: those that feed scaling claims, else all."""
    measured = [cell for cell in cells if cell.rates and cell.throughput is not None]
    fair = [cell for cell in measured if claim_problem(cell.flags) is None and cell.case.fault is None]
    return fair or measured


def _rate(cell: Cell) -> float:
    return cell.throughput.value if cell.throughput else 0.0


def _scaled_curve(group: CellGroup, findings: Findings) -> str | None:
    """The curve of several rank counts with the highest throughput."""
    keys = [key for key in dict.fromkeys(cell.case.curve for cell in group.cells) if key in findings.curves]
    return max(keys, key=lambda key: max(map(_rate, findings.curve_cells[key])), default=None)


def _no_curve(group: CellGroup) -> str:
    """Why a group has no curve."""
    if len({cell.case.ranks for cell in group.cells}) == 1:
        return ONE_RANK_COUNT
    unfair = [flag for cell in group.cells if cell.rates and (flag := claim_problem(cell.flags)) is not None]
    if unfair:
        return f"ranks {NO_SCALING_CLAIM[unfair[0]]} at all rank counts but one"
    return "no backend has a number at two rank counts"


def _explained_cell(cells: Sequence[Cell], reached: RanksReached) -> Cell | None:
    """The decomposed cell where efficiency first falls below the bar, else at the most ranks; ``None``: none."""
    several = [cell for cell in cells if cell.case.ranks > 1]
    decomposed = [cell for cell in several if cell.decomposition is not None and efficiency_losses(cell.decomposition)]
    beyond = [cell for cell in decomposed if cell.case.ranks == reached.next_ranks]
    return next(iter((*beyond, *decomposed[-1:])), None)


def _cause(
    cells: Sequence[Cell], explained: Cell | None, bottleneck: Bottleneck | None
) -> tuple[Cause | None, str | None]:
    """The largest loss of the explained cell, or by the fitted law; or why there is none."""
    if explained is not None:
        return _largest_loss(explained)
    if bottleneck is not None and bottleneck.contention is not None:
        return _law_cause(bottleneck, cells)
    reasons = [cell.decomposition_reason for cell in cells if cell.case.ranks > 1 and cell.decomposition_reason]
    return None, f"not measured: {reasons[-1]}" if reasons else "not measured: no step was decomposed"


def _data_share(cell: Cell | None) -> float | None:
    shares = shares_of_step(cell.decomposition) if cell is not None and cell.decomposition is not None else {}
    share = shares.get(DATA, 0.0)
    others = [value for term, value in shares.items() if term not in (DATA, COMPUTE)]
    return share if share >= MIN_SHARE and share >= max(others, default=0.0) else None


def _largest_loss(cell: Cell) -> tuple[Cause | None, str | None]:
    assert cell.decomposition is not None
    losses = efficiency_losses(cell.decomposition)
    term = max(losses, key=lambda name: losses[name])
    share = losses[term]
    if share < MIN_SHARE:
        return None, f"no loss takes {formatting.share(MIN_SHARE)} of a step at {cell.labels.ranks}"
    return _step_cause(TERM_TITLES[term], share, cell), None


def _step_cause(name: str, share: float, cell: Cell) -> Cause:
    of = f"a step of {cell.labels.backend_at_ranks}"
    return Cause(name=name, share=share, of=of, ranks=cell.case.ranks, backend=cell.labels.backend)


def _law_cause(bottleneck: Bottleneck, cells: Sequence[Cell]) -> tuple[Cause | None, str | None]:
    shares = {"contention": bottleneck.contention or 0.0, "coherency": bottleneck.coherency or 0.0}
    name = max(shares, key=lambda part: shares[part])
    backend, ranks = cells[-1].labels.backend, bottleneck.case.ranks
    if shares[name] < MIN_SHARE:
        return None, f"by the fitted law no loss takes {formatting.share(MIN_SHARE)} at {formatting.ranks(ranks)}"
    of = f"the fitted time of {backend} at {formatting.ranks(ranks)}"
    return Cause(name=name, share=shares[name], of=of, ranks=ranks, backend=backend), None


def efficiency_rows(cells: Sequence[Cell]) -> tuple[EfficiencyRow, ...]:
    """One row for each curve, one value for each of its cells that has no injected fault."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.case.fault is None:
            rows.setdefault(cell.case.curve, []).append(cell)
    return tuple(
        EfficiencyRow(
            backend=curve[0].labels.backend,
            values=tuple(_value(cell) for cell in sorted(curve, key=lambda cell: cell.case.ranks)),
        )
        for curve in rows.values()
    )


def _value(cell: Cell) -> EfficiencyValue:
    efficiency = cell.efficiency
    is_baseline = efficiency is not None and efficiency.low is None and efficiency.value == 1.0
    if efficiency is not None:
        reason = None
    elif cell.outcome != "ok":
        reason = f"{cell.outcome}: {cell.reason}"
    else:
        reason = cell.scaling_reason
    return EfficiencyValue(
        ranks=cell.case.ranks,
        efficiency=efficiency,
        throughput=cell.throughput,
        is_baseline=is_baseline,
        reason=reason,
    )
