"""``check``: the newest night of a store, or of anyone's files, against its history: gather, judge, confirm, say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.checks.confirming import (
    Confirmed,
    check_head,
    check_place,
    confirm_suspects,
    last_good_commit,
    stored_pairs,
)
from harness.checks.gathering import Gathered, Which, gather
from harness.checks.gathering_ingested import gather_ingested
from harness.checks.micro_suspects import judge_ingested
from harness.checks.suspicions import Confirmation, base_trouble, left_open, of_unchanged_code
from harness.errors import UsageError
from harness.histories.reading import read_histories
from harness.pairs.trees import short_commit
from harness.storage.opening import masked, open_store
from harness.storage.store import DEFAULT_STORE, Store
from harness.sweeping import folder_beside
from harness.watch import PairWatcher
from reports.verdicts.assurance import shipped
from reports.verdicts.evidence import series_of
from reports.verdicts.findings import findings_of
from reports.verdicts.members import Member, judged
from reports.verdicts.rule import RULE, Rule
from reports.verdicts.shape import without_good_news
from reports.verdicts.subjects import Numbers, Subject
from reports.verdicts.values import WORST_FIRST, Judgement, Series

PINNED = Rule(windows=(1,), least_nights=1)
"""Where one night is the only reference there is nothing to look back over."""


@dataclass(frozen=True)
class Checked:
    """A judgement, and the series it is of."""

    judgement: Judgement
    series: tuple[Series, ...]


def check_sweep(place: str, which: Which, confirmation: Confirmation, command: str, people: Console) -> Checked:
    """Judge a sweep of a store and the benchmarks ingested since the one before it; the verdicts are kept.

    Raises :class:`UsageError` and :class:`harness.errors.StoreError`.
    """
    folder = folder_beside(place, "pairs")
    store = open_store(place, create=False, upgrade=True)
    found = gather(store, which) if which.asked or store.sweep_ids() else None
    ingested = gather_ingested(store.ledger, found.earlier if found else (), found.newest if found else None)
    if found is None and ingested.night is None:
        raise UsageError(f"store {place} holds nothing to judge; run `python -m harness sweep` first")
    sweep = Confirmed(()) if found is None else _judge_sweep(found, which, confirmation, store, folder, people)
    micro = judge_ingested(ingested, confirmation, store.ledger, folder)
    if found is not None and which.baseline is None:
        store.ledger.keep_verdicts(found.newest.night, [verdict for _, _, verdict in sweep.members])
    if ingested.tonight:
        store.ledger.keep_verdicts(ingested.tonight, [verdict for _, _, verdict in micro.members])
    store.close()
    where = found.info.environment if found else None
    extra = sweep.extra_trials + micro.extra_trials
    return checked(
        (*sweep.members, *micro.members),
        quoted=which.baseline is None,
        judged=found.newest.night if found else ingested.night,
        started_at=found.newest.started_at if found else None,
        commit=where.commit if where else None,
        base_commit=(sweep.base or micro.base) if extra else None,
        machine=where.machine if where else None,
        trials=(found.trials if found else 0) + ingested.runs,
        extra_trials=extra,
        command=command,
        again=_again(place, which.suite),
    )


def _again(place: str, suite: str | None) -> tuple[str, ...]:
    store = () if place == DEFAULT_STORE else ("--store", masked(place))
    return (*store, *(("--suite", suite) if suite else ()))


def check_files(history: Path, current: Path, pairs: Path | None, command: str) -> Checked:
    """Judge anyone's numbers. Raises :class:`UsageError`."""
    series = read_histories(history, current, pairs)
    members = judged([(Subject(one.name, one.metric, one.name, one.name, 0), one) for one in series], RULE)
    nights = [one.newest.night for one in series if one.newest]
    return checked(
        members,
        judged=f"night {nights[0]}" if nights else str(current),
        trials=sum(len(one.newest.logs) for one in series if one.newest),
        extra_trials=2 * sum(len(one.pairs) for one in series),
        from_files=True,
        command=command,
    )


def _judge_sweep(
    found: Gathered, which: Which, confirmation: Confirmation, store: Store, folder: Path, people: Console
) -> Confirmed:
    rule = RULE if found.pinned is None else PINNED

    def members(pairs: Mapping[str, Numbers]) -> list[Member]:
        series = series_of(found.cases, found.newest, found.past, found.judged, pairs, found.pinned)
        return without_good_news(judged(series, rule))

    screened = members({})
    suspects = [member for member in screened if member[2].status == "suspect"]
    base = _base_of(found, suspects) if confirmation.base_rev is None else short_commit(confirmation.base_rev)
    if base is not None and base == found.newest.commit:
        return Confirmed(of_unchanged_code(screened, base), base)
    stored = stored_pairs(store.ledger, found.newest.night, found.newest.commit, base)
    known = members(stored.numbers) if stored.trials else screened
    if not suspects or not confirmation.wanted:
        return Confirmed(known, base, stored.trials)
    environment = found.info.environment
    check_head(environment.commit, changed=bool(environment.changed_files))
    check_place(environment.place)
    why_not = base_trouble(base, asked=confirmation.base_rev is not None)
    if base is None or why_not:
        return Confirmed(left_open(known, why_not))
    with PairWatcher(people, 2 * sum(verdict.pairs_wanted for _, _, verdict in suspects)) as watcher:
        return confirm_suspects(
            found.newest.night, found.info.plan.cases, base, environment.id, store.ledger, members, folder, watcher
        )  # fmt: skip


def _base_of(found: Gathered, suspects: Sequence[Member]) -> str | None:
    """The baseline's own commit, where one night is the only reference; else that of the last good night."""
    if found.pinned is not None:
        return next((night.commit for night in found.past if night.night == found.pinned), None)
    return last_good_commit(suspects, found.past, found.judged, max(RULE.windows) - 1)


def checked(members: Sequence[Member], *, quoted: bool = True, **about: Any) -> Checked:
    """``quoted``: the rule's measured rates are of this kind of check. ``about``: the judgement's other fields."""
    ranked = sorted(members, key=lambda one: (WORST_FIRST.index(one[2].status), -abs(one[2].change_pct or 0)))
    judgement = Judgement(
        verdicts=tuple(verdict for _, _, verdict in ranked),
        findings=findings_of([(subject, verdict) for subject, _, verdict in ranked]),
        assurance=shipped() if quoted else None,
        **about,
    )
    return Checked(judgement, tuple(series for _, series, _ in ranked))
