"""Figures and tables of the step: step times by rank, its parts, the lost efficiency by cause, and bottlenecks."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import has_curve
from reports.analysis.step_times import StepTimes
from reports.page.elements import Figure, Series, Table
from reports.page.palette import neutral_style
from reports.page.series import interval_series, point_series

MAX_CATEGORIES = 16
LOG_SCALE_RATIO = 20
"""With a larger ratio of the slowest step to the smallest median, the axis is logarithmic."""
STEP_TIMES_NOTE = (
    "The steps of all trials together, as a description: steps are not independent samples, so they give no interval."
)
BLOCKS_NOTE = (
    "On GPUs they are of blocks of up to {steps} steps each, since marking the end of every step would slow them down. "
    "The mean of a block is exact; blocks vary less than single steps do."
)

RankSteps = tuple[Cell, StepTimes]


def step_time_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """The step times of each rank, the largest rank counts first, as many as fit; ``None`` where no step was timed."""
    sampled_cells = sorted((cell for cell in cells if cell.step_times), key=lambda cell: -cell.case.ranks)
    if not sampled_cells:
        return None
    shown = _shown_ranks(sampled_cells)
    series = _step_time_series([times for _, times in shown])
    longest = max(times.steps_per_entry for _, times in shown)
    note = f"{STEP_TIMES_NOTE} {BLOCKS_NOTE.format(steps=longest)}" if longest > 1 else STEP_TIMES_NOTE
    has_several = has_curve(cells) or any(cell.case.ranks > 1 for cell in cells)
    x_title = "backend, ranks · rank" if has_several else "backend"
    titles = tuple(_rank_title(entry) if has_several else _backend_title(entry[0]) for entry in shown)
    rows = tuple((title, *_rank_row(times)) for title, (_, times) in zip(titles, shown, strict=True))
    header = (x_title, "5 %", "25 %", "median", "75 %", "95 %", "slowest", "steps", "trials")
    return Figure(
        f"{key}-step-times",
        "Step times by rank" if has_several else "Step times",
        x_title,
        "step time",
        series,
        f"{_slowest_caption(shown, titles)}{_blocks_text(longest)}{_omitted_text(sampled_cells, shown)}",
        Table("Step times by rank" if has_several else "Step times", header, rows, note),
        categories=titles,
        log_y=max(times.slowest_s for _, times in shown) > LOG_SCALE_RATIO * min(times.median_s for _, times in shown),
        seconds=True,
    )


def _step_time_series(shown: Sequence[StepTimes]) -> tuple[Series, Series]:
    places = range(len(shown))
    middle, low, high, slowest = (
        tuple(times)
        for times in zip(*((times.median_s, times.p5_s, times.p95_s, times.slowest_s) for times in shown), strict=True)
    )
    return (
        interval_series(
            "median, 5th to 95th percentile",
            list(zip(places, middle, low, high, strict=True)),
            neutral_style(),
            "markers",
        ),
        point_series("slowest step", places, slowest, neutral_style(1), "markers"),
    )


def _shown_ranks(sampled_cells: Sequence[Cell]) -> list[RankSteps]:
    """The slowest ranks of every cell at the largest rank count, then whole cells of smaller ones as far as they fit.

    ``sampled_cells``: the largest rank count first.
    """
    largest_cells = [cell for cell in sampled_cells if cell.case.ranks == sampled_cells[0].case.ranks]
    each = max(1, MAX_CATEGORIES // len(largest_cells))
    shown = [(cell, times) for cell in largest_cells[:MAX_CATEGORIES] for times in _slowest_ranks(cell, each)]
    for cell in sampled_cells[len(largest_cells) :]:
        if len(shown) + len(cell.step_times) > MAX_CATEGORIES:
            break
        shown += [(cell, times) for times in cell.step_times]
    return shown


def _slowest_ranks(cell: Cell, most: int) -> list[StepTimes]:
    kept = sorted(cell.step_times, key=lambda times: -times.median_s)[:most]
    return sorted(kept, key=lambda times: times.rank)


def _blocks_text(longest: int) -> str:
    return f" Percentiles of blocks of up to {longest} steps." if longest > 1 else ""


def _omitted_text(sampled_cells: Sequence[Cell], shown: Sequence[RankSteps]) -> str:
    """A note on the ranks that are not shown; empty where all are."""
    total = sum(len(cell.step_times) for cell in sampled_cells)
    if len(shown) == total:
        return ""
    most = sampled_cells[0].case.ranks
    largest_cells = [cell for cell in sampled_cells if cell.case.ranks == most]
    whole = sum(len(cell.step_times) for cell in largest_cells) <= len(shown)
    which = "the largest rank counts" if whole else f"the slowest at {formatting.ranks(most)}"
    return f" Shown are {len(shown)} of {total} ranks of all cells: {which}."


def _rank_title(rank_steps: RankSteps) -> str:
    cell, times = rank_steps
    return f"{_backend_title(cell)}, {cell.case.ranks} · rank {times.rank}"


def _backend_title(cell: Cell) -> str:
    injected = f" (injected {cell.case.fault.label})" if cell.case.fault else ""
    return f"{cell.labels.backend}{injected}"


def _rank_row(times: StepTimes) -> tuple[str, ...]:
    values = (times.p5_s, times.p25_s, times.median_s, times.p75_s, times.p95_s, times.slowest_s)
    return (*map(formatting.duration, values), str(times.steps), str(times.trials))


def _slowest_caption(shown: Sequence[RankSteps], titles: Sequence[str]) -> str:
    """The slowest rank of each cell at the largest rank count, and the slowest step of all."""
    most = max(cell.case.ranks for cell, _ in shown)
    largest_cells = {id(cell): cell for cell, _ in shown if cell.case.ranks == most > 1}
    spreads = [_rank_spread(cell) for cell in largest_cells.values()]
    title, outlier = max(
        zip(titles, (times for _, times in shown), strict=True),
        key=lambda entry: entry[1].slowest_s / entry[1].median_s,
    )
    mean = " on average of a block" if outlier.steps_per_entry > 1 else ""
    slowest = (
        f"The largest outlier took {formatting.duration(outlier.slowest_s)}{mean}, "
        f"{formatting.number(outlier.slowest_s / outlier.median_s)} times the median of its rank ({title})."
    )
    return f"Slowest by median: {'; '.join(spreads)}. {slowest}" if spreads else slowest


def _rank_spread(cell: Cell) -> str:
    slow, quick = (pick(cell.step_times, key=lambda times: times.median_s) for pick in (max, min))
    more = formatting.share(slow.median_s / quick.median_s - 1, 1)
    return f"{cell.labels.backend} rank {slow.rank}, {more} above rank {quick.rank}"
