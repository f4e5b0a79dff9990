"""Changes and parts as text: ``+10.4 % (+8.9 to +11.8 %)``, ``16.7× slower (12.0–25.0×)``, and losses that add up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.analysis.formatting import UNKNOWN, number
from reports.analysis.stats import Estimate

FACTOR_FROM = 2.0
"""A change by more is a factor: -94 % is less easily read than 16.7× slower."""


def change(ratio: Estimate | None, more: str = "faster", less: str = "slower") -> str:
    """A ratio of two values: in per cent, or as a factor where it or an end of its interval exceeds 2 or falls below ½.

    Args:
        ratio: the later value ÷ the earlier one, without a unit; ``None`` where it is unknown.
        more: what a ratio above 1 means.
        less: what a ratio below 1 means.

    Returns:
        ``-12.1 % (-14.0 to -10.2 %)``, ``16.7× slower (12.0–25.0×)``; ``–`` for none.
    """
    if ratio is None:
        return "–"
    value = ratio.value
    ends: tuple[float, ...] = () if ratio.low is None or ratio.high is None else (ratio.low, ratio.high)
    if not (math.isfinite(value) and value > 0):
        return UNKNOWN
    if not exceeds_a_factor(value - 1, *(end - 1 for end in ends)):
        return relative(value - 1, *(end - 1 for end in ends))
    if value < 1:
        value, ends = 1 / value, tuple(1 / end if end > 0 else math.inf for end in reversed(ends))
    span = f" ({'–'.join(map(number, ends))}×)" if ends else ""
    return f"{number(value)}× {more if ratio.value >= 1 else less}{span}"


def exceeds_a_factor(*relative_changes: float) -> bool:
    """Whether any of these relative changes is beyond 2×, in either direction."""
    return any(not 1 / FACTOR_FROM < 1 + change < FACTOR_FROM for change in relative_changes)


def relative(change: float, low: float | None = None, high: float | None = None) -> str:
    """A relative change and its interval, 0.1 for 10 %: ``+10.4 % (+8.9 to +11.8 %)``."""
    if low is None or high is None:
        return signed_percent(change)
    return f"{signed_percent(change)} ({_signed(100 * low)} to {_signed(100 * high)} %)"


def size(change: float, low: float | None = None, high: float | None = None, unit: str = "%") -> str:
    """A relative change without its sign, for a phrase that says the direction: ``10.4 % (8.9–11.8 %)``; with signs
    where the interval contains 0. ``unit``: ``points`` for the difference of two shares."""
    if low is None or high is None:
        return f"{100 * abs(change):,.1f} {unit}"
    if low * high < 0:
        return f"{100 * abs(change):,.1f} {unit} ({_signed(100 * low)} to {_signed(100 * high)} {unit})"
    ends = sorted((100 * abs(low), 100 * abs(high)))
    return f"{100 * abs(change):,.1f} {unit} ({'–'.join(f'{end:,.1f}' for end in ends)} {unit})"


def multiple(change: float, low: float | None = None, high: float | None = None) -> str:
    """A relative change, as :func:`relative`; beyond 2× the factor: ``×16.3 (×12.0 to ×25.0)``, ``÷16.3``."""
    ends = () if low is None or high is None else (low, high)
    if change <= -1 or not exceeds_a_factor(change, *ends):
        return relative(change, low, high)
    span = f" ({' to '.join(_sign_of_factor(1 + end) for end in ends)})" if ends else ""
    return f"{_sign_of_factor(1 + change)}{span}"


def signed_percent(change: float, decimals: int = 1) -> str:
    """``+10.4 %`` for 0.104; never a zero with a sign."""
    return f"{_signed(100 * change, decimals)} %" if math.isfinite(change) else UNKNOWN


def points(change: float, low: float | None = None, high: float | None = None) -> str:
    """The difference of two shares: ``+4.0 points (+2.1 to +5.9 points)``"""
    span = "" if low is None or high is None else f" ({_signed(100 * low)} to {_signed(100 * high)} points)"
    return f"{_signed(100 * change)} points{span}" if math.isfinite(change) else UNKNOWN


def factor(value: float) -> str:
    """``16.7×``, ``2.30×``, ``0.330×``"""
    return f"{number(value)}×"


def times(ratio: Estimate) -> str:
    """A ratio as it is: ``1.31× (1.28–1.34×)``"""
    if ratio.low is None or ratio.high is None:
        return factor(ratio.value)
    return f"{factor(ratio.value)} ({number(ratio.low)}–{factor(ratio.high)})"


def parts_of_total(shares: Sequence[float], decimals: int = 0) -> tuple[tuple[str, ...], str]:
    """Shares of a whole in per cent, rounded so that they add up to their rounded total.

    Each is rounded down, and the units that are then missing go to those that lost most (largest remainders).

    Args:
        shares: 0.1 for 10 %; gains are negative.
        decimals: of the percentages.

    Returns:
        Each share, and their sum: ``("12 %", "5 %"), "17 %"``.
    """
    if not all(map(math.isfinite, shares)):
        return tuple(signed_percent(share, decimals).lstrip("+") for share in shares), UNKNOWN
    scale = 100 * 10**decimals
    total = round(math.fsum(shares) * scale)
    units = [math.floor(share * scale) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda at: units[at] - shares[at] * scale)
    for at in by_remainder[: total - sum(units)]:
        units[at] += 1
    shown = [f"{unit / 10**decimals + 0:,.{decimals}f} %" for unit in (*units, total)]
    return tuple(shown[:-1]), shown[-1]


def _sign_of_factor(ratio: float) -> str:
    if ratio <= 0:
        return "÷∞"
    return f"×{number(ratio)}" if ratio >= 1 else f"÷{number(1 / ratio)}"


def _signed(percent: float, decimals: int = 1) -> str:
    """With its sign. Adding 0 turns -0.0 into 0.0."""
    rounded = round(percent, decimals) + 0
    return f"{rounded:+,.{decimals}f}" if rounded else f"{0:.{decimals}f}"
