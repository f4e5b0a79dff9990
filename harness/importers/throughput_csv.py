"""``fit``: anyone's throughputs over rank counts, from a CSV file to curves."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.markup import escape

from bench.core.case import Scaling
from harness.errors import UsageError, suggest_name
from harness.planning.predict_options import MAX_RANKS
from reports.analysis import formatting
from reports.analysis.curve import Curve, fit_curve
from reports.analysis.scaling import FitMethod, Parameter, ScalingLaw
from reports.formats.trial_rows import COLLECTIVE_UNIT, LIST_SEPARATOR, NO_SCALING_CLAIM

MAX_THROUGHPUT = 1e60
RANKS = ("ranks", "n")
THROUGHPUT = "throughput"
CURVE = "curve"
# Columns of an export that say whether a row counts, and with which others.
OUTCOME, FLAGS, ENVIRONMENT, UNIT, SCALING = "outcome", "flags", "environment", "unit", "scaling"
OK, WEAK = "ok", "weak"
UNNAMED_CURVE = "all"
"""The name of the curve of a file without a ``curve`` column."""

Rows = dict[str, dict[int, list[float]]]
"""Throughputs by curve and rank count."""


@dataclass(frozen=True)
class ThroughputTable:
    """What a file holds: throughputs, and how many rows were left out, by reason."""

    rows: Rows
    left_out: dict[str, int]
    weak: frozenset[str]
    """The curves that a ``scaling`` column says so of."""


@dataclass(frozen=True)
class CurveFits:
    """The curves of a file, and how many of its rows were left out, by reason."""

    curves: list[Curve]
    left_out: dict[str, int]


def read_rows(path: Path) -> ThroughputTable:
    """Rows of an export that gave no number or feed no claim are left out, and environments kept apart.

    Raises :class:`UsageError` with file and line for whatever else is not a positive number in its place.
    """
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    left_out: Counter[str] = Counter()
    weak: set[tuple[str, str]] = set()
    for location, line in _lines(path):
        if reason := _exclusion_reason(line):
            left_out[reason] += 1
            continue
        ranks = next(name for name in RANKS if name in line)
        count, rate = _count(line[ranks], location, ranks), _rate(line[THROUGHPUT], location)
        key = (line.get(CURVE, UNNAMED_CURVE), line.get(ENVIRONMENT, ""))
        found.setdefault(key, {}).setdefault(count, []).append(rate)
        if line.get(SCALING) == WEAK:
            weak.add(key)
    if not found:
        excluded = "; ".join(f"{count} left out: {reason}" for reason, count in left_out.items())
        raise UsageError(
            f"{path}: holds no rows{f' to fit ({excluded})' if excluded else ''}; "
            "give ranks and throughput, a line each"
        )
    names = _curve_names(list(found))
    rows = {names[key]: rates for key, rates in found.items()}
    return ThroughputTable(rows, dict(left_out), frozenset(names[key] for key in weak))


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line's place, and its values by column name. Raises :class:`UsageError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = [name.strip().lower() for name in next(lines, [])]
            _check_columns(header, path)
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                location = f"{path}:{lines.line_num}"
                if len(cells) != len(header):
                    raise UsageError(f"{location}: {len(cells)} values under {len(header)} column names")
                # Reversed: of two columns with one name the first counts.
                yield location, {name: cell.strip() for name, cell in zip(header[::-1], cells[::-1], strict=True)}
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        message = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"{path}: cannot be read as a CSV file ({message})") from None


def _check_columns(header: Sequence[str], path: Path) -> None:
    if not header:
        raise UsageError(f"{path}: is empty; the first line names the columns ranks and throughput")
    for names in (RANKS, (THROUGHPUT,)):
        if not any(name in header for name in names):
            raise UsageError(f"{path}:1: no column '{names[0]}' among {', '.join(header)}")


def _exclusion_reason(line: Mapping[str, str]) -> str | None:
    """An empty throughput is a result where the outcome says why, and a mistake elsewhere."""
    outcome = line.get(OUTCOME) or OK
    if outcome != OK and not line[THROUGHPUT]:
        return f"{OUTCOME} {outcome}"
    if line.get(UNIT) == COLLECTIVE_UNIT:
        return "a collective alone has no speed-up"
    return next(iter(sorted(NO_SCALING_CLAIM.intersection(line.get(FLAGS, "").split(LIST_SEPARATOR)))), None)


def _curve_names(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """By curve and environment: a curve from several environments is several curves."""
    counts = Counter(curve for curve, _ in keys)
    return {(curve, where): f"{curve} ({where})" if counts[curve] > 1 else curve for curve, where in keys}


def _count(text: str, location: str, column: str) -> int:
    number = _number(text, location, column)
    if not 1 <= number <= MAX_RANKS or number != int(number):
        raise UsageError(f"{location}: {column} = {text.strip()}: a rank count is a whole number from 1 to {MAX_RANKS}")
    return int(number)


def _rate(text: str, location: str) -> float:
    number = _number(text, location, THROUGHPUT)
    if number <= 0:
        raise UsageError(f"{location}: throughput = {text.strip()}: a throughput is above 0")
    if not 1 / MAX_THROUGHPUT < number < MAX_THROUGHPUT:
        raise UsageError(f"{location}: throughput = {text.strip()} can't be reckoned with; choose another unit")
    return number


def _number(text: str, location: str, column: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{location}: {column} = '{text.strip()}' is not a number") from None
    if not math.isfinite(number):
        raise UsageError(f"{location}: {column} = {text.strip()} is not a finite number")
    return number


def fit_csv(path: Path, model: str, method: str, predict: Sequence[int], scaling: str | None = None) -> CurveFits:
    """Fit the curves of a file; without ``scaling`` its own column says which it is, else strong.

    Raises :class:`UsageError`.
    """
    models = (*get_args(ScalingLaw), "best")
    if model not in models:
        raise UsageError(f"--model {model}: unknown model{suggest_name(model, models)}")
    if method not in get_args(FitMethod):
        raise UsageError(f"--method {method}: unknown method{suggest_name(method, get_args(FitMethod))}")
    if scaling is not None and scaling not in get_args(Scaling):
        raise UsageError(f"--scaling {scaling}: unknown scaling{suggest_name(scaling, get_args(Scaling))}")
    measured = read_rows(path)
    curves = [
        fit_curve(name, rates, model, method, predict, scaling or ("weak" if name in measured.weak else "strong"))  # type: ignore[arg-type]  # the names were checked above
        for name, rates in measured.rows.items()
    ]
    return CurveFits(curves, measured.left_out)


def fits_as_json(fit: CurveFits) -> dict[str, Any]:
    return {"curves": [curve_as_json(curve) for curve in fit.curves], "left_out": fit.left_out}


def curve_as_json(curve: Curve) -> dict[str, Any]:
    parameters = {"gamma": curve.gamma, "sigma": curve.sigma, "kappa": curve.kappa}
    return {
        "curve": curve.name,
        "model": curve.model,
        "method": curve.method,
        "reason": curve.reason,
        **{name: found.value if found else None for name, found in parameters.items()},
        "intervals": {name: [found.low, found.high] if found else None for name, found in parameters.items()},
        "standard_errors": {name: found.standard_error if found else None for name, found in parameters.items()},
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
        "flags": list(curve.fit_flags),
        "seen": curve.fit_flags,
        "largest_relative_residual": curve.largest_residual,
    }


def print_fits(fit: CurveFits, console: Console) -> None:
    """For people: what was fitted, the points, the predictions, what was noticed, what was left out."""
    from rich import box
    from rich.table import Table

    for curve in fit.curves:
        # A curve of an export has brackets in its name, which must not be taken for a style.
        message = f"[bold]{escape(curve.name)}[/]: {escape(_sentence(curve))}"
        console.print(message, highlight=False, soft_wrap=True)
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
                formatting.estimate(point.speedup),
                formatting.percent(point.efficiency),
                formatting.percent(point.gustafson if weak else point.karp_flatt),
            )
        for one in curve.predictions:
            kind = "extrapolated" if one.extrapolated else "within the range"
            table.add_row(str(one.ranks), f"predicted, {kind}", formatting.prediction(one), "", "", "")
        console.print(table)
        if curve.method == "nls" and curve.model is not None:
            console.print(
                "the intervals of nls hold less often than they say: quote those of --method log", style="yellow"
            )
        for name, seen in curve.fit_flags.items():
            console.print(f"{name}: {seen}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    for reason, count in fit.left_out.items():
        message = f"left out: {count} row{'s' * (count != 1)}: {reason}"
        console.print(message, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _sentence(curve: Curve) -> str:
    if curve.model is None or curve.gamma is None or curve.sigma is None or curve.kappa is None:
        return f"no model: {curve.reason}"
    parts = [
        f"{curve.model} by {curve.method}: γ = {formatting.number(curve.gamma.value)}{_interval_text(curve.gamma, 1)}"
    ]
    if curve.model != "linear":
        parts.append(f"σ = {100 * curve.sigma.value:.2g} %{_interval_text(curve.sigma, 100)}")
    if curve.model == "usl":
        parts.append(f"κ = {100 * curve.kappa.value:.2g} %{_interval_text(curve.kappa, 100)}")
    if curve.peak_ranks is not None and curve.peak_throughput is not None:
        parts.append(f"highest at {curve.peak_ranks:.0f} ranks with {formatting.number(curve.peak_throughput)}")
    elif curve.limit is not None:
        parts.append(f"never above {formatting.number(curve.limit)}")
    return ", ".join(parts)


def _interval_text(found: Parameter, factor: float) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" ({formatting.number(factor * found.low)}–{formatting.number(factor * found.high)})"
