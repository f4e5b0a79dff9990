"""``check --calibrate``: how often the rule is wrong and what it finds, on made-up histories and on a store's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from harness.commands.shared import command, print_json
from harness.errors import EXIT_OK, StoreError, UsageError
from harness.gathering import gather
from harness.opening import open_store
from harness.report import write_whole
from reports.verdicts.assurance import Kept, assurance_of, fingerprint
from reports.verdicts.calibration import LATER, Calibration, Maker, Share, calibrate, made_up, resampled
from reports.verdicts.evidence import series_of
from reports.verdicts.generator import WORLDS
from reports.verdicts.rule import RULE
from reports.verdicts.values import Series

SLOWDOWNS = (0.02, 0.033, 0.05, 0.1, 0.2)
OWN_CHECKS = 3_000
"""A store's own history holds so few nights that more draws say nothing more."""


def calibrate_store(
    place: str, suite: str | None, checks: int, keep: Path | None, people: Console, paper: Console, *, as_json: bool
) -> int:
    """Measure, print, and keep what verdicts quote. A store without history is no hindrance, and said."""
    found, without = [], ""
    for name, world in WORLDS.items():
        found += _measured(f"made-up histories, {name} noise", partial(made_up, world), checks, people)
    try:
        own = _own_series(place, suite)
    except (StoreError, UsageError) as problem:
        own, without = (), f"not on a history of your own: {problem}"
    if own:
        found += _measured(f"the history of {place}", partial(resampled, own), min(checks, OWN_CHECKS), people)
        if len(found) == len(WORLDS):
            without = "not on a history of your own: no series has 15 nights of two trials"
    assurance = assurance_of(found[: len(WORLDS)], command())
    if keep is not None:
        write_whole(keep, Kept(rule=fingerprint(RULE), assurance=assurance).model_dump_json(indent=2) + "\n")
    if as_json:
        document = {"calibrations": [one.model_dump() for one in found], "assurance": assurance.model_dump()}
        print_json({**document, "rule": RULE.model_dump(), "own_history": without or None})
        return EXIT_OK
    for one in found:
        paper.print(_table(one))
    if without:
        paper.print(without, markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK


def _own_series(place: str, suite: str | None) -> tuple[Series, ...]:
    store = open_store(place, create=False, upgrade=True)
    found = gather(store, suite)
    store.close()
    return tuple(one for _, one in series_of(found.cases, found.newest, found.past, found.judged, {}))


def _measured(what: str, make: Maker, checks: int, people: Console) -> list[Calibration]:
    found = []
    with Progress(console=people, transient=True, disable=not people.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        for one in calibrate(make, what, checks, SLOWDOWNS, RULE):
            if isinstance(one, float):
                bar.update(task, completed=one)
            else:
                found.append(one)
    return found


def _table(one: Calibration) -> Table:
    """False alarms and what they cost, then what is found by when."""
    table = Table(title=one.source, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name in ("slowdown", *(f"found within {more} more night{'s' * (more != 1)}" for more in LATER)):
        table.add_column(name, justify="right")
    by_size: dict[float, list[Share]] = {}
    for power in one.powers:
        by_size.setdefault(power.slowdown_pct, []).append(power.found)
    for size, shares in by_size.items():
        table.add_row(f"{size:.1f} %", *(_told(share) for share in shares))
    alarms = one.false_alarms
    table.caption = (
        f"{alarms.of:,} checks of unchanged series: {alarms.count} false alarms = {_told(alarms, 3)}; "
        f"{_told(one.suspects)} suspected, {100 * one.extra_trials:.0f} % extra trials; "
        f"{_told(one.improved, 2)} called improved"
    )
    table.caption_justify = "left"
    return table


def _told(share: Share, digits: int = 1) -> str:
    return f"{100 * share.value:.{digits}f} % ({100 * share.low:.{digits}f}–{100 * share.high:.{digits}f})"
