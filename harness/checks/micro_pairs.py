"""Interleaved pairs of micro-benchmarks: fresh processes of pytest over two trees, in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.value import FrozenModel
from harness.ingesting import read_pytest_benchmark
from harness.micro import MicroRun, run_once
from harness.pairs.pairing import MAX_FAILED_PAIRS, side_order
from harness.pairs.sides import SideName
from harness.pairs.trees import SourceTree


class MicroPair(FrozenModel):
    """One benchmark on both sides: of each the median of a fresh process, in seconds."""

    benchmark: str
    pair: int
    """Counts from 0."""
    head_s: float | None
    base_s: float | None
    reason: str = ""
    """Why a side gave no number."""


def interleave_micro(
    names: Sequence[str], head: SourceTree, base: SourceTree, folder: Path, first_pair: int, pairs: int
) -> Iterator[MicroPair]:
    """Pairs ``first_pair`` and the next of the benchmarks, by their full names. All are run in one process a side.

    The benchmarks are the running code's on both sides, so that only what they call can differ. ``folder``: for
    pytest-benchmark's files. Raises :class:`harness.errors.UsageError` where pytest-benchmark is not installed.
    """
    trees: dict[SideName, SourceTree] = {"head": head, "base": base}
    remaining, failures_in_a_row = list(names), dict.fromkeys(names, 0)
    for pair in range(first_pair, first_pair + pairs):
        if not remaining:
            return
        runs = {
            side: run_once(folder / f"micro-{pair}-{side}.json", remaining, tree=trees[side].path)
            for side in side_order(pair)
        }
        for name in remaining:
            micro_pair = make_micro_pair(name, pair, runs["head"], runs["base"])
            failures_in_a_row[name] = failures_in_a_row[name] + 1 if micro_pair.reason else 0
            yield micro_pair
        remaining = [name for name in remaining if failures_in_a_row[name] < MAX_FAILED_PAIRS]


def make_micro_pair(name: str, pair: int, head: MicroRun, base: MicroRun) -> MicroPair:
    """What both runs say of one benchmark (pure but for the files it reads)."""
    head_s, base_s = medians_s(head).get(name), medians_s(base).get(name)
    reasons = [
        f"{side}: {run.failed.get(name) or run.reason or 'gave no number'}"
        for side, run, value_s in (("head", head, head_s), ("base", base, base_s))
        if value_s is None
    ]
    return MicroPair(benchmark=name, pair=pair, head_s=head_s, base_s=base_s, reason="; ".join(reasons))


def medians_s(run: MicroRun) -> dict[str, float]:
    """By benchmark; none where the process gave no file."""
    if run.file is None:
        return {}
    return {one.benchmark: median(one.seconds) for one in read_pytest_benchmark(run.file)}
