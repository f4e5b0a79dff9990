"""Numbers and estimates as text, the same in the terminal, on the page and in exports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from reports.analysis.stats import Estimate, is_baseline

if TYPE_CHECKING:
    # A dry run prints titles of cases and fits nothing.
    from reports.analysis.placement import Placement
    from reports.analysis.scaling import Parameter, Prediction

MODEL_TITLES = {"usl": "USL", "amdahl": "Amdahl", "log": "log", "linear": "linear"}
UNKNOWN = "unknown"
"""A number that is none; the reason stands beside it."""
BASELINE = "baseline"
"""The efficiency and the speed-up of the rank count that others are compared with."""
SI_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SMALL_SI_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))
"""Of energies: a sample of a small model takes microjoules on a GPU, and a byte that is sent nanojoules."""
PREFIXED_UNITS = ("B", "FLOP", "Hz", "J", "W")
"""Symbols that a prefix belongs to, ``MB/s``; of other units the number has it, ``15.8k samples/s``."""
TIME_UNITS = (
    (7200.0, 3600.0, "h"),
    (120.0, 60.0, "min"),
    (1.0, 1.0, "s"),
    (1e-4, 1e-3, "ms"),
    (1e-7, 1e-6, "µs"),
    (0.0, 1e-9, "ns"),
)
"""From how many seconds on a time has a unit, its seconds and its symbol."""
PREFIX_FROM = 1e4
"""Smaller numbers are written out: ``9,999``."""


def number(value: float) -> str:
    """Three significant digits, with k, M, G … from 10,000 on: ``15.8k``, ``3.41``, ``980``, ``1.20e-05``.

    What is not a number is :data:`UNKNOWN`; infinity is ``∞``.
    """
    factor, prefix = _si_prefix(value)
    return f"{_digits(value / factor)}{prefix}"


def _si_prefix(value: float) -> tuple[float, str]:
    if not math.isfinite(value) or not PREFIX_FROM <= abs(value) < 1e21:
        return 1.0, ""
    # Rounded first: 999,960 is 1.00M and not 1,000k.
    return next(pair for pair in SI_PREFIXES if abs(_rounded(value)) >= pair[0])


def _rounded(value: float) -> float:
    """To three significant digits."""
    return float(f"{value:.2e}")


def _digits(value: float, most_decimals: int = 99) -> str:
    """Three significant digits, but no more decimals than given as long as two significant digits remain."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    decimals = _decimals(value)
    return f"{value:,.{min(decimals, max(most_decimals, decimals - 1))}f}"


def _decimals(value: float) -> int:
    """Decimals of a number with three significant digits."""
    if not math.isfinite(value) or value == 0:
        return 0
    return max(0, 2 - math.floor(math.log10(abs(_rounded(value)))))


def estimate(value: Estimate | None, *, unit: bool = True) -> str:
    """``15.8k (15.1k–16.5k) samples/s``, ``219 (217–221) µJ/sample``; the value alone without an interval; ``–`` for
    none."""
    if value is None:
        return "–"
    if not unit or value.unit in ("1", "×", ""):
        return _numbers(value.value, value.low, value.high)
    return _with_unit(value.value, value.low, value.high, value.unit)


def _with_unit(value: float, low: float | None, high: float | None, unit: str) -> str:
    """A value and its interval, where there is one; the prefix is before the unit, where the unit takes one."""
    if not math.isfinite(value):
        return UNKNOWN
    if unit != "s" and not _takes_prefix(unit):
        return f"{_numbers(value, low, high)} {unit}".rstrip()
    factor, scaled = _scale(value, unit)
    if low is None or high is None:
        return f"{_digits(value / factor)} {scaled}"
    if all(_is_readable(end, factor) for end in (low, high)):
        return f"{_span(value, low, high, factor)} {scaled}"
    ends = (
        f"{_digits(end / factor)} {scaled}" for end, (factor, scaled) in ((e, _scale(e, unit)) for e in (low, high))
    )
    return f"{_digits(value / factor)} {scaled} ({_joined(low, *ends)})"


def _takes_prefix(unit: str) -> bool:
    return unit.partition("/")[0] in PREFIXED_UNITS


def _scale(value: float, unit: str) -> tuple[float, str]:
    """What a value is divided by, and the unit with its prefix: ``1e9, "GB/s"``."""
    if unit == "s":
        return next((seconds, symbol) for least, seconds, symbol in TIME_UNITS if abs(value) >= least)
    if unit.startswith("J") and 0 < abs(value) < 1:
        factor, prefix = next((pair for pair in SMALL_SI_PREFIXES if abs(value) >= pair[0]), SMALL_SI_PREFIXES[-1])
    else:
        factor, prefix = _si_prefix(value)
    return factor, f"{prefix}{unit}"


def _is_readable(end: float, factor: float) -> bool:
    """Whether the end of an interval can have the prefix of its value."""
    return end == 0 or ((factor == 1 or abs(end / factor) >= 0.1) and abs(end / factor) < PREFIX_FROM)


def _numbers(value: float, low: float | None, high: float | None) -> str:
    """``15.8k (15.1k–16.5k)``: each number with its prefix, that of the value where it is readable."""
    factor, prefix = _si_prefix(value)
    shown = f"{_digits(value / factor)}{prefix}"
    if low is None or high is None:
        return shown
    most = _decimals(value / factor)
    ends = (
        (f"{_digits(end / factor, most)}{prefix if end else ''}" if _is_readable(end, factor) else number(end))
        for end in (low, high)
    )
    return f"{shown} ({_joined(low, *ends)})"


def _span(value: float, low: float, high: float, factor: float) -> str:
    """``15.8 (15.1–16.5)``"""
    most = _decimals(value / factor)
    return f"{_digits(value / factor)} ({_joined(low, *(_digits(end / factor, most) for end in (low, high)))})"


def _joined(low: float, shown_low: str, shown_high: str) -> str:
    """``15.1–16.5``, and ``-2.0 to 3.0`` where a dash would be read as a second sign."""
    return f"{shown_low}{' to ' if low < 0 else '–'}{shown_high}"


def parameter(parameter: Parameter) -> str:
    """``15.8k (15.1k–16.5k)``: a fitted parameter that has no unit."""
    return _numbers(parameter.value, parameter.low, parameter.high)


def parameter_percent(parameter: Parameter | None) -> str:
    """``3.1 % (2.9–3.3 %)``: a fitted σ or κ."""
    if parameter is None or (parameter.value == 0 and parameter.high is None):
        return "–"
    shown = f"{_two_digits(100 * parameter.value)} %"
    if parameter.low is None or parameter.high is None:
        return shown
    return f"{shown} ({_two_digits(100 * parameter.low)}–{_two_digits(100 * parameter.high)} %)"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"


def model_title(name: str) -> str:
    """``USL + Amdahl`` for ``usl + amdahl``; other names stay as they are."""
    return " + ".join(MODEL_TITLES.get(part, part) for part in name.split(" + "))


def prediction(prediction: Prediction) -> str:
    """``15.8k (14.9k–16.7k)``: throughput with the interval of one further measurement."""
    return _numbers(prediction.throughput, prediction.low, prediction.high)


def latency(parameter: Parameter) -> str:
    """``355 (301–419) µs``"""
    if parameter.low is None or parameter.high is None:
        return f"{number(parameter.value * 1e6)} µs (not distinguishable from 0)"
    return f"{_numbers(*(1e6 * value for value in (parameter.value, parameter.low, parameter.high)))} µs"


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
    return _with_unit(bytes_s, None, None, "B/s")


READING_WORDS = {"cpu": "CPU", "gpu": "GPU", "sm": "SM", "dram": "memory", "pcie": "PCIe", "nvlink": "NVLink"}
"""Words of names of readings that are written differently."""


READING_TITLES = {
    "device_busy": "GPU time of a step",
    "device_busy_share": "GPU time of a step, share",
    "host_bound_share": "launch-bound",
}
"""Readings whose names, which are keys of documents, are not the words of the field."""


def reading_title(name: str) -> str:
    """``GPU memory peak``, ``GPU SM activity``"""
    if name in READING_TITLES:
        return READING_TITLES[name]
    return " ".join(READING_WORDS.get(word, word) for word in name.split("_"))


def reading(value: Estimate | None) -> str:
    """A reading without its interval, see :func:`quantity`."""
    if value is None:
        return "–"
    return quantity(value.value, value.unit)


def quantity(value: float, unit: str) -> str:
    """``1.62 cores``, ``71 %`` for a share, ``412 MB``, ``0.153 ms``."""
    if unit == "1":
        return share(value)
    return duration(value) if unit == "s" else _with_unit(value, None, None, unit)


def with_range(mean: float, least: float, most: float, unit: str) -> str:
    """``468 (300–585) MB/s``, ``71 % (68–74 %)``; the mean alone where all look alike."""
    if unit == "1":
        shown, *ends = (f"{100 * value:.0f}" for value in (mean, least, most))
        return f"{shown} %" if ends == [shown, shown] else f"{shown} % ({'–'.join(ends)} %)"
    alone = quantity(mean, unit)
    return alone if alone == quantity(least, unit) == quantity(most, unit) else _with_unit(mean, least, most, unit)


def percent(value: Estimate | None) -> str:
    """``71 % (68–74 %)``; ``0.4 % (0.2–0.7 %)`` below 1 %."""
    if value is None:
        return "–"
    decimals = 1 if 0 < abs(value.value) < 0.01 else 0
    if value.low is None or value.high is None:
        return share(value.value, decimals)
    return share_with_interval(value.value, value.low, value.high, decimals)


def share_with_interval(value: float, low: float, high: float, decimals: int = 0) -> str:
    """``71 % (68–74 %)``"""
    ends = (_percent_digits(end, decimals) for end in (low, high))
    return f"{share(value, decimals)} ({_joined(low, *ends)} %)"


def speedup(value: Estimate | None, efficiency: Estimate | None) -> str:
    """``3.41 (3.20–3.60)``; :data:`BASELINE` of what is compared with itself, whose speed-up may be 2 at 2 ranks."""
    return BASELINE if is_baseline(efficiency) else estimate(value)


def efficiency(value: Estimate | None) -> str:
    """``71 % (68–74 %)``; :data:`BASELINE` of what is compared with itself, which is no measurement of 100 %."""
    return BASELINE if is_baseline(value) else percent(value)


def share(value: float, decimals: int = 0) -> str:
    """``71 %``, ``0.3 %`` with a decimal; ``<0.1 %`` for what is rounded to 0 and isn't."""
    return UNKNOWN if math.isnan(value) else f"{_percent_digits(value, decimals)} %"


def _percent_digits(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return _digits(value)
    shown = f"{100 * value:,.{decimals}f}"
    if value and not float(shown.replace(",", "")):
        return f"{'<' if value > 0 else '>-'}{10**-decimals:.{decimals}f}"
    return shown


def small_share(value: float) -> str:
    """Two significant digits of a share, for errors and parameters: ``0.023 %``, ``3.1 %``, ``210 %``."""
    return f"{_two_digits(100 * value)} %" if math.isfinite(value) else _digits(value)


def small(value: float) -> str:
    """One or two significant digits, for deviations and tolerances: ``4e-07``, ``0.0015``, ``0.1``."""
    if not math.isfinite(value):
        return _digits(value)
    return f"{value:.0e}" if abs(value) < 1e-4 and value else f"{value:.2g}"


def duration_estimate(value: Estimate | None) -> str:
    """A time without its interval, see :func:`duration`."""
    return "–" if value is None else duration(value.value)


def duration(time_s: float) -> str:
    """``18.6 ms``, ``4.50 µs`` below a tenth of a millisecond, ``12.5 s``, ``3.20 min`` from two minutes on."""
    return "0 s" if time_s == 0 else _with_unit(time_s, None, None, "s")


def overheads(values: Mapping[str, Estimate]) -> list[str]:
    """The overhead of measuring on each kind of device, by its name; of throughput with step timing and sampling ÷
    without."""
    return [f"{device}: {_overhead(value)}" for device, value in values.items()] or ["not measured"]


def _overhead(value: Estimate) -> str:
    return f"step timing and sampling take {overhead(value)} of throughput, from {counted(value.n, 'trial')}"


def overhead(value: Estimate) -> str:
    """``0.4 % (-0.2 to 1.1 %)``; ``value``: throughput with what is measured ÷ without it."""
    taken = f"{100 - 100 * value.value + 0:.1f} %"
    if value.low is None or value.high is None:
        return taken
    return f"{taken} ({100 - 100 * value.high:.1f} to {100 - 100 * value.low:.1f} %)"


def message_size(size: int) -> str:
    """``1 KiB``, ``64 MiB``."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def whole(value: float) -> str:
    """A mean of counts, without decimals: ``1,250``."""
    return f"{value:,.0f}" if math.isfinite(value) else _digits(value)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 case``, ``12 cases``, ``1,200 entries``"""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def ranks(count: int) -> str:
    """``4 ranks``"""
    return counted(count, "rank")


def nodes(count: int) -> str:
    """``2 nodes``"""
    return counted(count, "node")


def rank_count(placement: Placement) -> str:
    """``512 on 64 nodes``; ``8`` where the ranks per node were not given."""
    return f"{placement.ranks:,} on {nodes(placement.nodes)}" if placement.ranks_per_node else f"{placement.ranks}"
