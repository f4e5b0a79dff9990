"""Figures and tables of the step: step times by rank, its parts, the lost efficiency by cause, and bottlenecks."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import formatting
from reports.analysis.bottleneck import (
    COMPUTE,
    DATA,
    EXPOSED,
    NOT_MEASURED,
    SLOWER,
    TERM_TITLES,
    UNATTRIBUTED,
    WAITING,
    Bottleneck,
    efficiency_losses,
)
from reports.analysis.cells import Cell
from reports.analysis.findings import has_curve
from reports.analysis.step_times import StepTimes
from reports.page import summary
from reports.page.elements import Figure, Series, Table
from reports.page.series import interval_series, point_series

MAX_CATEGORIES = 16
MAX_NARROW_CATEGORIES = 4
"""A figure of more takes the whole width of the page."""
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
        "step (ms)",
        series,
        f"{_slowest_caption(shown, titles)}{_blocks_text(longest)}{_omitted_text(sampled_cells, shown)}",
        Table("Step times by rank" if has_several else "Step times", header, rows, note),
        categories=titles,
        log_y=max(times.slowest_s for _, times in shown) > LOG_SCALE_RATIO * min(times.median_s for _, times in shown),
        wide=len(shown) > MAX_NARROW_CATEGORIES,
    )


def _step_time_series(shown: Sequence[StepTimes]) -> tuple[Series, Series]:
    places = range(len(shown))
    middle, low, high, slowest = (
        tuple(1e3 * time_s for time_s in times)
        for times in zip(*((times.median_s, times.p5_s, times.p95_s, times.slowest_s) for times in shown), strict=True)
    )
    return (
        interval_series(
            "median, 5th to 95th percentile", list(zip(places, middle, low, high, strict=True)), 0, "markers"
        ),
        point_series("slowest step", places, slowest, 1, "markers"),
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
    more = 100 * (slow.median_s / quick.median_s - 1)
    return f"{cell.labels.backend} rank {slow.rank}, {more:.1f} % above rank {quick.rank}"


STEP_PARTS = ("forward", "backward", "optimizer", "data", "unattributed", "waiting", "exposed")


def time_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """The parts of a step as stacked bars, one bar for each cell; ``None`` where no cell was decomposed."""
    shown = [cell for cell in cells if cell.decomposition is not None]
    if not shown:
        return None
    curve = has_curve(cells)
    names = tuple(f"{cell.labels.backend}, {cell.case.ranks}" if curve else cell.labels.backend for cell in shown)
    x_title = "backend, ranks" if curve else "backend"
    series = tuple(_part_series(part, number, shown) for number, part in enumerate(STEP_PARTS))
    rows = tuple(
        (
            name,
            *(formatting.duration_estimate(cell.decomposition.parts_s.get(part)) for part in STEP_PARTS),
            formatting.duration_estimate(cell.decomposition.step_s),
        )
        for name, cell in zip(names, shown, strict=True)
        if cell.decomposition
    )
    table = Table("Parts of a step, means over ranks and trials", (x_title, *STEP_PARTS, "step"), rows)
    return Figure(
        f"{key}-time-parts",
        "Where the time goes",
        x_title,
        "step (ms)",
        series,
        _parts_caption(shown),
        table,
        categories=names,
        stacked=True,
        wide=len(shown) > MAX_NARROW_CATEGORIES,
    )


def _part_series(part: str, number: int, cells: Sequence[Cell]) -> Series:
    heights = tuple(_part_height_ms(cell, part) for cell in cells)
    return point_series(part, range(len(cells)), heights, number)


def _part_height_ms(cell: Cell, part: str) -> float:
    """Noise can make a difference of times negative, which can't be drawn; the table has the number."""
    seconds = cell.decomposition.parts_s.get(part) if cell.decomposition else None
    return 0.0 if seconds is None else max(0.0, 1e3 * seconds.value)


def _parts_caption(cells: Sequence[Cell]) -> str:
    most = max(cell.case.ranks for cell in cells)
    losses_text = [
        f"{cell.labels.backend}: {causes}"
        for cell in cells
        if cell.case.ranks == most > 1 and cell.decomposition and (causes := summary.loss_summary(cell))
    ]
    if not losses_text:
        return "Own work of the ranks, waiting for the slowest rank, and exposed communication."
    return f"Losses of a step at {formatting.ranks(most)} — {'; '.join(losses_text)}."


LOSS_CAUSES = (EXPOSED, WAITING, SLOWER)


def loss_figure(key: str, cells: Sequence[Cell]) -> Figure | None:
    """The lost efficiency by cause as stacked bars; ``None`` where no cell was decomposed beside its baseline."""
    loss_by_cell = {
        id(cell): efficiency_losses(cell.decomposition) for cell in cells if cell.decomposition and cell.case.ranks > 1
    }
    shown = [cell for cell in cells if loss_by_cell.get(id(cell))]
    if not shown:
        return None
    names = tuple(f"{cell.labels.backend}, {cell.case.ranks}" for cell in shown)
    series = tuple(
        # A gain (smaller pieces fit into a cache) can't be stacked on losses; the table has it.
        point_series(
            TERM_TITLES[cause], range(len(shown)), [max(0.0, loss_by_cell[id(cell)][cause]) for cell in shown], number
        )
        for number, cause in enumerate(LOSS_CAUSES)
    )
    rows = tuple(
        (
            name,
            *(f"{100 * loss_by_cell[id(cell)][cause]:.1f} %" for cause in LOSS_CAUSES),
            f"{100 * sum(loss_by_cell[id(cell)].values()):.1f} %",
        )
        for name, cell in zip(names, shown, strict=True)
    )
    worst = max(shown, key=lambda cell: sum(loss_by_cell[id(cell)].values()))
    caption = (
        f"The largest loss: {worst.labels.backend_at_ranks}, "
        f"{100 * sum(loss_by_cell[id(worst)].values()):.0f} % of its "
        "step. Each layer is a cause; a bar is 1 − global efficiency."
    )
    table = Table(
        "Lost efficiency by cause, as shares of a step",
        ("backend, ranks", *(TERM_TITLES[cause] for cause in LOSS_CAUSES), "lost"),
        rows,
    )
    return Figure(
        f"{key}-losses",
        "Where the efficiency goes",
        "backend, ranks",
        "lost share of a step",
        series,
        caption,
        table,
        categories=names,
        stacked=True,
        percent=True,
        wide=True,
    )


def bottleneck_table(bottlenecks: Sequence[Bottleneck], *, scaling: bool = True) -> Table:
    """One row for each curve: what limits it, with the shares of a step.

    Args:
        bottlenecks: of the curves.
        scaling: whether any has several rank counts; else the table is of what limits a step, without blank columns.
    """
    rows = tuple(
        (
            f"{bottleneck.labels.workload} · {bottleneck.labels.backend}"
            f"{f' · {bottleneck.case.scaling}' if scaling else ''}",
            bottleneck.labels.ranks,
            TERM_TITLES.get(bottleneck.limited_by, bottleneck.limited_by),
            *(_share(bottleneck.shares.get(term)) for term in (COMPUTE, DATA, UNATTRIBUTED, WAITING, EXPOSED)),
            _share(bottleneck.slower),
            _share(bottleneck.host_bound),
            "–" if bottleneck.most_speedup is None else f"{formatting.number(bottleneck.most_speedup)} ×",
            _share(bottleneck.contention),
            _share(bottleneck.coherency),
            "; ".join(
                [*bottleneck.conditions, *([f"{NOT_MEASURED}: {bottleneck.reason}"] if bottleneck.reason else ())]
            )
            or "–",
        )
        for bottleneck in bottlenecks
    )
    header = (
        "curve",
        "at",
        "limited by",
        "compute",
        "data",
        "unattributed",
        "load imbalance",
        "exposed communication",
        "compute slower than at the fewest ranks",
        "device waits for the host",
        "throughput without these waits, at most",
        "contention σ",
        "coherency κ",
        "conditions",
    )
    note = (
        "Compute, data, what a step does beyond its parts (unattributed), load imbalance (waiting for the slowest "
        "rank) and exposed communication add up to a step. "
        "Slower: compute beyond what the same work takes at the smallest rank count, as a share of the "
        "step. Device waits for the host: the part of compute in which a GPU has nothing to do. "
        "Contention and coherency are the shares of σ(N−1) and κN(N−1) in the denominator of the fitted law: "
        "another view of the same losses, not a further part."
    )
    if scaling:
        return Table("What limits scaling", header, rows, note)
    filled = [number for number in range(len(header)) if any(row[number] != "–" for row in rows)]
    return Table("What limits a step", header, rows, STEP_NOTE).with_columns(filled)


STEP_NOTE = (
    "Compute, data, what a step does beyond its parts (unattributed), load imbalance (waiting for the slowest rank) "
    "and exposed communication add up to a step, where they were measured. Device waits for the host: the part of "
    "compute in which a GPU has nothing to do."
)


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
