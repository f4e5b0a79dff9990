"""What a report is asked to foretell, as it was said on the command line."""

from __future__ import annotations

import re

from harness.errors import UsageError
from reports.analysis.communication_paths import LinkSpec

BIT_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
RATE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)bit(?:/s)?", re.IGNORECASE)
LATENCY_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(s|ms|us|µs|ns)")
MAX_RANKS = 1_000_000


def parse_rank_counts(text: str | None) -> tuple[int, ...]:
    """``8,64,1024``. Raises :class:`UsageError`."""
    try:
        counts = tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--predict {text}: expected rank counts, for example 8,64,1024") from None
    if any(not 1 <= count <= MAX_RANKS for count in counts):
        raise UsageError(f"--predict {text}: a rank count is between 1 and {MAX_RANKS}")
    return tuple(sorted(set(counts)))


def parse_ranks_per_node(count: int | None) -> int | None:
    """Ranks a node. Raises :class:`UsageError`."""
    if count is not None and not 1 <= count <= MAX_RANKS:
        raise UsageError(f"--ranks-per-node {count}: a node holds between 1 and {MAX_RANKS} ranks")
    return count


def parse_link(text: str | None) -> LinkSpec | None:
    """``100Gbit,5us``: the rate of the link between nodes, and the latency of a message. Raises :class:`UsageError`."""
    if text is None:
        return None
    rate_text, _, latency_text = text.replace(" ", "").partition(",")
    rate, latency = RATE_PATTERN.fullmatch(rate_text), LATENCY_PATTERN.fullmatch(latency_text)
    if rate is None or latency is None:
        raise UsageError(f"--link {text}: expected a rate and a latency, for example 100Gbit,5us")
    bytes_s = float(rate[1]) * BIT_PREFIXES[rate[2].lower()] / 8
    if bytes_s == 0:
        raise UsageError(f"--link {text}: a link carries more than nothing")
    return LinkSpec(label=text, bytes_s=bytes_s, latency_s=float(latency[1]) * SECONDS_PER_UNIT[latency[2]])
