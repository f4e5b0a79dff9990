"""Suspects of our own micro-benchmarks are confirmed by interleaved pairs.

A pair is two fresh processes of pytest, one over each tree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.core.frozen_model import FrozenModel
from harness.check.confirmation import (
    ConfirmResult,
)
from harness.check.interleaving import MAX_FAILED_PAIRS, side_order
from harness.check.micro_benchmarks import MicroRun, run_once
from harness.check.sides import SideName
from harness.check.source_trees import SourceTree, checked_out, head_tree
from harness.importers.pytest_benchmark import read_pytest_benchmark
from reports.regression.judge import JudgedSeries, judge_series, resolve_suspect
from reports.regression.rule import RULE


class MicroPair(FrozenModel):
    """One benchmark on both sides: the median of a fresh process each, in seconds."""

    benchmark: str
    pair: int
    """Counts from 0."""
    head_s: float | None
    base_s: float | None
    reason: str = ""
    """Why a side has no number."""


def interleave_micro(
    names: Sequence[str], head: SourceTree, base: SourceTree, folder: Path, first_pair: int, pairs: int
) -> Iterator[MicroPair]:
    """Run pairs of benchmarks, all in one process a side.

    The benchmarks are those of the running code on both sides, so that only the code that they call differs.

    Args:
        names: Full names of benchmarks.
        head: The running code.
        base: The code to compare it with.
        folder: For pytest-benchmark's files.
        first_pair: Number of the first pair.
        pairs: Number of pairs.

    Raises:
        UsageError: Where pytest-benchmark is not installed.
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
    """One benchmark in the files of both runs."""
    head_s, base_s = medians_s(head).get(name), medians_s(base).get(name)
    reasons = [
        f"{side}: {run.failed.get(name) or run.reason or 'gave no number'}"
        for side, run, value_s in (("head", head, head_s), ("base", base, base_s))
        if value_s is None
    ]
    return MicroPair(benchmark=name, pair=pair, head_s=head_s, base_s=base_s, reason="; ".join(reasons))


def medians_s(run: MicroRun) -> dict[str, float]:
    """Median seconds by benchmark; empty where the process wrote no file."""
    if run.file is None:
        return {}
    return {benchmark_run.benchmark: median(benchmark_run.seconds) for benchmark_run in read_pytest_benchmark(run.file)}


def confirm_micro(
    members: Sequence[JudgedSeries], confirmable: frozenset[str], base_rev: str, folder: Path
) -> ConfirmResult:
    """``confirmable``: names of the series that pairs are run for."""
    pairs_by_benchmark: dict[str, list[MicroPair]] = defaultdict(list)
    trials = 0
    with checked_out(base_rev) as base:
        head = head_tree()
        while requested := _next_pairs(members, confirmable, pairs_by_benchmark):
            first, count, names = requested
            for pair in interleave_micro(names, head, base, folder, first, count):
                pairs_by_benchmark[pair.benchmark].append(pair)
                trials += 2
            members = _rejudge(members, confirmable, pairs_by_benchmark)
        return ConfirmResult(_resolve_failed(members, pairs_by_benchmark), base.commit, trials)


def _next_pairs(
    members: Sequence[JudgedSeries], confirmable: frozenset[str], pairs_by_benchmark: Mapping[str, Sequence[MicroPair]]
) -> tuple[int, int, list[str]] | None:
    """First pair, number of pairs and benchmarks to run; ``None`` where none are needed, or all keep failing."""
    waiting = [
        (subject.key, verdict)
        for subject, _, verdict in members
        if verdict.status == "suspect"
        and subject.name in confirmable
        and not _keeps_failing(pairs_by_benchmark.get(subject.key, ()))
    ]
    if not waiting:
        return None
    pairs_run = min(len(pairs_by_benchmark.get(name, ())) for name, _ in waiting)
    due = [(name, verdict) for name, verdict in waiting if len(pairs_by_benchmark.get(name, ())) == pairs_run]
    return pairs_run, max(verdict.pairs_wanted - verdict.pairs_used for _, verdict in due), [name for name, _ in due]


def _keeps_failing(pairs: Sequence[MicroPair]) -> bool:
    failed = sum(bool(pair.reason) for pair in pairs)
    return failed >= 2 and 2 * failed >= len(pairs)


def _rejudge(
    members: Sequence[JudgedSeries], confirmable: frozenset[str], pairs_by_benchmark: Mapping[str, Sequence[MicroPair]]
) -> list[JudgedSeries]:
    """Judge suspects again with their pairs; other verdicts stay."""
    series = [
        (subject, item.model_copy(update={"pairs": _logs(pairs_by_benchmark.get(subject.key, ()))}))
        for subject, item, _ in members
    ]
    return [
        new if old[2].status == "suspect" and old[0].name in confirmable else old
        for old, new in zip(members, judge_series(series, RULE), strict=True)
    ]


def _resolve_failed(
    members: Sequence[JudgedSeries], pairs_by_benchmark: Mapping[str, Sequence[MicroPair]]
) -> list[JudgedSeries]:
    failed = {
        name: next((pair.reason for pair in pairs if pair.reason), None) for name, pairs in pairs_by_benchmark.items()
    }
    return [
        resolve_suspect(member, "inconclusive", f"{why}; {member[2].reason}")
        if (why := failed.get(member[0].key))
        else member
        for member in members
    ]


def _logs(pairs: Sequence[MicroPair]) -> tuple[float, ...]:
    return tuple(
        math.log(pair.head_s / pair.base_s) for pair in pairs if pair.head_s is not None and pair.base_s is not None
    )
