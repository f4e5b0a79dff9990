"""Confirming a night's suspects: pairs of head and base until each has its answer, as many as the rule asks for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.case import Case
from harness.errors import UsageError
from harness.ledger import Ledger, PairTrial
from harness.pairing import Watcher, interleave, two_sides
from harness.sides import Side
from harness.trees import Tree, find_commit, head_tree
from reports.verdicts.evidence import Judged, NightFacts
from reports.verdicts.measures import measures_of
from reports.verdicts.subjects import Numbers, Subject
from reports.verdicts.values import Series, Verdict

SHORT = 12
"""Characters of a commit's id, as everywhere here."""

Member = tuple[Subject, Series, Verdict]
Judge = Callable[[Mapping[str, Numbers]], Sequence[Member]]
"""Numbers of the pairs by side → every subject with its verdict."""


@dataclass(frozen=True)
class Confirmed:
    """Every subject with its verdict, the base that suspects were held against, and the trials that took."""

    members: Sequence[Member]
    base: str | None = None
    extra_trials: int = 0


@dataclass
class Pairs:
    """The pairs of a night against one base, as they come."""

    numbers: dict[str, dict[str, dict[int, dict[str, float]]]] = field(
        default_factory=lambda: {"head": defaultdict(dict), "base": defaultdict(dict)}
    )
    next_pair: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By case key."""
    trouble: dict[str, str] = field(default_factory=dict)
    """By case key: why its last pair gave no number."""
    trials: int = 0

    def add(self, found: PairTrial) -> None:
        self.trials += 1
        self.next_pair[found.key] = max(self.next_pair[found.key], found.pair + 1)
        if found.trial.outcome == "ok":
            self.numbers[found.side][found.key][found.pair] = measures_of(found.trial)
        else:
            self.trouble[found.key] = f"{found.side} {found.commit}: {found.trial.reason}"


def confirm_suspects(
    night: str,
    cases: Sequence[Case],
    base_rev: str,
    environment: str,
    ledger: Ledger,
    judge: Judge,
    folder: Path,
    watcher: Watcher,
) -> Confirmed:
    """Run pairs until no verdict asks for more, or they give none. Every trial is stored when it ends.

    Pairs that an earlier call stored against the same two commits count. Raises :class:`UsageError`.
    """
    by_key = {case.key: case for case in cases}
    base_commit = find_commit(base_rev)[:SHORT]
    pairs = _stored(ledger, night, {"head": head_tree(), "base": Tree(path=Path(), commit=base_commit)})
    verdicts = judge(pairs.numbers)
    if not _wanted(verdicts, by_key, pairs):
        return Confirmed(verdicts, base_commit, pairs.trials)
    with two_sides(base_rev, cases, folder, environment) as (head, base):
        while wanted := _wanted(verdicts, by_key, pairs):
            before = pairs.trials
            for (first, count, decompose), keys in wanted.items():
                suspects = [by_key[key] for key in keys]
                for found in interleave(
                    night, suspects, head, base, first, count, watcher, seed=first, decompose=decompose
                ):
                    ledger.add_pair(found)
                    pairs.add(found)
            verdicts = judge(pairs.numbers)
            if pairs.trials == before or _given_up(head, base):
                break
        told = [_without_pairs(one, pairs, head, base) for one in verdicts]
    return Confirmed(told, base_commit, pairs.trials)


def _stored(ledger: Ledger, night: str, trees: Mapping[str, Tree]) -> Pairs:
    """What earlier calls measured of the same two commits; of changed files nobody knows what they were then."""
    pairs = Pairs()
    for found in ledger.pairs(night):
        tree = trees[found.side]
        if found.commit == tree.commit and not tree.changed_files:
            pairs.add(found)
        else:
            pairs.next_pair[found.key] = max(pairs.next_pair[found.key], found.pair + 1)
    return pairs


def _wanted(
    verdicts: Sequence[Member], cases: Mapping[str, Case], pairs: Pairs
) -> dict[tuple[int, int, bool], list[str]]:
    """By first pair, number of pairs, and whether the parts of a step are told apart: the cases to run."""
    needs: dict[str, tuple[int, bool]] = {}
    for subject, _, verdict in verdicts:
        if verdict.status != "suspect" or any(_hopeless(key, pairs) for key in subject.keys):
            continue
        for key in subject.keys:
            if key in cases:
                more, parts = needs.get(key, (0, False))
                missing = verdict.pairs_wanted - verdict.pairs_used
                needs[key] = (max(more, missing), parts or subject.metric == "exposed")
    found: dict[tuple[int, int, bool], list[str]] = defaultdict(list)
    for key, (more, parts) in needs.items():
        found[pairs.next_pair[key], more, parts].append(key)
    return found


def _hopeless(key: str, pairs: Pairs) -> bool:
    """Half of a case's pairs and more have failed."""
    good = len(pairs.numbers["head"].get(key, {}).keys() & pairs.numbers["base"].get(key, {}).keys())
    return pairs.next_pair[key] >= 2 and 2 * good < pairs.next_pair[key]


def _given_up(head: Side, base: Side) -> bool:
    return bool(head.why_not or base.why_not)


def _without_pairs(one: Member, pairs: Pairs, head: Side, base: Side) -> Member:
    """A suspect that could not be confirmed is inconclusive, with the reason."""
    subject, series, verdict = one
    if verdict.status != "suspect":
        return one
    trouble = next((pairs.trouble[key] for key in subject.keys if key in pairs.trouble), None)
    why = trouble or base.why_not or head.why_not or "the pairs gave no number"
    said = {"status": "inconclusive", "pairs_wanted": 0, "reason": f"{why}; {verdict.reason}"}
    return subject, series, verdict.model_copy(update=said)


def last_good_commit(verdicts: Sequence[Member], past: Sequence[NightFacts], judged: Judged) -> str | None:
    """Of the newest night on which none of the suspects had regressed; ``None`` where no such commit is known."""
    order = {night.night: place for place, night in enumerate(past)}
    suspects = [(subject, {one.night for one in series.past}) for subject, series, verdict in verdicts
                if verdict.status == "suspect"]  # fmt: skip
    for night in reversed(past):
        if night.commit and all(
            night.night in there and judged.good(subject, night, order) for subject, there in suspects
        ):
            return night.commit
    return None


def check_head(measured: str | None, *, changed: bool) -> str:
    """The running code's commit. Raises :class:`UsageError` where the newest sweep measured other code."""
    here = head_tree()
    if measured is not None and (here.commit != measured or (here.changed_files and not changed)):
        raise UsageError(
            f"--confirm: the newest sweep measured commit {measured}, and the code here is {here.title}; "
            f"`git checkout {measured}`, or sweep again"
        )
    return here.commit
