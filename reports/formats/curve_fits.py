"""Fitted curves of a table of throughputs, as JSON and as text for a terminal: what ``fit`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from bench.core.text import printable
from reports.analysis import formatting
from reports.analysis.curve import Curve
from reports.formats.console import print_line
from reports.formats.documents import versioned

MIN_WEIGHT = 0.005
"""The weight of a law in a prediction below which it is not named."""


@dataclass(frozen=True)
class CurveFits:
    """The curves of a table, the number of its rows that were left out, by reason, and notes on how it was read."""

    curves: Sequence[Curve]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        fields = {
            "curves": [curve_as_json(curve) for curve in self.curves],
            "left_out": self.left_out,
            "notes": list(self.notes),
        }
        return versioned("fit", fields)

    def print(self, console: Console) -> None:
        for curve in self.curves:
            _print_curve(curve, console)
        for reason, count in self.left_out.items():
            message = f"left out: {formatting.counted(count, 'row')}: {reason}"
            print_line(console, message, "yellow")
        for note in self.notes:
            print_line(console, f"note: {note}", "yellow")


def curve_as_json(curve: Curve) -> dict[str, Any]:
    """A fitted curve as plain data: parameters with intervals, points, predictions and flags."""
    parameters = {"gamma": curve.gamma, "sigma": curve.sigma, "kappa": curve.kappa}
    return {
        "curve": curve.name,
        "model": curve.model,
        "method": curve.method,
        "reason": curve.reason,
        **{name: parameter.value if parameter else None for name, parameter in parameters.items()},
        "intervals": {
            name: [parameter.low, parameter.high] if parameter else None for name, parameter in parameters.items()
        },
        "standard_errors": {
            name: parameter.standard_error if parameter else None for name, parameter in parameters.items()
        },
        "n_peak": curve.peak_ranks,
        "x_peak": curve.peak_throughput,
        "limit": curve.limit,
        "points": [point.model_dump() for point in curve.points],
        "speedup": {str(point.ranks): point.speedup.value for point in curve.points},
        "efficiency": {str(point.ranks): point.efficiency.value for point in curve.points},
        "karp_flatt": {
            str(point.ranks): point.karp_flatt.value if point.karp_flatt else None for point in curve.points
        },
        "gustafson": {str(point.ranks): point.gustafson.value if point.gustafson else None for point in curve.points},
        "predictions": [prediction.model_dump() for prediction in curve.predictions],
        "prediction_weights": curve.prediction_weights,
        "prediction_reason": curve.prediction_reason,
        "flags": list(curve.fit_flags),
        "seen": curve.fit_flags,
        "largest_relative_residual": curve.largest_residual,
    }


def _print_curve(curve: Curve, console: Console) -> None:
    """The model, the points with their efficiency, the predictions, and the flags of the fit."""
    from rich import box
    from rich.table import Table

    name = printable(curve.name)
    line = Text(f"{name}: {printable(_sentence(curve))}")
    line.stylize("bold", end=len(name))
    console.print(line, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    weak = any(point.gustafson for point in curve.points)
    serial = "Gustafson" if weak else "Karp–Flatt"
    for name in ("ranks", "throughput (95 %)", "model", "speed-up", "efficiency", serial):
        table.add_column(name, justify="right")
    for point in curve.points:
        table.add_row(
            str(point.ranks),
            formatting.estimate(point.throughput, unit=False),
            "–" if point.modelled is None else formatting.number(point.modelled),
            formatting.speedup(point.speedup, point.efficiency),
            formatting.efficiency(point.efficiency),
            formatting.percent(point.gustafson if weak else point.karp_flatt),
        )
    for prediction in curve.predictions:
        kind = "extrapolated" if prediction.extrapolated else "within the range"
        table.add_row(str(prediction.ranks), f"predicted, {kind}", formatting.prediction(prediction), "", "", "")
    console.print(table)
    if len(curve.prediction_weights) > 1:
        parts = (
            f"{formatting.model_title(law)} {formatting.share(weight)}"
            for law, weight in curve.prediction_weights.items()
            if weight >= MIN_WEIGHT
        )
        print_line(console, f"predicted by {', '.join(parts)}")
    if curve.model is not None and curve.prediction_reason is not None:
        print_line(console, curve.prediction_reason, "yellow")
    if curve.method == "nls" and curve.model is not None:
        print_line(console, "the intervals of nls cover less than 95 %: quote those of --method log", "yellow")
    for name, seen in curve.fit_flags.items():
        print_line(console, f"{name}: {seen}", "yellow")


def _sentence(curve: Curve) -> str:
    if curve.model is None or curve.gamma is None or curve.sigma is None or curve.kappa is None:
        return f"no model: {curve.reason}"
    parts = [f"{curve.model} by {curve.method}: γ = {formatting.parameter(curve.gamma)}"]
    if curve.model != "linear":
        parts.append(f"σ = {formatting.parameter_percent(curve.sigma)}")
    if curve.model == "usl":
        parts.append(f"κ = {formatting.parameter_percent(curve.kappa)}")
    if curve.peak_ranks is not None and curve.peak_throughput is not None:
        peak = formatting.ranks(round(curve.peak_ranks))
        parts.append(f"highest at {peak} with {formatting.number(curve.peak_throughput)}")
    elif curve.limit is not None:
        parts.append(f"never above {formatting.number(curve.limit)}")
    return ", ".join(parts)
