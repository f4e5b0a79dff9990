"""How the step times of the ranks are distributed: the middle, the usual range and the slowest step of each rank."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.step_times import StepTimes
from reports.cells import Cell
from reports.page import words
from reports.page.values import Figure, Series, Table

MAX_CATEGORIES = 16
LOG_SCALE_RATIO = 20
"""How many times the smallest time the largest is where an even scale would leave the medians flat on the ground."""
STEP_TIMES_NOTE = (
    "Steps of all trials together, to describe them: steps are not independent samples, so no interval is drawn from "
    "them."
)

RankSteps = tuple[Cell, StepTimes]


def step_time_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """The largest rank counts first, as many as fit; ``None`` where no step was timed."""
    sampled_cells = sorted((cell for cell in cells if cell.step_times), key=lambda cell: -cell.case.ranks)
    if not sampled_cells:
        return None
    shown = _shown_ranks(sampled_cells)
    series = _step_time_series([one for _, one in shown])
    header = ("backend, ranks · rank", "5 %", "25 %", "median", "75 %", "95 %", "slowest", "steps", "trials")
    return Figure(
        f"{key}-step-times",
        "Step times by rank",
        "backend, ranks · rank",
        "step (ms)",
        series,
        f"{_slowest_sentence(shown)}{_omitted_text(sampled_cells, shown)}",
        Table("Step times by rank", header, tuple(map(_rank_row, shown)), STEP_TIMES_NOTE),
        categories=tuple(map(_rank_title, shown)),
        log_y=max(one.slowest_s for _, one in shown) > LOG_SCALE_RATIO * min(one.median_s for _, one in shown),
        wide=True,
    )


def _step_time_series(shown: Sequence[StepTimes]) -> tuple[Series, Series]:
    places, unknown = tuple(map(float, range(len(shown)))), (None,) * len(shown)
    solid = (False,) * len(shown)
    middle, low, high, slowest = (
        tuple(1e3 * time_s for time_s in times)
        for times in zip(*((one.median_s, one.p5_s, one.p95_s, one.slowest_s) for one in shown), strict=True)
    )
    return (
        Series("median, 5th to 95th percentile", places, middle, low, high, 0, solid, look="markers"),
        Series("slowest step", places, slowest, unknown, unknown, 1, solid, look="markers"),
    )


def _shown_ranks(sampled_cells: Sequence[Cell]) -> list[RankSteps]:
    """Of the largest rank count the slowest ranks of every cell, then whole cells of smaller ones while there is room.

    ``known``: the largest rank count first.
    """
    largest_cells = [cell for cell in sampled_cells if cell.case.ranks == sampled_cells[0].case.ranks]
    each = max(1, MAX_CATEGORIES // len(largest_cells))
    shown = [(cell, one) for cell in largest_cells[:MAX_CATEGORIES] for one in _slowest_ranks(cell, each)]
    for cell in sampled_cells[len(largest_cells) :]:
        if len(shown) + len(cell.step_times) > MAX_CATEGORIES:
            break
        shown += [(cell, one) for one in cell.step_times]
    return shown


def _slowest_ranks(cell: Cell, most: int) -> list[StepTimes]:
    kept = sorted(cell.step_times, key=lambda one: -one.median_s)[:most]
    return sorted(kept, key=lambda one: one.rank)


def _omitted_text(sampled_cells: Sequence[Cell], shown: Sequence[RankSteps]) -> str:
    """What has no place, in words; empty where all have."""
    total = sum(len(cell.step_times) for cell in sampled_cells)
    if len(shown) == total:
        return ""
    most = sampled_cells[0].case.ranks
    largest_cells = [cell for cell in sampled_cells if cell.case.ranks == most]
    whole = sum(len(cell.step_times) for cell in largest_cells) <= len(shown)
    which = "the largest rank counts" if whole else f"the slowest at {words.ranks(most)}"
    return f" Shown are {len(shown)} of {total} ranks of all cells: {which}."


def _rank_title(one: RankSteps) -> str:
    cell, found = one
    injected = f" (injected {cell.case.fault.label})" if cell.case.fault else ""
    return f"{words.backend_title(cell.case)}{injected}, {cell.case.ranks} · rank {found.rank}"


def _rank_row(one: RankSteps) -> tuple[str, ...]:
    found = one[1]
    times = (found.p5_s, found.p25_s, found.median_s, found.p75_s, found.p95_s, found.slowest_s)
    return (_rank_title(one), *map(words.duration, times), str(found.steps), str(found.trials))


def _slowest_sentence(shown: Sequence[RankSteps]) -> str:
    """Who is slowest at the largest rank count, and how slow the slowest step of all was."""
    most = max(cell.case.ranks for cell, _ in shown)
    largest_cells = {id(cell): cell for cell, _ in shown if cell.case.ranks == most > 1}
    spreads = [_rank_spread(cell) for cell in largest_cells.values()]
    outlier = max(shown, key=lambda one: one[1].slowest_s / one[1].median_s)
    times = outlier[1].slowest_s / outlier[1].median_s
    slowest = (
        f"The step that stands out most took {words.duration(outlier[1].slowest_s)}, {words.number(times)} times the "
        f"median of its rank ({_rank_title(outlier)})."
    )
    return f"Slowest by median: {'; '.join(spreads)}. {slowest}" if spreads else slowest


def _rank_spread(cell: Cell) -> str:
    slow, quick = (pick(cell.step_times, key=lambda one: one.median_s) for pick in (max, min))
    more = 100 * (slow.median_s / quick.median_s - 1)
    return f"{words.backend_title(cell.case)} rank {slow.rank}, {more:.1f} % above rank {quick.rank}"
