"""Numbers and estimates as text, the same in the terminal, on the page and in exports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from reports.analysis.stats import Estimate

if TYPE_CHECKING:
    # A dry run prints titles of cases and fits nothing.
    from reports.analysis.curve import Curve
    from reports.analysis.placement import Placement
    from reports.analysis.scaling import Parameter, Prediction

MODEL_TITLES = {"usl": "USL", "amdahl": "Amdahl", "log": "log", "linear": "linear"}
SI_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SMALL_SI_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))
"""Of energies: a sample of a small model takes microjoules on a GPU, and a byte that is sent nanojoules."""


def number(value: float) -> str:
    """Three significant digits, with k, M, G or T from 10,000 on: ``15.8k``, ``3.41``, ``980``."""
    factor, prefix = _si_prefix(value)
    return f"{_three_digits(value / factor)}{prefix}"


def _si_prefix(value: float) -> tuple[float, str]:
    if abs(value) < 1e4 or not math.isfinite(value):
        return 1.0, ""
    return next(pair for pair in SI_PREFIXES if abs(value) >= pair[0])


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}" if abs(value) < 1000 else f"{value:,.0f}"


def estimate(value: Estimate | None, *, unit: bool = True) -> str:
    """``15.8k (15.1k–16.5k) samples/s``, ``219 (217–221) µJ/sample``; the value alone without an interval; ``–`` for
    none."""
    if value is None:
        return "–"
    if unit and value.unit.startswith("J/") and 0 < value.value < 1:
        factor, prefix = next((pair for pair in SMALL_SI_PREFIXES if value.value >= pair[0]), SMALL_SI_PREFIXES[-1])
        return f"{_with_interval(value, factor)} {prefix}{value.unit}"
    factor, prefix = _si_prefix(value.value)
    shown = _with_interval(value, factor, prefix)
    if not unit or value.unit in ("1", "×"):
        return shown
    if value.unit == "B/s":
        return f"{shown.replace(prefix, '', 1) if prefix else shown} {prefix}B/s"
    return f"{shown} {value.unit}"


def _with_interval(value: Estimate, factor: float, prefix: str = "") -> str:
    shown = f"{_three_digits(value.value / factor)}{prefix}"
    if value.low is None or value.high is None:
        return shown
    return f"{shown} ({_three_digits(value.low / factor)}–{_three_digits(value.high / factor)})"


def parameter_percent(parameter: Parameter | None) -> str:
    """``3.1 % (2.9–3.3)``: a fitted σ or κ."""
    if parameter is None or (parameter.value == 0 and parameter.high is None):
        return "–"
    span = (
        ""
        if parameter.low is None or parameter.high is None
        else f" ({100 * parameter.low:.2g}–{100 * parameter.high:.2g})"
    )
    return f"{100 * parameter.value:.2g} %{span}"


def model_title(name: str) -> str:
    """``USL + Amdahl`` for ``usl + amdahl``; other names stay as they are."""
    return " + ".join(MODEL_TITLES.get(part, part) for part in name.split(" + "))


def prediction(prediction: Prediction) -> str:
    """``15.8k (14.9k–16.7k)``: throughput with the interval of one further measurement."""
    span = (
        ""
        if prediction.low is None or prediction.high is None
        else f" ({number(prediction.low)}–{number(prediction.high)})"
    )
    return f"{number(prediction.throughput)}{span}"


def latency(parameter: Parameter) -> str:
    """``355 µs (301–419)``"""
    if parameter.low is None or parameter.high is None:
        return f"{number(parameter.value * 1e6)} µs (not distinguishable from 0)"
    return f"{number(parameter.value * 1e6)} µs ({number(parameter.low * 1e6)}–{number(parameter.high * 1e6)})"


def bandwidth(parameter: Parameter) -> str:
    """``763 (640–910) MB/s``, from a fitted time per byte."""
    from reports.analysis.communication import NEGLIGIBLE

    if parameter.value < NEGLIGIBLE:
        return "too high to measure: latency dominates"
    if parameter.low is None or parameter.high is None:
        return f"{byte_rate(1 / parameter.value)} (interval unbounded)"
    return estimate(
        Estimate(value=1 / parameter.value, low=1 / parameter.high, high=1 / parameter.low, n=1, unit="B/s")
    )


def byte_rate(bytes_s: float) -> str:
    """``763 MB/s``"""
    factor, prefix = _si_prefix(bytes_s)
    return f"{_three_digits(bytes_s / factor)} {prefix}B/s"


def serial_fraction(curve: Curve) -> str:
    """``3 % (2–4) at 8 ranks``: at the most ranks, by Gustafson under weak scaling, by Karp and Flatt under strong."""
    last = curve.points[-1]
    share = last.gustafson or last.karp_flatt
    return "–" if share is None else f"{percent(share)} at {ranks(last.ranks)}"


READING_WORDS = {"cpu": "CPU", "gpu": "GPU", "sm": "SM", "dram": "memory", "pcie": "PCIe", "nvlink": "NVLink"}
"""Words of names of readings that are written differently."""


def reading_title(name: str) -> str:
    """``GPU memory peak``, ``GPU SM activity``"""
    return " ".join(READING_WORDS.get(word, word) for word in name.split("_"))


def reading(value: Estimate | None) -> str:
    """A reading without its interval, see :func:`quantity`."""
    if value is None:
        return "–"
    return quantity(value.value, value.unit)


def quantity(value: float, unit: str) -> str:
    """``1.62 cores``, ``71 %`` for a share, ``412 MB``, ``0.153 ms``."""
    if unit == "1":
        return f"{value * 100:.0f} %"
    if unit == "s" and 0 < abs(value) < 1:
        return duration(value)
    factor, prefix = _si_prefix(value)
    gap = "" if prefix and unit[0] not in "BHW" else " "
    return f"{_three_digits(value / factor)}{gap}{prefix}{unit}".rstrip()


def with_range(mean: float, least: float, most: float, unit: str) -> str:
    """``468 (300–585) MB/s``, ``71 (68–74) %``: all three with the prefix of the mean, which is alone where all look
    alike."""
    if unit == "1":
        shown, low, high = (f"{100 * value:.0f}" for value in (mean, least, most))
        prefix, unit = "", "%"
    else:
        factor, prefix = _si_prefix(mean)
        shown, low, high = (_three_digits(value / factor) for value in (mean, least, most))
    ends = "" if low == high == shown else f" ({low}–{high})"
    return f"{shown}{ends} {prefix}{unit}"


def percent(value: Estimate | None) -> str:
    """``71 % (68–74)``; ``0.4 % (0.2–0.7)`` below 1 %."""
    if value is None:
        return "–"
    digits = 1 if 0 < value.value < 0.01 else 0
    low, high = value.low, value.high
    span = "" if low is None or high is None else f" ({low * 100:,.{digits}f}–{high * 100:,.{digits}f})"
    return f"{value.value * 100:,.{digits}f} %{span}"


def duration_estimate(value: Estimate | None) -> str:
    """``18.6 ms``; ``4.50 µs`` below a tenth of a millisecond."""
    return "–" if value is None else duration(value.value)


def duration(time_s: float) -> str:
    """``18.6 ms``; ``4.50 µs`` below a tenth of a millisecond."""
    if 0 < abs(time_s) < 1e-4:
        return f"{number(time_s * 1e6)} µs"
    return f"{number(time_s * 1e3)} ms"


def overheads(values: Mapping[str, Estimate]) -> list[str]:
    """The overhead of measuring on each kind of device, by its name; of throughput with step timing and sampling ÷
    without."""
    return [f"{device}: {_overhead(value)}" for device, value in values.items()] or ["not measured"]


def _overhead(value: Estimate) -> str:
    span = ""
    if value.low is not None and value.high is not None:
        span = f" ({100 - 100 * value.high:.1f} to {100 - 100 * value.low:.1f})"
    trials = f"{value.n} trial{'s' * (value.n != 1)}"
    return f"step timing and sampling take {100 - 100 * value.value:.1f} % of throughput{span}, from {trials}"


def message_size(size: int) -> str:
    """``1 KiB``, ``64 MiB``."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def counted(count: int, noun: str) -> str:
    """``1 case``, ``12 cases``"""
    return f"{count} {noun}{'s' * (count != 1)}"


def ranks(count: int) -> str:
    """``4 ranks``"""
    return counted(count, "rank")


def nodes(count: int) -> str:
    """``2 nodes``"""
    return f"{count:,} node{'s' * (count != 1)}"


def rank_count(placement: Placement) -> str:
    """``512 on 64 nodes``; ``8`` where the ranks per node were not given."""
    return f"{placement.ranks:,} on {nodes(placement.nodes)}" if placement.ranks_per_node else f"{placement.ranks}"
