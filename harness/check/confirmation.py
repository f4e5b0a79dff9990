"""Confirmation of a night's suspects by interleaved pairs of head and base, as many as the rule needs.

Also the suspects that pairs cannot decide, because the code did not change or there is no base to compare it with.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.case import Case
from bench.host.variables import recorded_variables
from harness.check.compared_code import ComparedCode, SideSetup
from harness.check.interleaving import PairWatcherProtocol, interleave, open_sides
from harness.check.sides import Side
from harness.check.source_trees import OWN_CODE, head_tree, short_commit
from harness.errors import UsageError
from harness.planning.environment import read_environment
from harness.store.ledger import Ledger, PairTrial
from reports.analysis.rank_resources import VARIABLE_PREFIX, variable_settings
from reports.analysis.trial_measures import stored_measures
from reports.regression.evidence import describe_differences
from reports.regression.judge import JudgedSeries, is_unmistakable, resolve_suspect
from reports.regression.rule import RULE
from reports.regression.subjects import CellMeasures
from reports.regression.values import Status


@dataclass(frozen=True)
class ConfirmOptions:
    """Whether suspects are run again in pairs, and against which commit; ``None``: the last good one."""

    requested: bool = False
    base_rev: str | None = None
    setup: SideSetup = field(default_factory=SideSetup)


def resolve_unchanged_code(members: Sequence[JudgedSeries], commit: str) -> list[JudgedSeries]:
    """Resolve suspects whose code is that of the last good night: pairs would compare it with itself."""
    reason = f"the code is that of the last good night ({commit}): the machine changed"
    # A change too large for chance was caused by the machine, and hides what the code would have shown.
    return [
        resolve_suspect(member, "inconclusive" if is_unmistakable(member[2], RULE) else "pass", reason)
        for member in members
    ]


def leave_inconclusive(members: Sequence[JudgedSeries], cause: str) -> list[JudgedSeries]:
    """Resolve suspects that cannot be confirmed."""
    return [resolve_suspect(member, "inconclusive", f"{cause}; {member[2].reason}") for member in members]


def with_obstacle(member: JudgedSeries, obstacle: str) -> JudgedSeries:
    """A suspect with the reason why no pairs can be run for it here; other series stay as they are."""
    subject, series, verdict = member
    if verdict.status != "suspect" or verdict.not_confirmable or not obstacle:
        return member
    return subject, series, verdict.model_copy(update={"not_confirmable": obstacle})


PAIRS_PER_START = 2
"""Fewest pairs for which both sides are started: to load the frameworks takes as long as a short trial."""
JudgeFunction = Callable[[Mapping[str, CellMeasures]], Sequence[JudgedSeries]]
"""Numbers of the pairs by side → every subject with its verdict."""


@dataclass(frozen=True)
class ConfirmResult:
    """Every subject with its verdict, the base that suspects were compared with, and the number of trials run."""

    members: Sequence[JudgedSeries]
    base: str | None = None
    extra_trials: int = 0


@dataclass
class NightPairs:
    """The pairs of a night with one base, as they are run."""

    numbers: dict[str, dict[str, dict[int, dict[str, float]]]] = field(
        default_factory=lambda: {"head": defaultdict(dict), "base": defaultdict(dict)}
    )
    next_pair: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By case key."""
    failed: dict[str, list[PairTrial]] = field(default_factory=lambda: defaultdict(list))
    """By case key: trials without a valid number."""
    trials: int = 0

    def add(self, pair_trial: PairTrial) -> None:
        """Count a trial of a pair."""
        self.trials += 1
        self.next_pair[pair_trial.key] = max(self.next_pair[pair_trial.key], pair_trial.pair + 1)
        if pair_trial.trial.outcome == "ok":
            self.numbers[pair_trial.side][pair_trial.key][pair_trial.pair] = stored_measures(pair_trial.trial)
        else:
            self.failed[pair_trial.key].append(pair_trial)

    def hopeless(self, key: str) -> bool:
        """Whether at least two trials of a case have failed, and as many as pairs have succeeded."""
        good = self.numbers["head"].get(key, {}).keys() & self.numbers["base"].get(key, {}).keys()
        return len(self.failed[key]) >= 2 and len(self.failed[key]) >= len(good)


def stored_pairs(ledger: Ledger, night: str, head: str | None, base: str | None) -> NightPairs:
    """Pairs of a night that earlier calls stored for these two commits; none where a commit is unknown."""
    pairs = NightPairs()
    stored = ledger.pairs(night)
    # A night may have pairs with several bases; each has its own head trials.
    of_base = {(trial.key, trial.pair) for trial in stored if trial.side == "base" and trial.commit == base}
    for pair_trial in stored:
        is_side = pair_trial.commit == {"head": head, "base": base}[pair_trial.side]
        if is_side and (pair_trial.key, pair_trial.pair) in of_base:
            pairs.add(pair_trial)
        else:
            pairs.next_pair[pair_trial.key] = max(pairs.next_pair[pair_trial.key], pair_trial.pair + 1)
    return pairs


def confirm_suspects(
    night: str,
    cases: Sequence[Case],
    base_rev: str,
    environment: str,
    ledger: Ledger,
    judge: JudgeFunction,
    folder: Path,
    watcher: PairWatcherProtocol,
    code: ComparedCode = OWN_CODE,
) -> ConfirmResult:
    """Run pairs with a base, as many as :func:`run_until_decided` needs.

    Every trial is stored when it ends. Pairs that an earlier call stored for the same two commits count.

    Args:
        night: The night whose suspects are confirmed.
        cases: The cases that may be run.
        base_rev: The commit of the base.
        environment: The id of the environment, for the trials.
        ledger: Where trials are stored.
        judge: From the numbers of the pairs to verdicts.
        folder: For logs and the files of failed trials.
        watcher: Shows the progress.
        code: What the commits are of.

    Raises:
        UsageError: Where the base cannot be checked out.
    """
    by_key = {case.key: case for case in cases}
    base_commit, head_code = short_commit(base_rev, code.repository), head_tree(code)
    # Files that differ from the commit may have differed in another way in an earlier call.
    pairs = stored_pairs(ledger, night, None if head_code.changed_files else head_code.commit, base_commit)
    verdicts = judge(pairs.numbers)
    if not _pairs_to_run(verdicts, by_key, pairs):
        return ConfirmResult(
            [_resolve_without_pairs(member, pairs, "") for member in verdicts], base_commit, pairs.trials
        )

    def add(pair_trial: PairTrial) -> None:
        ledger.add_pair(pair_trial)
        pairs.add(pair_trial)

    with open_sides(base_rev, cases, folder, environment, code, watcher) as (head, base):
        verdicts = run_until_decided(night, by_key, head, base, pairs, judge, add, watcher)
        resolved = [
            _resolve_without_pairs(member, pairs, base.unavailable_reason or head.unavailable_reason or "")
            for member in verdicts
        ]
    return ConfirmResult(resolved, base_commit, pairs.trials)


def run_until_decided(
    night: str,
    cases: Mapping[str, Case],
    head: Side,
    base: Side,
    pairs: NightPairs,
    judge: JudgeFunction,
    add: Callable[[PairTrial], None],
    watcher: PairWatcherProtocol,
) -> Sequence[JudgedSeries]:
    """Run pairs until no verdict needs more, or until they give no more numbers.

    After an evaluation both sides are started anew, unless they ran fewer than :data:`PAIRS_PER_START` pairs. All ranks
    of a side are forked from one process, and what that has by chance (where its memory lies, how much of it) is the
    same in all its pairs, however many there are.

    Args:
        night: The night whose suspects are confirmed.
        cases: The cases that may be run, by key.
        head: The running code.
        base: The code to compare it with.
        pairs: The pairs so far; ``add`` adds to them.
        judge: From the numbers of the pairs to verdicts.
        add: Called with each trial when it ends.
        watcher: Shows the progress.
    """
    verdicts, pairs_of_start = judge(pairs.numbers), 0
    while wanted := _pairs_to_run(verdicts, cases, pairs):
        used = _total_pairs_used(verdicts)
        for (first, count, decompose), keys in wanted.items():
            suspects = [cases[key] for key in keys]
            for pair_trial in interleave(
                night, suspects, head, base, first, count, watcher, seed=first, decompose=decompose
            ):
                add(pair_trial)
        verdicts = judge(pairs.numbers)
        # Successful trials may still lack the number that is needed.
        if _total_pairs_used(verdicts) == used or head.unavailable_reason or base.unavailable_reason:
            break
        pairs_of_start += max(count for _, count, _ in wanted)
        if pairs_of_start >= PAIRS_PER_START:
            pairs_of_start = 0
            for side in (head, base):
                side.end_process()
    return verdicts


def _total_pairs_used(verdicts: Sequence[JudgedSeries]) -> int:
    return sum(verdict.pairs_used for _, _, verdict in verdicts)


def _pairs_to_run(
    verdicts: Sequence[JudgedSeries], cases: Mapping[str, Case], pairs: NightPairs
) -> dict[tuple[int, int, bool], list[str]]:
    """The cases to run, by first pair, number of pairs, and whether steps are decomposed."""
    needs: dict[str, tuple[int, bool]] = {}
    for subject, _, verdict in verdicts:
        if verdict.status != "suspect" or any(pairs.hopeless(key) for key in subject.keys):
            continue
        for key in subject.keys:
            if key in cases:
                more, decomposed = needs.get(key, (0, False))
                missing = verdict.pairs_wanted - verdict.pairs_used
                needs[key] = (max(more, missing), decomposed or subject.metric == "exposed")
    wanted: dict[tuple[int, int, bool], list[str]] = defaultdict(list)
    for key, (more, decomposed) in needs.items():
        wanted[pairs.next_pair[key], more, decomposed].append(key)
    return wanted


def _resolve_without_pairs(member: JudgedSeries, pairs: NightPairs, side: str) -> JudgedSeries:
    """Resolve a suspect without an answer: failed where only the running code failed, else inconclusive.

    ``side``: why one of the sides cannot be run at all.
    """
    subject, _, verdict = member
    failed = [trial for key in subject.keys for trial in pairs.failed[key]]
    head_failures = [trial for trial in failed if trial.side == "head"]
    worst = next(iter(head_failures or failed), None)
    cause = _failure(worst) if worst else side or "the pairs gave no number"
    status: Status = "failed" if len(head_failures) >= 2 and len(head_failures) == len(failed) else "inconclusive"
    return resolve_suspect(member, status, f"{cause}; {verdict.reason}")


def _failure(failed: PairTrial) -> str:
    """The reason of a failed trial, with its side, which most reasons begin with."""
    title, reason = f"{failed.side} {failed.commit}", str(failed.trial.reason)
    return reason if reason.startswith(title) else f"{title}: {reason}"


def check_head_commit(
    measured: str | None, *, changed: bool, sources: str | None = None, code: ComparedCode = OWN_CODE
) -> None:
    """Raise :class:`UsageError` where the night measured other code than is running.

    Args:
        measured: The commit of the night; ``None``: unknown.
        changed: Whether files differed from it.
        sources: The digest of what its ranks ran; ``None``: unknown.
        code: What the commit is of.
    """
    here = head_tree(code)
    if measured is not None and (here.commit != measured or (here.changed_files and not changed)):
        raise UsageError(
            f"--confirm: the newest night measured commit {measured}, and the code here is {here.title}; "
            f"`git checkout {measured}`, or sweep again"
        )
    if sources is not None and here.sources != sources:
        raise UsageError(
            f"--confirm: the ranks of the newest night ran the sources {sources}, and those here are {here.sources}; "
            "restore what they ran, or sweep again"
        )


def check_same_variables(settings: Iterable[Mapping[str, str]], given: Collection[str] = ()) -> None:
    """Raise :class:`UsageError` where the ranks of pairs would have other environment variables than those of a night.

    Args:
        settings: Of each cell that the night measured on this machine.
        given: Names of the variables that its cases give their ranks, whatever this environment has.
    """
    then = {name: value for cell in settings for name, value in cell.items() if name.startswith(VARIABLE_PREFIX)}
    now = variable_settings(recorded_variables(os.environ))
    for name in variable_settings(dict.fromkeys(given, "")):
        then.pop(name, None)
        now.pop(name, None)
    if differences := describe_differences(now, then):
        raise UsageError(f"--confirm: the newest sweep had other variables ({differences}); set them as they were")


def check_same_machine(place: Mapping[str, str], code: ComparedCode = OWN_CODE) -> None:
    """Raise :class:`UsageError` where the sweep ran on another machine or with other versions."""
    if differences := describe_differences(read_environment(code.repository).place, place):
        raise UsageError(f"--confirm: the newest sweep ran elsewhere ({differences}); confirm it there, or sweep here")
