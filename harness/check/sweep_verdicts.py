"""Verdicts on a sweep by its own history, and the confirmation of its suspects by pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.check.bases import SuspectsByBase, base_of, base_problem, suspects_by_base
from harness.check.compared_code import ComparedCode, code_of_sweep
from harness.check.confirmation import (
    ConfirmOptions,
    ConfirmResult,
    JudgeFunction,
    check_head_commit,
    check_same_machine,
    check_same_variables,
    confirm_suspects,
    leave_inconclusive,
    resolve_unchanged_code,
    stored_pairs,
    with_obstacle,
)
from harness.check.history import SweepHistory
from harness.check.source_trees import short_commit
from harness.planning.environment import read_environment
from harness.sites.base.contract import DEFAULT_SITE
from harness.store.store import Store
from harness.sweep.progress import PairProgress
from reports.regression.evidence import describe_differences
from reports.regression.judge import JudgedSeries, judge_series
from reports.regression.night_series import series_of
from reports.regression.rule import RULE, Rule
from reports.regression.subjects import CellMeasures

SINGLE_NIGHT_RULE = Rule(windows=(1,), least_nights=1)
"""The rule where a single night is the reference."""


@dataclass(frozen=True)
class _Check:
    """A sweep with its history, and what its suspects are to be confirmed with."""

    history: SweepHistory
    confirmation: ConfirmOptions
    code: ComparedCode
    store: Store
    folder: Path
    stderr_console: Console

    def members(self, pairs: Mapping[str, CellMeasures]) -> list[JudgedSeries]:
        """Every subject with its verdict. ``pairs``: numbers of interleaved pairs by side."""
        history = self.history
        series = series_of(history.cases, history.newest, history.past, history.judged, pairs, history.pinned)
        return judge_series(series, RULE if history.pinned is None else SINGLE_NIGHT_RULE)


def judge_sweep(
    history: SweepHistory, confirmation: ConfirmOptions, store: Store, folder: Path, stderr_console: Console
) -> ConfirmResult:
    """Judge a sweep, and confirm suspects where that is requested, each against a base of the level it is held against.

    Args:
        history: The sweep and the nights before it.
        confirmation: Whether suspects are run again in pairs, and against which commit.
        store: Where pairs are stored.
        folder: For logs and the files of failed trials.
        stderr_console: Shows the progress of pairs.

    Raises:
        UsageError: Where pairs are requested and cannot be run here.
    """
    code = code_of_sweep(history.info, confirmation.setup)
    check = _Check(history, confirmation, code, store, folder, stderr_console)
    screened = check.members({})
    suspects = [member for member in screened if member[2].status == "suspect"]
    groups = _groups(check, suspects)
    if len(groups) < 2:
        return _settle(check, next(iter(groups), None), screened, check.members)
    results = {}
    for base in groups:

        def of_base(pairs: Mapping[str, CellMeasures], base: str | None = base) -> list[JudgedSeries]:
            return [member for member in check.members(pairs) if base_of(member[0], groups) == base]

        results[base] = _settle(check, base, of_base({}), of_base)
    settled = {member[0]: member for result in results.values() for member in result.members}
    return ConfirmResult(
        [settled[subject] for subject, _, _ in screened],
        next(iter(results)),
        sum(result.extra_trials for result in results.values()),
    )


def _groups(check: _Check, suspects: Sequence[JudgedSeries]) -> SuspectsByBase:
    history = check.history
    if check.confirmation.base_rev is not None:
        return {short_commit(check.confirmation.base_rev, check.code.repository): suspects}
    if history.pinned is not None:
        commit = next((night.commit for night in history.past if night.night == history.pinned), None)
        return {commit: suspects}
    return suspects_by_base(suspects, history.past, history.judged)


def _settle(check: _Check, base: str | None, screened: Sequence[JudgedSeries], judge: JudgeFunction) -> ConfirmResult:
    """Settle the suspects that are compared with one base. ``judge``: numbers of the pairs → these series, judged."""
    history, confirmation = check.history, check.confirmation
    if base is not None and base == history.newest.commit:
        return ConfirmResult(resolve_unchanged_code(screened, base), base)
    night, environment = history.newest.night, history.info.environment

    def explained_base() -> str:
        return base_problem(base, explicit=confirmation.base_rev is not None, repository=check.code.repository)

    stored = stored_pairs(check.store.ledger, night, history.newest.commit, base)
    with_stored_pairs = judge(stored.numbers) if stored.trials else screened
    suspects = [verdict for _, _, verdict in screened if verdict.status == "suspect"]
    if suspects and not confirmation.requested:
        problem = place_problem(environment.place, check.code) or explained_base()
        return ConfirmResult([with_obstacle(member, problem) for member in with_stored_pairs], base, stored.trials)
    if not suspects:
        return ConfirmResult(with_stored_pairs, base, stored.trials)
    sources = history.info.sources
    check_head_commit(
        environment.commit,
        changed=bool(environment.changed_files),
        sources=sources.digest if sources else None,
        code=check.code,
    )
    check_same_machine(environment.place, check.code)
    cases = history.info.plan.cases
    if not check.code.own:
        check.code.check_unchanged(cases)
    here = [case for case in cases if case.site == DEFAULT_SITE]
    given = {name for case in here for name in case.env}
    check_same_variables([history.newest.settings.get(case.key, {}) for case in here], given)
    problem = explained_base()
    if base is None or problem:
        return ConfirmResult(leave_inconclusive(with_stored_pairs, problem))
    with PairProgress(check.stderr_console, 2 * sum(verdict.pairs_wanted for verdict in suspects)) as watcher:
        return confirm_suspects(
            night, cases, base, environment.id, check.store.ledger, judge, check.folder, watcher, check.code
        )


def place_problem(place: Mapping[str, str], code: ComparedCode) -> str:
    """Why pairs of a sweep cannot be run here; empty where they can."""
    differences = describe_differences(read_environment(code.repository).place, place)
    return f"the sweep ran elsewhere ({differences}); run `check --confirm` there" if differences else ""
