"""Values of command-line flags: shares, durations, faults, rank counts and links."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, get_args, overload

from bench.core.case import Fault, FaultKind
from bench.core.text import one_line
from harness.errors import UsageError, suggest_name
from harness.planning.limits import MAX_RANKS, MAX_SECONDS, MAX_STEPS

if TYPE_CHECKING:
    from reports.analysis.communication_paths import LinkSpec

BIT_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
RATE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)bit(?:/s)?", re.IGNORECASE)
LATENCY_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(s|ms|us|µs|ns)")
MAX_SETTINGS = {"rank": MAX_RANKS, "step": MAX_STEPS, "ms": MAX_SECONDS * 1e3}
"""Of an injected fault."""
MAX_BYTES_S = 1e15
"""Of a link."""


@overload
def split_names(texts: Sequence[str]) -> tuple[str, ...]: ...


@overload
def split_names(texts: None) -> None: ...


def split_names(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """The values of a flag that takes several, by commas and by repeating it; ``None`` for one that was not given.

    ``["ddp, fsdp", "single"]`` → ``("ddp", "fsdp", "single")``
    """
    if texts is None:
        return None
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def parse_percent(text: str, option: str = "--precision") -> float:
    """``2%`` or ``0.02`` → 0.02. Raises :class:`UsageError`."""
    try:
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UsageError(f"{option} {text}: expected a share, for example 2%") from None
    if share >= 1 and not text.endswith("%"):
        raise UsageError(f"{option} {text}: expected a share; did you mean {text}%?")
    return share


def parse_window(text: str) -> dict[str, Any]:
    """``2`` or ``auto`` → the suite's fields. Raises :class:`UsageError`."""
    if text == "auto":
        return {"adapt_window": True}
    try:
        return {"window_s": float(text), "adapt_window": False}
    except ValueError:
        raise UsageError(f"--window {text}: expected seconds, for example 2, or auto") from None


def parse_duration(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``2h`` → seconds. Raises :class:`UsageError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise UsageError(f"--budget {text}: expected a duration, for example 90s, 10m or 2h")
    return float(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[match.group(2)]


MAX_AGE_DAYS = 36_500


def parse_age(option: str, text: str) -> float:
    """``90d``, ``12h`` or ``2w`` → seconds. Raises :class:`UsageError`."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([hdw])", text)
    seconds = float(match[1]) * {"h": 3_600, "d": 86_400, "w": 604_800}[match[2]] if match else math.inf
    if seconds > MAX_AGE_DAYS * 86_400:
        raise UsageError(
            f"{option} {one_line(text, 40)}: expected an age of at most a hundred years, for example 12h, 90d or 2w"
        )
    return seconds


def parse_fault(text: str) -> Fault:
    """``kill:rank=1,step=3`` or ``slow:rank=1,ms=200``. Raises :class:`UsageError`."""
    kind, _, details = text.partition(":")
    location = f"--inject {text}"
    if kind not in get_args(FaultKind):
        raise UsageError(f"{location}: unknown kind '{kind}'{suggest_name(kind, get_args(FaultKind))}")
    settings: dict[str, Any] = {}
    for setting in filter(None, details.split(",")):
        name, _, value = setting.partition("=")
        if name not in MAX_SETTINGS:
            raise UsageError(f"{location}: unknown setting '{name}'{suggest_name(name, MAX_SETTINGS)}")
        number = float if name == "ms" else int
        try:
            settings[name] = number(value)
        except ValueError:
            raise UsageError(f"{location}: {name} = '{value}' is not a number") from None
    if "rank" not in settings:
        raise UsageError(f"{location}: the rank is missing, for example --inject {kind}:rank=1")
    if kind == "slow" and "ms" not in settings:
        raise UsageError(f"{location}: the delay is missing, for example --inject slow:rank=1,ms=200")
    if kind != "slow" and "ms" in settings:
        raise UsageError(f"{location}: {kind} takes no ms; leave it out")
    outside = next((name for name, value in settings.items() if not 0 <= value <= MAX_SETTINGS[name]), None)
    if outside:
        raise UsageError(f"{location}: {outside} must be 0 or more, and at most {MAX_SETTINGS[outside]:,.0f}")
    return Fault(kind=cast(FaultKind, kind), **settings)


def parse_rank_counts(texts: Sequence[str] | None) -> tuple[int, ...]:
    """``8,64,1024``, sorted and each once. Raises :class:`UsageError`."""
    text = ",".join(texts or ())
    try:
        counts = tuple(map(int, split_names([text])))
    except ValueError:
        raise UsageError(f"--predict {text}: expected rank counts, for example 8,64,1024") from None
    if any(not 1 <= count <= MAX_RANKS for count in counts):
        raise UsageError(f"--predict {text}: a rank count is between 1 and {MAX_RANKS}")
    return tuple(sorted(set(counts)))


def parse_ranks_per_node(count: int | None) -> int | None:
    """Ranks on a full node. Raises :class:`UsageError`."""
    if count is not None and not 1 <= count <= MAX_RANKS:
        raise UsageError(f"--ranks-per-node {count}: a node holds between 1 and {MAX_RANKS} ranks")
    return count


def parse_link(text: str | None) -> LinkSpec | None:
    """``100Gbit,5us``: the rate of the link between nodes, and the latency of a message. Raises :class:`UsageError`."""
    if text is None:
        return None
    from reports.analysis.communication_paths import LinkSpec

    rate_text, _, latency_text = text.replace(" ", "").partition(",")
    rate, latency = RATE_PATTERN.fullmatch(rate_text), LATENCY_PATTERN.fullmatch(latency_text)
    if rate is None or latency is None:
        raise UsageError(f"--link {text}: expected a rate and a latency, for example 100Gbit,5us")
    bytes_s = float(rate[1]) * BIT_PREFIXES[rate[2].lower()] / 8
    if not 0 < bytes_s <= MAX_BYTES_S:
        raise UsageError(
            f"--link {text[:80]}: the rate of a link is above 0, and at most {MAX_BYTES_S * 8e-12:,.0f} Tbit"
        )
    latency_s = float(latency[1]) * SECONDS_PER_UNIT[latency[2]]
    if latency_s > MAX_SECONDS:
        raise UsageError(f"--link {text[:80]}: the latency of a link is at most {MAX_SECONDS:,.0f} s")
    return LinkSpec(label=text, bytes_s=bytes_s, latency_s=latency_s)
