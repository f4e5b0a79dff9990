"""``check``: judge the newest night of a store or of CSV files against its history.

``check --pairs-only`` needs no history: the cases of a suite are run in interleaved pairs under this code and another
commit, and each counts as suspect until its pairs give an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.check.compared_code import SideSetup, code_of_plan, code_of_sweep
from harness.check.confirmation import (
    ConfirmOptions,
    ConfirmResult,
    confirm_suspects,
    with_obstacle,
)
from harness.check.history import SweepSelection
from harness.check.ingested import gather_ingested
from harness.check.ingested_verdicts import judge_ingested, save_ingested_verdicts
from harness.check.source_trees import head_tree, short_commit
from harness.check.sweep_night import PlacedHistory, SweepNight, at_place, gather_night
from harness.check.sweep_verdicts import judge_sweep
from harness.errors import UsageError
from harness.importers.night_csv import read_histories
from harness.planning.environment import read_environment
from harness.planning.plan import Plan
from harness.sites.base.running_trial import utc_now
from harness.store import DEFAULT_STORE
from harness.store.artifacts import artifact_folder
from harness.store.location import store_label
from harness.store.opening import open_store
from harness.store.store import Store
from harness.sweep.beginning import new_sweep_id
from harness.sweep.data import prepare_data
from harness.sweep.plan import SuiteRequest, plan_sweep
from harness.sweep.progress import PairProgress
from reports.regression.evidence import describe_differences
from reports.regression.findings import findings_of
from reports.regression.judge import JudgedSeries, judge_series
from reports.regression.night_series import paired_series
from reports.regression.rule import RULE, shipped_assurance
from reports.regression.subjects import CellMeasures, Subject
from reports.regression.values import WORST_FIRST, Judgement, MetricSeries

log = logging.getLogger("scaling_harness")


@dataclass(frozen=True)
class CheckResult:
    """A judgement with the series it is based on."""

    judgement: Judgement
    series: tuple[MetricSeries, ...]


def check_sweep(
    place: str, which: SweepSelection, confirmation: ConfirmOptions, command: str, stderr_console: Console
) -> CheckResult:
    """Judge a sweep of a store and the benchmarks ingested since the sweep before it; the verdicts are stored.

    Args:
        place: The store.
        which: The sweep to judge, and what to compare it with.
        confirmation: Whether suspects are run again in pairs, and against which commit.
        command: The command line, for the judgement.
        stderr_console: Shows the progress of pairs.

    Raises:
        UsageError: Where there is nothing to judge, or pairs cannot be run here.
        StoreError: Where the store cannot be read or written.
    """
    folder = artifact_folder(place, "pairs")
    store = open_store(place, create=False, upgrade=True)
    night = gather_night(store, which) if which.explicit or store.sweep_ids() else None
    newest = night.newest if night else None
    ingested = gather_ingested(
        store.ledger,
        newest.earlier if newest else (),
        newest.newest if newest else None,
        alone=which.sweep is not None,
    )
    if newest is None and ingested.night is None:
        raise UsageError(f"store {store_label(place)} holds nothing to judge; run `python -m harness sweep` first")
    sweeps = _judge_night(night, confirmation, store, folder, stderr_console) if night else ()
    ingested_result = judge_ingested(ingested, confirmation, store.ledger, folder)
    if which.baseline is None:
        for number, (placed, result) in enumerate(sweeps):
            # What was judged where it ran stands: its pairs may have had another base.
            if number == 0 or not store.ledger.verdicts(placed.history.newest.night):
                store.ledger.save_verdicts(placed.history.newest.night, [verdict for _, _, verdict in result.members])
    save_ingested_verdicts(ingested, ingested_result, store.ledger)
    store.close()
    environment_info = newest.info.environment if newest else None
    results = [*(result for _, result in sweeps), ingested_result]
    extra_trials_total = sum(result.extra_trials for result in results)
    labels = {item.subject.name: item.label for item in ingested.series}
    return build_result(
        (
            *(at_place(member, placed.label) for placed, result in sweeps for member in result.members),
            *(night.missing if night else ()),
            *(at_place(member, labels[member[0].name]) for member in ingested_result.members),
        ),
        with_assurance=which.baseline is None,
        judged=newest.newest.night if newest else ingested.night,
        started_at=newest.newest.started_at if newest else None,
        commit=environment_info.commit if environment_info else None,
        base_commit=next((result.base for result in results if result.base), None) if extra_trials_total else None,
        machine=environment_info.machine if environment_info else None,
        trials=sum(placed.history.trials for placed, _ in sweeps) + ingested.runs,
        extra_trials=extra_trials_total,
        command=command,
        again=_repeat_options(place, which.suite),
        selected=_selection_options(which),
    )


def _repeat_options(place: str, suite: str | None) -> tuple[str, ...]:
    store = () if place == DEFAULT_STORE else ("--store", store_label(place))
    return (*store, *(("--suite", suite) if suite else ()))


def _selection_options(which: SweepSelection) -> tuple[str, ...]:
    named = {"--sweep": which.sweep, "--baseline": which.baseline}
    return tuple(word for option, value in named.items() if value is not None for word in (option, value))


def _judge_night(
    night: SweepNight,
    confirmation: ConfirmOptions,
    store: Store,
    folder: Path,
    stderr_console: Console,
) -> list[tuple[PlacedHistory, ConfirmResult]]:
    """Judge each place by its own history. Pairs are run for the suspects of this place only, if the night has it."""
    repository = code_of_sweep(night.newest.info, confirmation.setup).repository
    here = read_environment(repository).place if len(night.histories) > 1 else {}
    elsewhere = {
        placed.history.newest.night: describe_differences(here, placed.history.newest.place)
        for placed in night.histories
        if here
    }
    results = []
    for placed in night.histories:
        name = placed.history.newest.night
        if here and elsewhere[name] and not all(elsewhere.values()):
            there = replace(confirmation, requested=False)
            result = judge_sweep(placed.history, there, store, folder, stderr_console)
            why = f"{name} ran elsewhere ({elsewhere[name]}); run `check --sweep {name} --confirm` there"
            result = replace(result, members=[with_obstacle(member, why) for member in result.members])
        else:
            result = judge_sweep(placed.history, confirmation, store, folder, stderr_console)
        results.append((placed, result))
    return results


def check_files(history: Path, current: Path, pairs: Path | None, command: str) -> CheckResult:
    """Judge the readings of CSV files, see :mod:`harness.importers.night_csv`. Raises :class:`UsageError`."""
    series = read_histories(history, current, pairs)
    members = judge_series([(Subject(item.name, item.metric, item.name, item.name, 0), item) for item in series], RULE)
    nights = [item.newest.night for item in series if item.newest]
    return build_result(
        members,
        judged=f"night {nights[0]}" if nights else str(current),
        trials=sum(len(item.newest.logs) for item in series if item.newest),
        extra_trials=2 * sum(len(item.pairs) for item in series),
        from_files=True,
        command=command,
    )


def build_result(members: Sequence[JudgedSeries], *, with_assurance: bool = True, **fields: Any) -> CheckResult:
    """Combine verdicts to a judgement.

    ``with_assurance``: whether the measured error rates of the rule apply to this kind of check. ``fields``: other
    fields of the judgement.
    """
    ranked = sorted(members, key=lambda member: (WORST_FIRST.index(member[2].status), -abs(member[2].change_pct or 0)))
    judgement = Judgement(
        verdicts=tuple(verdict for _, _, verdict in ranked),
        findings=findings_of([(subject, verdict) for subject, _, verdict in ranked]),
        assurance=shipped_assurance() if with_assurance else None,
        **fields,
    )
    return CheckResult(judgement, tuple(series for _, series, _ in ranked))


def check_pairs(
    suite: str, base_rev: str, setup: SideSetup, place: str, command: str, stderr_console: Console
) -> CheckResult:
    """Run the cases of a suite in interleaved pairs with ``base_rev`` and judge them. Raises :class:`UsageError`."""
    planned = plan_sweep(SuiteRequest(suite))
    code = code_of_plan(
        [*planned.plan.cases, *(skip.case for skip in planned.plan.skips)], planned.suite.plugins, setup
    )
    if code.own and any(case.program is not None for case in planned.plan.cases):
        log.warning(
            "git tracks none of these programs: the commits are those of this project, %s", code.repository.root
        )
    head = head_tree(code)
    if head.commit == short_commit(base_rev, code.repository) and not head.changed_files:
        raise UsageError(f"--base-rev {base_rev} is the commit that is checked out; name another one to compare with")
    suite_plan = prepare_data(planned.plan, planned.plugins.workloads, stderr_console)
    environment = read_environment(code.repository)
    began, night = utc_now(), new_sweep_id()
    store = open_store(place, create=True)

    def members(pairs: Mapping[str, CellMeasures]) -> list[JudgedSeries]:
        return judge_series(paired_series(suite_plan.cases, pairs), RULE, by_pairs_only=True)

    with PairProgress(stderr_console, 2 * RULE.looks[0] * len(suite_plan.cases)) as watcher:
        confirmed = confirm_suspects(
            night,
            suite_plan.cases,
            base_rev,
            environment.id,
            store.ledger,
            members,
            artifact_folder(place, night),
            watcher,
            code,
        )
    store.close()
    return build_result(
        (*confirmed.members, *_skipped_series(suite_plan)),
        with_assurance=False,
        judged=f"pairs of suite {suite}",
        started_at=began,
        commit=environment.commit,
        base_commit=confirmed.base,
        machine=environment.machine,
        extra_trials=confirmed.extra_trials,
        command=command,
    )


def _skipped_series(suite_plan: Plan) -> list[JudgedSeries]:
    """Cases that cannot run here, as missing: they were not seen to pass."""
    series = [
        (
            Subject(skip.case.key, "step", skip.case.curve, skip.case.key, skip.case.ranks),
            MetricSeries(name=skip.case.key, outcome="missing", reason=skip.reason),
        )
        for skip in suite_plan.skips
    ]
    return judge_series(series, RULE)
