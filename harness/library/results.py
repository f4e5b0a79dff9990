"""A results store for programs: its sweeps, cells, trials and steps as data frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.plugins.registry import load_plugins
from harness.configuration import find_configuration
from harness.errors import UsageError
from harness.library.frames import frame_of_columns, frame_of_rows
from harness.publish.export import read_table
from harness.reporting.report import sweep_cells
from harness.reporting.stored_trials import read_trials
from harness.store import DEFAULT_STORE, STORE_VARIABLE
from harness.store.dates import date_problem
from harness.store.location import store_label, store_path
from harness.store.opening import open_store as open_tables
from harness.store.store import Store, SweepInfo
from reports.analysis.answers import workload_answers
from reports.analysis.cells import Cell
from reports.analysis.findings import analyse_cells
from reports.formats.answer_rows import AnswerRow, answer_rows
from reports.formats.cell_rows import CellRow, cell_rows
from reports.formats.step_rows import StepRow, step_columns
from reports.formats.sweep_rows import SweepRow
from reports.formats.trial_rows import TrialRow

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

LATEST = "latest"


class TrialName(NamedTuple):
    """Which trial: the values of these columns of :meth:`ResultsStore.trials`."""

    sweep: str
    case: str
    round: int


def open_store(url: str | os.PathLike[str] | None = None) -> ResultsStore:
    """Open a results store for reading. Nothing of it is changed, and nothing stays open.

    Args:
        url: A SQLite file or a database URL, as ``--store`` takes it. Default: what the environment variable
            ``SCALING_STORE`` holds, else the store of the configuration, else ``.runs/results.sqlite`` in the current
            folder.

    Raises:
        StoreError: There is no such store, or it can't be read.
    """
    store = ResultsStore(store_url(url))
    with store.opened():
        return store


def store_url(url: str | os.PathLike[str] | None) -> str:
    """The place of a store, whatever the current folder becomes; ``None``: the default one."""
    location = _default_store() if url is None else os.fspath(url)
    path = store_path(location)
    return location if path is None or "://" in location else str(path.absolute())


def _default_store() -> str:
    return os.environ.get(STORE_VARIABLE) or find_configuration().store or DEFAULT_STORE


@dataclass(frozen=True)
class ResultsStore:
    """A results store. Every method reads what the store holds at that moment, also while a sweep runs.

    A sweep is named as in commands: by its id or the start of it, ``latest``, ``latest~1`` or a tag. The columns of the
    frames are described in the reference of the library; a value that is unknown is missing (``NA``), with the reason
    in another column. Units are in ``frame.attrs["units"]``.

    Args:
        url: A SQLite file or a database URL.
    """

    url: str = field(repr=False)

    def __repr__(self) -> str:
        """Without passwords."""
        return f"ResultsStore({store_label(self.url)!r})"

    def sweeps(self) -> pandas.DataFrame:
        """The stored sweeps, a row each, the oldest first.

        Raises:
            StoreError: The store can't be read.
        """
        with self.opened() as store:
            rows = [sweep_row(info, len(store.done(info.id))) for info in store.sweeps()]
        return frame_of_rows(SweepRow, rows)

    def answers(self, sweep: str = LATEST) -> pandas.DataFrame:
        """The answers of a sweep, a row for each workload: which backend, how far, why it stops, and how sure that is.

        Raises:
            StoreError: There is no such sweep, or the store can't be read.
        """
        name, cells = self.read_cells(sweep)
        return frame_of_rows(AnswerRow, answer_rows(name, workload_answers(analyse_cells(cells))))

    def cells(self, sweep: str = LATEST) -> pandas.DataFrame:
        """The cells of a sweep, a row each: a case over its trials, with 95 % intervals; skipped ones too.

        Raises:
            StoreError: There is no such sweep, or the store can't be read.
        """
        name, cells = self.read_cells(sweep)
        return frame_of_rows(CellRow, cell_rows(name, cells))

    def trials(self, sweep: str = LATEST) -> pandas.DataFrame:
        """The trials of a sweep, a row each, as ``export`` writes them; a case that never ran is a row too.

        Raises:
            StoreError: There is no such sweep, or the store can't be read.
        """
        return frame_of_rows(TrialRow, read_table(self.url, [sweep]).rows)

    def steps(self, trial: Any) -> pandas.DataFrame:
        """The steps of one trial, a row for each step of each rank; no row of a trial that measured nothing.

        Args:
            trial: A row of :meth:`trials`, such as ``trials.iloc[0]``; or the values of its columns ``sweep``, ``case``
                and ``round``.

        Raises:
            UsageError: It names no trial.
            StoreError: There is no such trial, or the store can't be read.
        """
        name = trial_name(trial)
        with self.opened() as store:
            sweep = store.sweep(name.sweep).id
            found = store.trial(sweep, name.case, name.round)
        if found is None:
            raise UsageError(f"sweep {sweep} has no trial of {name.case} in round {name.round}; see .trials('{sweep}')")
        return frame_of_columns(StepRow, step_columns(sweep, found))

    def figures(self, sweep: str = LATEST) -> dict[str, plotly.graph_objects.Figure]:
        """The figures of a sweep's page, as plotly draws them, by section and name: ``synthetic/throughput``.

        Raises:
            StoreError: There is no such sweep, or the store can't be read.
        """
        from harness.library.figures import page_figures

        return page_figures(self.read_cells(sweep)[1])

    def read_cells(self, sweep: str) -> tuple[str, tuple[Cell, ...]]:
        """The id of a sweep, and its cells as values."""
        backends, workloads, _ = load_plugins()
        with self.opened() as store:
            info = store.sweep(sweep)
            return info.id, sweep_cells(info, read_trials(store, info, whole=0).summaries, backends, workloads)

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """The store itself, for reading."""
        with closing(open_tables(self.url, create=False)) as store:
            yield store


def trial_name(trial: Any) -> TrialName:
    """The name of a trial from a row of a frame, a mapping, or its three values. Raises :class:`UsageError`."""
    wanted = "expected a row of .trials(), or its sweep, case and round"
    try:
        # A row as an object: the attribute `round` of pandas' Series is a method.
        if isinstance(trial, tuple) and not hasattr(trial, "_fields"):
            sweep, case, number = trial
        elif isinstance(trial, tuple):
            sweep, case, number = (getattr(trial, name) for name in TrialName._fields)
        else:
            sweep, case, number = (trial[name] for name in TrialName._fields)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):
        raise UsageError(f"trial {str(trial)[:80]}: {wanted}") from None
    try:
        return TrialName(str(sweep), str(case), int(number))
    except (TypeError, ValueError):
        reason = trial["reason"] if isinstance(trial, Mapping) or hasattr(trial, "keys") else "it has no round"
        raise UsageError(f"trial {case}: it never ran ({reason})") from None


def sweep_row(info: SweepInfo, trials: int) -> SweepRow:
    """The row of a sweep. ``trials``: how many of it are stored."""
    environment = info.environment
    machine = {"host", "system", "cpu", "cores", "memory_bytes", "gpus", "python", "packages", "changed_files"}
    return SweepRow(
        sweep=info.id,
        started_at=info.started_at,
        finished_at=info.finished_at,
        date_problem=date_problem(info.started_at) or None,
        suite=info.suite.name,
        command=info.command,
        cases=len(info.plan.cases),
        skipped=len(info.plan.skips),
        rounds=info.plan.repeats,
        trials=trials,
        commit=environment.commit,
        commit_reason=None if environment.commit else environment.commit_reason or "it was no checkout",
        environment=environment.id,
        title=info.shown_title,
        note=info.note,
        tags=info.tags,
        **environment.model_dump(include=machine),
    )
