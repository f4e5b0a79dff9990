"""Verdicts on ingested benchmarks: what pairs can confirm here, what cannot be confirmed, and what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from harness.check.micro_benchmarks import NAME_PREFIX
from harness.check.micro_confirmation import confirm_micro
from harness.check.source_trees import short_commit
from harness.planning.environment import read_environment
from harness.store.ledger import Ledger
from reports.regression.evidence import EarlierVerdicts, NightFacts, describe_differences
from reports.regression.judge import JudgedSeries, judge_series
from reports.regression.rule import RULE
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries, Verdict


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
    # Of a night that ingested nothing, the commit may be of a user's repository.
    base_rev = None if confirmation.base_rev is None or not members else short_commit(confirmation.base_rev)
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
            confirmed = confirm_micro(members, names, base, folder)
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
