"""The history that a check judges a sweep by, read from a store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.core.case import Case
from harness.errors import UsageError
from harness.planning.environment import Environment
from harness.store.dates import date_problem
from harness.store.ledger import Acceptance, Ledger, NightRow
from harness.store.store import Store, SweepInfo
from reports.analysis.same_work import DIFFERENT_WORK
from reports.analysis.trial_measures import PROGRAM_SETTING, SOURCE_PREFIX
from reports.regression.evidence import AcceptedLevel, EarlierVerdicts, NightFacts
from reports.regression.judge import NIGHTS_KEPT
from reports.regression.subjects import CellMeasures


@dataclass(frozen=True)
class SweepSelection:
    """The sweep to judge (default: the newest), perhaps of a suite, perhaps compared with one ``baseline`` only."""

    suite: str | None = None
    sweep: str | None = None
    baseline: str | None = None

    @property
    def explicit(self) -> bool:
        """Whether anything was named, which then must exist."""
        return any((self.suite, self.sweep, self.baseline))


@dataclass(frozen=True)
class SweepHistory:
    """A night with all that it is judged by."""

    info: SweepInfo
    cases: tuple[Case, ...]
    """Planned and skipped ones: a cell that is skipped now may have been measured earlier."""
    newest: NightFacts
    past: tuple[NightFacts, ...]
    """The oldest first."""
    earlier: tuple[NightRow, ...]
    """All earlier nights of the suite, on any machine."""
    judged: EarlierVerdicts
    trials: int
    pinned: str | None
    """The one night that may serve as reference."""


def gather_sweep(store: Store, which: SweepSelection) -> SweepHistory:
    """Read the history of the selected sweep. Raises :class:`UsageError` and :class:`StoreError`."""
    ledger = store.ledger
    newest, earlier = _choose(store, which)
    info = store.sweep(newest.id)
    environments = ledger.environments()
    chosen = _relevant_nights(environments, newest, earlier)
    pinned = None if which.baseline is None else _pinned(store, which.baseline, newest)
    if pinned is not None and pinned not in chosen:
        chosen = sorted([*chosen, pinned], key=lambda night: (night.started_at, night.id))
    facts = _facts(ledger, environments, [*chosen, newest])
    names = [night.id for night in (*chosen, newest)]
    outcomes = ledger.outcomes(newest.id)
    absent = {skip.case.key: skip.reason for skip in info.plan.skips}
    return SweepHistory(
        info=info,
        cases=(*info.plan.cases, *(skip.case for skip in info.plan.skips)),
        newest=_with_failures(facts[-1], outcomes, absent),
        past=tuple(facts[:-1]),
        earlier=tuple(earlier),
        judged=EarlierVerdicts(
            statuses=ledger.statuses(names),
            accepted=_accepted_levels(ledger.acceptances(), [*earlier, newest], names),
        ),
        trials=len(outcomes),
        pinned=pinned.id if pinned else None,
    )


def _choose(store: Store, which: SweepSelection) -> tuple[NightRow, list[NightRow]]:
    """The sweep to judge and those of its suite before it, the oldest first."""
    nights = [night for night in store.ledger.nights(which.suite) if not date_problem(night.started_at)]
    if which.sweep is not None:
        sweep_id = store.sweep(which.sweep).id
        _check_date(store.sweep(sweep_id))
        nights = nights[: next((place for place, night in enumerate(nights, 1) if night.id == sweep_id), 0)]
    if not nights:
        named = f" {which.sweep}" if which.sweep else ""
        suite = f" of suite '{which.suite}'" if which.suite else ""
        raise UsageError(f"the store holds no sweep{named}{suite} to judge; see the sweeps in `.runs/`, or run one")
    newest = nights[-1]
    return newest, [night for night in nights[:-1] if night.suite == newest.suite]


def misdated_sweeps(store: Store) -> dict[str, str]:
    """Sweeps whose place among the others is unknown because a clock was wrong, with the reason."""
    problems = {night.id: date_problem(night.started_at) for night in store.ledger.nights()}
    return {sweep: problem for sweep, problem in problems.items() if problem}


def _check_date(info: SweepInfo) -> None:
    if problem := date_problem(info.started_at):
        raise UsageError(
            f"sweep {info.id} is {problem}; its place among the nights is unknown: set the clock, and sweep again"
        )


def _pinned(store: Store, baseline: str, newest: NightRow) -> NightRow:
    sweep_id = store.sweep(baseline).id
    if sweep_id == newest.id:
        raise UsageError(f"--baseline {baseline} is the newest sweep itself; name an earlier one")
    return next(night for night in store.ledger.nights() if night.id == sweep_id)


def _relevant_nights(
    environments: Mapping[str, Environment], newest: NightRow, earlier: Sequence[NightRow]
) -> list[NightRow]:
    """The newest nights of the same machine and versions, and the last of another, for the reason where it is alone."""
    here = environments[newest.environment].place
    same_machine = {name for name, environment in environments.items() if environment.place == here}
    same = [night for night in earlier if night.environment in same_machine][-NIGHTS_KEPT:]
    other = [night for night in earlier if night.environment not in same_machine][-1:]
    return [night for night in earlier if night in same or night in other]


def _accepted_levels(
    acceptances: Iterable[Acceptance], nights: Sequence[NightRow], here: Sequence[str]
) -> tuple[AcceptedLevel, ...]:
    """Accepted levels by the nights of one place: a night of another place stands for the next one here.

    Args:
        acceptances: Of any place.
        nights: All nights of the suite, the oldest first.
        here: Those that are read, which ran at one place.
    """
    order = {night.id: position for position, night in enumerate(nights)}
    levels = []
    for one in acceptances:
        later = [night for night in here if order.get(one.since, -1) <= order.get(night, -1)]
        if later:
            levels.append(AcceptedLevel(one.curve, one.since if one.since in here else later[0], one.at))
    return tuple(levels)


def _facts(ledger: Ledger, environments: Mapping[str, Environment], nights: Sequence[NightRow]) -> list[NightFacts]:
    names = [night.id for night in nights]
    numbers = _measures_by_night(ledger.measures(names))
    settings: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for (sweep, key), values in ledger.settings(names).items():
        settings[sweep][key] = values
    facts = []
    for night in nights:
        where = environments[night.environment]
        facts.append(
            NightFacts(
                night=night.id,
                started_at=night.started_at,
                place=where.place,
                commit=None if where.changed_files else where.commit,
                numbers=numbers.get(night.id, {}),
                settings=settings[night.id] if where.repository is None else _without_digests(settings[night.id]),
            )
        )
    return facts


def _without_digests(settings: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The settings of cells whose program and plugins are what the commits of nights differ in (pure)."""
    return {
        key: {
            name: value.rpartition(" ")[0] if name == PROGRAM_SETTING or value.startswith(SOURCE_PREFIX) else value
            for name, value in cell.items()
        }
        for key, cell in settings.items()
    }


def _measures_by_night(rows: Iterable[tuple[str, str, int, str, float]]) -> Mapping[str, CellMeasures]:
    """By sweep: case key → round → name → value."""
    by_night: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for sweep, key, round_number, name, value in rows:
        by_night.setdefault(sweep, {}).setdefault(key, {}).setdefault(round_number, {})[name] = value
    return by_night


def _with_failures(
    night: NightFacts, outcomes: Iterable[tuple[str, int, str, str | None]], absent: dict[str, str]
) -> NightFacts:
    """Add why cells failed: by any failed trial. Contaminated trials are dropped while others remain."""
    by_key: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for key, _, outcome, reason in outcomes:
        by_key[key].append((outcome, reason))
    failures = {}
    for key, ended in by_key.items():
        count = Counter(outcome for outcome, _ in ended)
        bad = next((name for name in ("failed", "timeout", "invalid") if count[name]), None)
        contaminated_only = (
            bad == "invalid"
            and count["ok"]
            and not any(outcome == "invalid" and (reason or "").startswith(DIFFERENT_WORK) for outcome, reason in ended)
        )
        if bad is not None and not contaminated_only:
            reason = next(reason for outcome, reason in ended if outcome == bad)
            failures[key] = f"{count[bad]} of {len(ended)} trials {bad}: {reason}"
    return NightFacts(
        night.night, night.started_at, night.place, night.commit, night.numbers, night.settings, failures, absent
    )
