"""``check --calibrate``: false-alarm rate and power of the rule, on synthetic histories and on a store's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness.check.history import SweepSelection, gather_sweep
from harness.errors import OutputError, StoreError, UsageError
from harness.output_files import OutputFile, check_outputs, write_output
from harness.store.location import store_path
from harness.store.opening import open_store
from reports.analysis import formatting
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.regression.calibration import (
    DETECTION_DELAYS,
    MIN_RESAMPLED_NIGHTS,
    Calibration,
    Proportion,
    SuiteFactory,
    assurance_of,
    calibrate,
    resampled_suite,
    synthetic_suite,
)
from reports.regression.night_series import series_of
from reports.regression.rule import ASSURANCE_SIGNATURE, RULE, StoredAssurance, rule_fingerprint
from reports.regression.synthetic_histories import NOISE_MODELS
from reports.regression.values import Assurance, MetricSeries

SLOWDOWNS = (0.02, 0.03, 0.033, 0.04, 0.05, 0.06, 0.1, 0.2)
OWN_HISTORY_CHECKS = 3_000
"""Checks on a store's own history, which has too few nights for more to be informative."""


@dataclass(frozen=True)
class CalibrationReport:
    """Calibrations, the assurance that verdicts quote, and why there is none on the store's own history."""

    found: tuple[Calibration, ...]
    assurance: Assurance
    own_history_reason: str = ""
    problems: tuple[str, ...] = ()
    """Why the assurance could not be written."""

    def as_json(self) -> dict[str, Any]:
        fields = {
            "calibrations": [calibration.model_dump() for calibration in self.found],
            "assurance": self.assurance.model_dump(),
            "rule": RULE.model_dump(),
            "own_history": self.own_history_reason or None,
        }
        return versioned("calibration", fields)

    def print(self, console: Console) -> None:
        for calibration in self.found:
            console.print(_table(calibration))
        if self.own_history_reason:
            print_line(console, self.own_history_reason)


def calibrate_store(
    place: str, suite: str | None, checks: int, keep: Path | None, stderr_console: Console
) -> CalibrationReport:
    """Calibrate the rule, and write the assurance that verdicts quote to ``keep``.

    Args:
        place: The store whose history is resampled; it may have none.
        suite: Only nights of this suite.
        checks: Number of unchanged series to judge on each kind of synthetic history.
        keep: A file to write; ``None`` for none.
        stderr_console: Shows the progress.

    Raises:
        OutputError: ``keep`` can't be written, before anything is calibrated.
    """
    output = None if keep is None else OutputFile("--keep", keep, ASSURANCE_SIGNATURE)
    if output is not None:
        check_outputs([output], store_path(place))
    calibrations = []
    for name, model in NOISE_MODELS.items():
        calibrations += _run_calibration(
            f"synthetic histories with {name} noise", partial(synthetic_suite, model), checks, stderr_console
        )
    assurance = assurance_of(calibrations, f"python -m harness check --calibrate --checks {checks}")
    own_history_reason = ""
    try:
        own = _own_series(place, suite)
        on_own = _run_calibration(
            f"step times in {place}", partial(resampled_suite, own), min(checks, OWN_HISTORY_CHECKS), stderr_console
        )
        own_history_reason = (
            ""
            if on_own
            else f"not calibrated on the store's own history: no series has {MIN_RESAMPLED_NIGHTS} nights of two trials"
        )
        calibrations += on_own
    except (StoreError, UsageError) as problem:
        own_history_reason = f"not calibrated on the store's own history: {problem}"
    problems: tuple[str, ...] = ()
    if output is not None:
        stored = StoredAssurance(rule=rule_fingerprint(RULE), assurance=assurance)
        try:
            write_output(output, stored.model_dump_json(indent=2) + "\n")
        except OutputError as problem:
            problems = (str(problem),)
    return CalibrationReport(tuple(calibrations), assurance, own_history_reason, problems)


def _own_series(place: str, suite: str | None) -> tuple[MetricSeries, ...]:
    store = open_store(place, create=False, upgrade=True)
    history = gather_sweep(store, SweepSelection(suite))
    store.close()
    every = series_of(history.cases, history.newest, history.past, history.judged, {})
    # Series of series metric are judged together.
    return tuple(series for subject, series in every if subject.metric == "step")


def _run_calibration(what: str, make: SuiteFactory, checks: int, stderr_console: Console) -> list[Calibration]:
    calibrations = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr_console, transient=True, disable=not stderr_console.is_interactive) as bar:
        task = bar.add_task(what, total=1.0)
        for progress in calibrate(make, what, checks, SLOWDOWNS, RULE):
            if isinstance(progress, float):
                bar.update(task, completed=progress)
            else:
                calibrations.append(progress)
    return calibrations


def _table(calibration: Calibration) -> Table:
    """Power by size of the slowdown and number of nights; false alarms and costs in the caption."""
    table = Table(title=calibration.source, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for name in ("slowdown", *(f"found within {formatting.counted(more, 'more night')}" for more in DETECTION_DELAYS)):
        table.add_column(name, justify="right")
    by_size: dict[float, list[Proportion]] = {}
    for power in calibration.powers:
        by_size.setdefault(power.slowdown_pct, []).append(power.found)
    for size, shares in by_size.items():
        table.add_row(formatting.share(size / 100, 1), *(_percent(share) for share in shares))
    alarms = calibration.false_alarms
    table.caption = (
        f"{alarms.of:,} checks of unchanged series: {alarms.count} false alarms = {_percent(alarms, 3)}; "
        f"{_percent(calibration.suspects)} suspected, {formatting.share(calibration.extra_trials)} extra trials; "
        f"{_percent(calibration.improved, 2)} called improved"
    )
    table.caption_justify = "left"
    return table


def _percent(share: Proportion, digits: int = 1) -> str:
    return formatting.share_with_interval(share.value, share.low, share.high, digits)
