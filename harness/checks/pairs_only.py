"""``check --pairs-only``: the cases of a suite under this code and another commit, in turn; no history is needed.

What a pull request asks: every case counts as suspect until the pairs have answered.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from bench.registry import survey
from harness.checks.checking import Checked, checked
from harness.checks.confirming import confirm_suspects
from harness.environment import read_environment
from harness.errors import UsageError
from harness.pairs.trees import head_tree, short_commit
from harness.plan import Plan
from harness.run import new_sweep_id, now
from harness.storage.opening import open_store
from harness.sweeping import choose_suite, find_site, folder_beside, place_in, plan, prepare_data
from harness.watch import PairWatcher
from reports.verdicts.evidence import paired
from reports.verdicts.members import Member, judged
from reports.verdicts.rule import RULE
from reports.verdicts.shape import without_good_news
from reports.verdicts.subjects import Numbers, Subject
from reports.verdicts.values import Series


def check_pairs(suite: str, base_rev: str, place: str, command: str, people: Console) -> Checked:
    """Run and judge them; the trials are stored. Raises :class:`UsageError`."""
    ours = head_tree()
    if ours.commit == short_commit(base_rev) and not ours.changed_files:
        raise UsageError(f"--base-rev {base_rev} is the commit that is checked out; name the one to compare with")
    chosen = choose_suite(suite, {}, None)
    found = prepare_data(plan(chosen, find_site("local"), place_in(suite, {}, None)), survey()[1], people)
    environment = read_environment()
    began, night = now(), new_sweep_id()
    store = open_store(place, create=True)

    def members(pairs: Mapping[str, Numbers]) -> list[Member]:
        return without_good_news(judged(paired(found.cases, pairs), RULE, by_pairs_only=True))

    with PairWatcher(people, 2 * RULE.looks[0] * len(found.cases)) as watcher:
        confirmed = confirm_suspects(
            night, found.cases, base_rev, environment.id, store.ledger, members,
            folder_beside(place, night), watcher,
        )  # fmt: skip
    store.close()
    return checked(
        (*confirmed.members, *_skipped(found)),
        quoted=False,
        judged=f"pairs of suite {suite}",
        started_at=began,
        commit=environment.commit,
        base_commit=confirmed.base,
        machine=environment.machine,
        extra_trials=confirmed.extra_trials,
        command=command,
    )


def _skipped(found: Plan) -> list[Member]:
    """Cases that can't run here: nobody has seen them pass."""
    series = [
        (Subject(skip.case.key, "step", skip.case.curve, skip.case.key, skip.case.ranks),
         Series(name=skip.case.key, outcome="missing", reason=skip.reason))
        for skip in found.skips
    ]  # fmt: skip
    return judged(series, RULE)
