"""Progress of trials: a live bar with an estimate on a terminal, one plain line a trial when piped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from bench.core.case import Case
from bench.core.records import Trial
from bench.core.text import printable
from harness.store.ledger import PairTrial
from reports.analysis import case_titles, formatting
from reports.analysis.stats import estimate
from reports.analysis.step_times import throughput_of
from reports.analysis.units import rate_unit
from reports.formats.console import print_line

# Drawing takes time from the ranks that are being measured.
REFRESH_PER_S = 2


class TrialProgress:
    """A context manager that shows how many trials have ended.

    Args:
        console: Where to show it (standard error).
        total: The number of trials that are planned; more may follow.
        expected_s: How long they will take, in seconds, which is shown until the first has ended; ``None``: unknown.
    """

    def __init__(self, console: Console, total: int, expected_s: float | None = None) -> None:
        self.console, self.total, self.done = console, total, 0
        self.about = "about"
        """How the time left is told: it may be less where some trials are not needed."""
        self.began = time.monotonic()
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=max(4, min(24, console.width // 6))),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            # The title of a case may be long: what does not fit is cut, and nothing else gives way to it.
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_interactive,
            refresh_per_second=REFRESH_PER_S,
        )
        expected = "" if expected_s is None else _left(expected_s)
        self.task = self.bar.add_task("starting", total=total, left=expected)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context without the bar, for what writes to the terminal itself. Its time is in no estimate."""
        began = time.monotonic()
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()
            self.waited(time.monotonic() - began)

    def waits(self, text: str, *, again: bool) -> None:
        """See :class:`harness.sweep.machine_access.WaitWatcher`."""
        self.bar.update(self.task, description=printable(text))
        if not self.console.is_interactive and not again:
            print_line(self.console, text)

    def waited(self, time_s: float) -> None:
        # The trials that have ended took less, and those that are left will.
        self.began += time_s

    def may_follow(self, trials: int) -> None:
        """How many trials may follow at most: fewer than were planned where some are not needed."""
        self.total, self.about = self.done + trials, "at most"
        self.bar.update(self.task, total=self.total)

    def follow(self, trials: int) -> None:
        """So many trials are added to those that were planned."""
        self.total += trials
        self.bar.update(self.task, total=self.total)
        if self.done:
            self.bar.update(self.task, left=self._time_left())

    def _begin(self, title: str) -> None:
        self.bar.update(self.task, description=printable(title))

    def _end(self, title: str, trial: Trial) -> None:
        self.done += 1
        # Rounds for --precision are added to those that were planned.
        self.total = max(self.total, self.done)
        self.bar.update(self.task, advance=1, total=self.total, left=self._time_left())
        if not self.console.is_interactive or trial.outcome != "ok":
            print_line(self.console, self._line(title, trial))

    def _time_left(self) -> str:
        return _left((time.monotonic() - self.began) / self.done * (self.total - self.done), self.about)

    def _line(self, title: str, trial: Trial) -> str:
        line = f"{self.done}/{self.total} {title}: {trial.outcome}"
        if trial.outcome == "ok":
            rate = estimate([throughput_of(trial.ranks)], rate_unit(trial.ranks[0].unit))
            return f"{line}, {formatting.estimate(rate)}, {trial.wall_s:.1f} s, {self._time_left()}"
        return f"{line}, {trial.reason}"


class SweepProgress(TrialProgress):
    """The progress of a sweep.

    Args:
        console: Where to show it (standard error).
        total: The number of trials that are planned; more may follow.
        cases: The cases of the plan.
        expected_s: How long they will take, in seconds, which is shown until the first has ended; ``None``: unknown.
    """

    def __init__(self, console: Console, total: int, cases: Sequence[Case], expected_s: float | None = None) -> None:
        super().__init__(console, total, expected_s)
        self._values = case_titles.with_batch(cases)

    def begins(self, case: Case, round_number: int) -> None:
        self._begin(self._title(case, round_number))

    def ends(self, trial: Trial) -> None:
        self._end(self._title(trial.case, trial.round), trial)

    def _title(self, case: Case, round_number: int) -> str:
        return f"{case_titles.case_title(case, self._values(case))} · round {round_number + 1}"


class PairProgress(TrialProgress):
    """The progress of pairs; ``total`` counts both trials of each."""

    def begins(self, case: Case, pair: int, side: str) -> None:
        self._begin(self._title(case, pair, side))

    def ends(self, pair_trial: PairTrial) -> None:
        self._end(self._title(pair_trial.trial.case, pair_trial.pair, pair_trial.side), pair_trial.trial)

    def _title(self, case: Case, pair: int, side: str) -> str:
        return f"{case_titles.case_title(case)} · pair {pair + 1}, {side}"


def _left(time_s: float, about: str = "about") -> str:
    return f"{about} {time_s / 60:.0f} min left" if time_s >= 90 else f"{about} {time_s:.0f} s left"
