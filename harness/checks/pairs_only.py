"""``check --pairs-only``: the cases of a suite under this code and another commit, in turn; no history is needed.

What a pull request asks: every case counts as suspect until the pairs have answered.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from bench.registry import load_plugins
from harness.checks.checking import CheckResult, build_result
from harness.checks.confirming import confirm_suspects
from harness.environment import read_environment
from harness.errors import UsageError
from harness.pairs.trees import head_tree, short_commit
from harness.plan import Plan
from harness.run import new_sweep_id
from harness.started import utc_now
from harness.storage.opening import open_store
from harness.sweeping import artifact_folder, find_site, key_locator, load_suite, plan, prepare_data
from harness.watch import PairProgress
from reports.verdicts.evidence import paired_series
from reports.verdicts.members import JudgedSeries, judge_series
from reports.verdicts.rule import RULE
from reports.verdicts.shape import pass_scaling_without_slowdown
from reports.verdicts.subjects import CellMeasures, Subject
from reports.verdicts.values import MetricSeries


def check_pairs(suite: str, base_rev: str, place: str, command: str, stderr_console: Console) -> CheckResult:
    """Run and judge them; the trials are stored. Raises :class:`UsageError`."""
    head = head_tree()
    if head.commit == short_commit(base_rev) and not head.changed_files:
        raise UsageError(f"--base-rev {base_rev} is the commit that is checked out; name the one to compare with")
    chosen = load_suite(suite, {}, None)
    suite_plan = prepare_data(
        plan(chosen, find_site("local"), key_locator(suite, {}, None)), load_plugins()[1], stderr_console
    )
    environment = read_environment()
    began, night = utc_now(), new_sweep_id()
    store = open_store(place, create=True)

    def members(pairs: Mapping[str, CellMeasures]) -> list[JudgedSeries]:
        return pass_scaling_without_slowdown(
            judge_series(paired_series(suite_plan.cases, pairs), RULE, by_pairs_only=True)
        )

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
    """Cases that can't run here: nobody has seen them pass."""
    series = [
        (
            Subject(skip.case.key, "step", skip.case.curve, skip.case.key, skip.case.ranks),
            MetricSeries(name=skip.case.key, outcome="missing", reason=skip.reason),
        )
        for skip in suite_plan.skips
    ]
    return judge_series(series, RULE)
