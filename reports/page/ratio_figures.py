"""The throughput of one sweep ÷ that of another over ranks, with intervals: a figure for each workload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import changes
from reports.analysis.comparison import Change, Comparison
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series

Known = tuple[Change, Estimate]


def ratio_figures(key: str, comparison: Comparison, styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """The ratios that are known, on a logarithmic axis, where twice as fast and half as fast are as far from 1.

    Args:
        key: Begins the keys of the figures.
        comparison: Of two sweeps.
        styles: That of each curve, by the keys of its cases with the labels of their sweeps.
    """
    groups: dict[str, list[Known]] = {}
    for change in comparison.changes:
        if change.ratio is not None:
            labels = change.after.labels
            groups.setdefault(f"{labels.workload} · {labels.scaling}", []).append((change, change.ratio))
    for number, (workload, known) in enumerate(groups.items()):
        yield _figure(f"{key}-{number}", workload, comparison, known, styles)


def _figure(
    key: str, workload: str, comparison: Comparison, known: Sequence[Known], styles: Mapping[str, SeriesStyle]
) -> Figure:
    lines: dict[str, list[Known]] = {}
    for change, ratio in known:
        lines.setdefault(change.after.labels.backend, []).append((change, ratio))
    title = f"{comparison.other} ÷ {comparison.first}: {workload}"
    rows = tuple(
        (change.after.labels.backend, change.after.labels.rank_count, changes.change(ratio), change.direction)
        for change, ratio in known
    )
    series = []
    for name, line in lines.items():
        ordered = sorted(line, key=lambda pair: pair[0].after.case.ranks)
        style = styles[_labelled_key(ordered[0][0], comparison.other)]
        counts = [float(change.after.case.ranks) for change, _ in ordered]
        series.append(estimate_series(name, counts, [ratio for _, ratio in ordered], style))
    return Figure(
        key,
        title,
        "ranks",
        f"throughput of {comparison.other} ÷ {comparison.first}",
        tuple(series),
        f"Above 1, {comparison.other} is faster. An interval that includes 1 is statistically tied.",
        Table(title, ("backend", "ranks", f"{comparison.other} against {comparison.first} (95 %)", "result"), rows),
        "one",
        "no change",
        log_y=True,
    )


def _labelled_key(change: Change, label: str) -> str:
    return change.after.case.model_copy(update={"label": label}).key
