"""Figures of predictions: the measured throughputs of each workload, and the predicted ones with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from reports.analysis import case_titles, formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import Findings
from reports.analysis.predictions import CurvePrediction, Predicted
from reports.analysis.units import join_units
from reports.page.elements import Figure, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import interval_series

Styles = Mapping[str, SeriesStyle]
EFFICIENCY_HEADER = "efficiency (95 %)"


def throughput_header(curves: Iterable[CurvePrediction]) -> str:
    """With the units of these curves: ``throughput, samples/s (95 %)``."""
    return f"throughput, {join_units(curve.unit for curve in curves)} (95 %)"


def prediction_figures(findings: Findings, styles: Styles) -> Iterator[Figure]:
    """One figure for each workload: measured and predicted throughputs; another for the requested link."""
    groups: dict[tuple[str, ...], list[CurvePrediction]] = {}
    for curve in findings.curve_predictions:
        groups.setdefault(case_titles.group_key(curve.case), []).append(curve)
    for number, group in enumerate(groups.values()):
        if any(curve.predictions for curve in group):
            yield _figure(
                f"predicted-{number}",
                "Predicted",
                group,
                lambda curve: curve.predictions,
                findings.curve_cells,
                styles,
            )
        if findings.options.link and any(curve.at_scale for curve in group):
            title = f"Predicted over {findings.options.link.label}"
            yield _figure(f"at-scale-{number}", title, group, lambda curve: curve.at_scale, {}, styles)


def _figure(
    key: str,
    title: str,
    curve_predictions: Sequence[CurvePrediction],
    of: Callable[[CurvePrediction], Sequence[Predicted]],
    curve_cells: Mapping[str, Sequence[Cell]],
    styles: Styles,
) -> Figure:
    series = tuple(
        line
        for curve in curve_predictions
        for line in _series(curve, of(curve), curve_cells.get(curve.curve, ()), styles)
    )
    rows = tuple(
        (
            curve.labels.backend,
            predicted.labels.ranks,
            predicted.labels.throughput,
            predicted.labels.efficiency,
        )
        for curve in curve_predictions
        for predicted in of(curve)
    )
    labels = curve_predictions[0].labels
    full_title = f"{title}: {labels.workload} · {labels.scaling}"
    summaries = "; ".join(_largest_prediction(curve, of(curve)) for curve in curve_predictions if of(curve))
    return Figure(
        key,
        full_title,
        "ranks",
        f"throughput ({join_units(curve.unit for curve in curve_predictions)})",
        series,
        f"Predicted, not measured — {summaries}.",
        Table(full_title, ("backend", "ranks", throughput_header(curve_predictions), EFFICIENCY_HEADER), rows),
        log_x=True,
        log_y=True,
    )


def _largest_prediction(curve: CurvePrediction, predicted: Sequence[Predicted]) -> str:
    labels = predicted[-1].labels
    name, ranks = curve.labels.backend, formatting.ranks(predicted[-1].prediction.ranks)
    return f"{name} at {ranks}: {labels.throughput} {curve.unit}, efficiency {labels.efficiency}"


def _series(
    curve: CurvePrediction, predicted: Sequence[Predicted], cells: Sequence[Cell], styles: Styles
) -> Iterator[Series]:
    """The measured points, and the predictions from the last of them on."""
    name = curve.labels.backend
    known = [(float(cell.case.ranks), cell.throughput) for cell in cells if cell.throughput]
    points = [(x, y.value, y.low, y.high) for x, y in known]
    if points:
        yield interval_series(name, points, styles[name])
    extrapolated = [point.prediction for point in predicted if not known or point.prediction.ranks > known[-1][0]]
    line = [*points[-1:], *((float(point.ranks), point.throughput, point.low, point.high) for point in extrapolated)]
    if extrapolated:
        yield interval_series(f"{name}: predicted", line, styles[name].fitted("predicted"), "fitted")
