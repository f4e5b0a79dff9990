"""``check``: the newest night of a store, or of anyone's files, against its history: gather, judge, confirm, say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.confirming import Confirmed, Member, check_head, confirm_suspects, last_good_commit
from harness.gathering import Gathered, gather
from harness.gathering_ingested import gather_ingested
from harness.histories import read_histories
from harness.micro_suspects import confirm_micro
from harness.opening import open_store
from harness.store import Store
from harness.sweeping import folder_beside
from harness.watch import PairWatcher
from reports.verdicts.assurance import shipped
from reports.verdicts.evidence import series_of
from reports.verdicts.findings import findings_of
from reports.verdicts.judge import is_unmistakable, judge
from reports.verdicts.rule import RULE, Rule
from reports.verdicts.subjects import Numbers, Subject
from reports.verdicts.values import WORST_FIRST, Judgement, Series

PINNED = Rule(windows=(1,), least_nights=1)
"""Where one night is the only reference there is nothing to look back over."""


@dataclass(frozen=True)
class Checked:
    """A judgement, and the series it is of."""

    judgement: Judgement
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Confirmation:
    """Whether suspects are run again, and against what; ``None``: the last good commit."""

    wanted: bool = False
    base_rev: str | None = None


def check_store(
    place: str,
    suite: str | None,
    baseline: str | None,
    confirmation: Confirmation,
    command: str,
    people: Console,
) -> Checked:
    """Judge the newest sweep of a store and the benchmarks ingested since the one before it; the verdicts are kept.

    Raises :class:`UsageError` and :class:`harness.errors.StoreError`.
    """
    folder = folder_beside(place, "pairs")
    store = open_store(place, create=False, upgrade=True)
    sweeps = store.ledger.nights(suite)
    label, ingested = gather_ingested(store.ledger, sweeps)
    found = gather(store, suite, baseline) if sweeps or label is None else None
    sweep = Confirmed(()) if found is None else _judge_sweep(found, baseline, confirmation, store, folder, people)
    micro = Confirmed(judged(ingested, RULE))
    if confirmation.wanted:
        micro = confirm_micro(micro.members, confirmation.base_rev or sweep.base, folder)
    members = (*sweep.members, *micro.members)
    if found is not None:
        store.ledger.keep_verdicts(found.newest.night, [verdict for _, _, verdict in sweep.members])
    if label is not None and micro.members:
        store.ledger.keep_verdicts(label, [verdict for _, _, verdict in micro.members])
    environments = store.ledger.environments() if found else {}
    store.close()
    where = environments[found.info.environment.id] if found else None
    runs = sum(len(series.newest.logs) for _, series, _ in micro.members if series.newest)
    return checked(
        members,
        judged=found.newest.night if found else str(label),
        started_at=found.newest.started_at if found else None,
        commit=where.commit if where else None,
        base_commit=_other_than(where.commit if where else None, sweep.base or micro.base),
        machine=where.machine if where else None,
        trials=(found.trials if found else 0) + runs,
        extra_trials=sweep.extra_trials + micro.extra_trials,
        command=command,
    )


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
        command=command,
    )


def _judge_sweep(
    found: Gathered, baseline: str | None, confirmation: Confirmation, store: Store, folder: Path, people: Console
) -> Confirmed:
    only = None if baseline is None else store.sweep(baseline).id
    rule = RULE if only is None else PINNED

    def members(pairs: Mapping[str, Numbers]) -> tuple[Member, ...]:
        return judged(series_of(found.cases, found.newest, found.past, found.judged, pairs, only), rule)

    screened = members({})
    suspects = [member for member in screened if member[2].status == "suspect"]
    good = last_good_commit(suspects, found.past, found.judged)
    base = confirmation.base_rev or good
    same_code = base is not None and base == found.newest.commit
    if not suspects or same_code or not confirmation.wanted:
        return Confirmed(_of_unchanged_code(screened, good) if same_code else screened, base)
    if base is None:
        return Confirmed(_without_base(screened))
    info = found.info
    check_head(info.environment.commit, changed=bool(info.environment.changed_files))
    with PairWatcher(people, 2 * sum(verdict.pairs_wanted for _, _, verdict in suspects)) as watcher:
        return confirm_suspects(
            found.newest.night, info.plan.cases, base, info.environment.id, store.ledger, members, folder, watcher
        )  # fmt: skip


def _without_base(members: Sequence[Member]) -> tuple[Member, ...]:
    said = "no night before has a commit that can be checked out: name one with --base-rev"
    return tuple(
        (subject, series, verdict.model_copy(update={
            "status": "inconclusive", "pairs_wanted": 0, "reason": f"{said}; {verdict.reason}"
        }) if verdict.status == "suspect" else verdict)
        for subject, series, verdict in members
    )  # fmt: skip


def _of_unchanged_code(members: Sequence[Member], commit: str | None) -> tuple[Member, ...]:
    """Suspects whose code is that of the last good night: pairs would hold the same code against itself."""
    said = f"the code is that of the last good night ({commit}): the machine changed"
    found = []
    for subject, series, verdict in members:
        if verdict.status == "suspect":
            # What chance hardly does, the machine did: then nobody can say how the code would have done.
            status = "inconclusive" if is_unmistakable(verdict, RULE) else "pass"
            told = {"status": status, "pairs_wanted": 0, "reason": said}
            verdict = verdict.model_copy(update=told)
        found.append((subject, series, verdict))
    return tuple(found)


def _other_than(commit: str | None, base: str | None) -> str | None:
    return None if base is not None and base == commit else base


def judged(series: Sequence[tuple[Subject, Series]], rule: Rule, *, by_pairs_only: bool = False) -> tuple[Member, ...]:
    """Each with its verdict."""
    verdicts = judge([one for _, one in series], rule, by_pairs_only=by_pairs_only)
    return tuple((subject, one, verdict) for (subject, one), verdict in zip(series, verdicts, strict=True))


def checked(members: Sequence[Member], **about: Any) -> Checked:
    """``about``: the other fields of a judgement."""
    ranked = sorted(members, key=lambda one: (WORST_FIRST.index(one[2].status), -abs(one[2].change_pct or 0)))
    judgement = Judgement(
        verdicts=tuple(verdict for _, _, verdict in ranked),
        findings=findings_of([(subject, verdict) for subject, _, verdict in ranked]),
        assurance=shipped(),
        **about,
    )
    return Checked(judgement, tuple(series for _, series, _ in ranked))
