"""Verdicts on ingested benchmarks. Suspects of our own micro-benchmarks are confirmed by interleaved pairs.

A pair is two fresh processes of pytest, one over each tree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench.core.frozen_model import FrozenModel
from harness.check.bases import base_problem, suspects_by_base
from harness.check.confirmation import (
    ConfirmOptions,
    ConfirmResult,
    check_head_commit,
    leave_inconclusive,
    resolve_unchanged_code,
    with_obstacle,
)
from harness.check.ingested import IngestedHistory
from harness.check.ingested_series import IngestedSeries
from harness.check.interleaving import MAX_FAILED_PAIRS, side_order
from harness.check.micro_benchmarks import NAME_PREFIX, MicroRun, run_once
from harness.check.sides import SideName
from harness.check.source_trees import SourceTree, checked_out, head_tree, short_commit
from harness.importers.pytest_benchmark import read_pytest_benchmark
from harness.planning.environment import read_environment
from harness.store.ledger import Ledger
from reports.regression.evidence import EarlierVerdicts, NightFacts, describe_differences
from reports.regression.judge import JudgedSeries, judge_series, resolve_suspect
from reports.regression.rule import RULE
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries, Verdict


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


def judge_ingested(
    ingested: IngestedHistory, confirmation: ConfirmOptions, ledger: Ledger, folder: Path
) -> ConfirmResult:
    """Judge ingested benchmarks, and confirm suspects where that is requested.

    Benchmarks of other projects, and runs of another place, stay suspect, because they cannot be run again here. A
    stored answer of earlier pairs stands. Raises :class:`harness.errors.UsageError`.
    """
    by_name = {item.subject.name: item for item in ingested.series}
    members = judge_series([(item.subject, item.series) for item in ingested.series], RULE)
    members = _with_stored_answers(members, ingested, ledger)
    base_rev = None if confirmation.base_rev is None else short_commit(confirmation.base_rev)
    members = [
        _resolve_alone(member, by_name[member[0].name], base_rev, ingested.judged) if _is_suspect(member) else member
        for member in members
    ]
    suspects = [member for member in members if _is_suspect(member) and not member[2].not_confirmable]
    if not suspects:
        return ConfirmResult(members)
    past = _past_of(suspects, by_name)
    groups = {base_rev: suspects} if base_rev else suspects_by_base(suspects, past, ingested.judged)
    extra_trials = 0
    for base, group in groups.items():
        names = frozenset(subject.name for subject, _, _ in group)
        problem = base_problem(base, explicit=base_rev is not None)
        if not confirmation.requested:
            members = [with_obstacle(one, problem) if one[0].name in names else one for one in members]
        elif base is None or problem:
            members = [leave_inconclusive([one], problem)[0] if one[0].name in names else one for one in members]
        else:
            for name in names:
                check_head_commit(by_name[name].commit, changed=by_name[name].changed_files)
            confirmed = _confirm(members, names, base, folder)
            members, extra_trials = list(confirmed.members), extra_trials + confirmed.extra_trials
    return ConfirmResult(members, next(iter(groups)), extra_trials)


def save_ingested_verdicts(ingested: IngestedHistory, result: ConfirmResult, ledger: Ledger) -> None:
    """Store the verdicts of tonight's runs, each under the night of its runs."""
    if ingested.tonight is None:
        return
    by_night: dict[str, list[Verdict]] = defaultdict(list)
    for _, series, verdict in result.members:
        by_night[series.newest.night if series.newest else ingested.tonight].append(verdict)
    for night, verdicts in by_night.items():
        ledger.save_verdicts(night, verdicts)


def _is_suspect(member: JudgedSeries) -> bool:
    return member[2].status == "suspect"


def _resolve_alone(
    member: JudgedSeries, item: IngestedSeries, base_rev: str | None, judged: EarlierVerdicts
) -> JudgedSeries:
    """A suspect as it stands without pairs: settled where its code did not change, else with what pairs are up to."""
    base = base_rev or next(iter(suspects_by_base([member], item.past, judged)))
    if base is not None and base == item.commit and not item.changed_files:
        return resolve_unchanged_code([member], base)[0]
    return with_obstacle(member, _obstacle(item))


def _obstacle(item: IngestedSeries) -> str:
    """Why a benchmark cannot be run again here; empty where it can."""
    if not item.subject.key.startswith(f"{NAME_PREFIX}::"):
        return (
            "it is another project's benchmark; time both commits there in turn, and judge the numbers by "
            "`check --history H.csv --current C.csv --pairs P.csv`"
        )
    here = read_environment().place
    # pytest-benchmark spells the CPU's name in another way, and counts cores that are not usable.
    there = {name: value for name, value in item.place if name in here and name not in ("cpu", "cores")}
    if elsewhere := describe_differences({name: here[name] for name in there}, there):
        return f"it ran elsewhere ({elsewhere}); run `check --confirm` there"
    return ""


def _past_of(suspects: Sequence[JudgedSeries], by_name: Mapping[str, IngestedSeries]) -> list[NightFacts]:
    """The earlier nights of all suspects, the oldest first."""
    nights = {night.night: night for subject, _, _ in suspects for night in by_name[subject.name].past}
    return sorted(nights.values(), key=lambda night: night.started_at)


def _with_stored_answers(
    members: Sequence[JudgedSeries], ingested: IngestedHistory, ledger: Ledger
) -> list[JudgedSeries]:
    """Replace suspects by stored verdicts of the same night that pairs decided: these pairs are not stored."""
    nights = {series.newest.night for _, series, _ in members if series.newest}
    stored = {
        (night, verdict.name): verdict for night in nights for verdict in ledger.verdicts(night) if verdict.pairs_used
    }

    def answer(subject: Subject, series: MetricSeries, verdict: Verdict) -> Verdict:
        if verdict.status != "suspect" or series.newest is None:
            return verdict
        # Stored by the benchmark alone before places were part of the name.
        names = (subject.name, subject.key)
        known = next(
            (stored[series.newest.night, name] for name in names if (series.newest.night, name) in stored), None
        )
        return verdict if known is None else known.model_copy(update={"name": subject.name})

    return [(subject, series, answer(subject, series, verdict)) for subject, series, verdict in members]


def _confirm(
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
