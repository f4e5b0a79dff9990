"""``report A B``: several stored sweeps on one page, and the changes from the first to each other one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.names import file_stem
from bench.plugins.registry import load_plugins
from harness.check.two_sweeps import verdicts_on_step_times
from harness.errors import OutputError, UsageError
from harness.output_files import OutputFile, check_outputs, write_output
from harness.reporting import report
from harness.reporting.stored_trials import StoredTrials, read_trials
from harness.reporting.summary_outputs import NO_SUMMARIES, SummaryPaths, contents
from harness.store.artifacts import artifact_folder
from harness.store.location import store_path
from harness.store.opening import open_store
from harness.store.store import Store, SweepInfo
from reports.analysis.cells import Cell
from reports.analysis.comparison import Change, Comparison, compare, labelled
from reports.analysis.findings import analyse_cells
from reports.analysis.predictions import PredictOptions
from reports.analysis.stats import Estimate
from reports.analysis.trial_measures import overheads_of
from reports.formats import comparison_text
from reports.formats.console import print_line
from reports.formats.documents import versioned
from reports.formats.summary.markdown import markdown
from reports.page import comparison_section
from reports.page.html import render
from reports.page.sweep_page import make_page
from reports.page.tables import sweep_label
from reports.regression.values import Verdict

MAX_SWEEPS = 8


@dataclass(frozen=True)
class ComparisonResult:
    """The sweeps by label, the changes, and the page."""

    sweeps: dict[str, str]
    comparisons: tuple[Comparison, ...]
    page: Path | None
    """``None``: the cells alone were compared."""
    problems: tuple[str, ...] = ()
    """Why an output could not be written."""
    printed_summary: str | None = None
    """What is printed in place of the sentences."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """What `check` says of the step time of a cell, by the key of its case; empty where it was not asked."""

    def as_json(self) -> dict[str, Any]:
        fields = {
            "sweeps": self.sweeps,
            "report": None if self.page is None else str(self.page),
            "comparisons": [
                {
                    **comparison.model_dump(exclude={"changes"}),
                    "changes": [
                        {
                            "key": change.after.case.key,
                            "against": change.before.case.key,
                            "ratio": change.ratio.model_dump() if change.ratio else None,
                            "direction": change.direction,
                            "reason": change.reason,
                            "check": verdict.status if (verdict := self._verdict(change)) else None,
                            "check_reason": (verdict.reason or None) if verdict else None,
                        }
                        for change in comparison.changes
                    ],
                }
                for comparison in self.comparisons
            ],
        }
        return versioned("comparison", fields)

    def _verdict(self, change: Change) -> Verdict | None:
        return self.verdicts.get(change.after.case.key)

    def print(self, console: Console) -> None:
        if self.printed_summary is not None:
            print(self.printed_summary, end="", file=console.file)
            return
        for label, sweep in self.sweeps.items():
            print_line(console, f"{label}: {sweep}")
        if self.page is None:
            for comparison in self.comparisons:
                if comparison.changes:
                    console.print(comparison_text.comparison_table(comparison, self.verdicts))
            for line in comparison_text.check_remarks(self.verdicts):
                print_line(console, line, "yellow")
        for comparison in self.comparisons:
            print_line(console, comparison_section.comparison_sentence(comparison))
        if self.page is not None:
            print_line(console, f"report: {self.page}")


@dataclass(frozen=True)
class ComparedSweep:
    """One of the sweeps, and its label on the page."""

    label: str
    info: SweepInfo
    cells: tuple[Cell, ...]
    stored: StoredTrials
    costs: Mapping[str, Estimate]


def compare_sweeps(
    sweep_names: Sequence[str],
    store_url: str,
    page: Path | None,
    predict_options: PredictOptions,
    summaries: SummaryPaths = NO_SUMMARIES,
) -> ComparisonResult:
    """Write the page of several sweeps side by side.

    Raises:
        OutputError: The page can't be written.
        StoreError: The store can't be read.
        UsageError: Sweeps are too many, or not different.
    """
    if summaries.badge is not None:
        raise UsageError("--badge says how far one sweep scales; name one")
    with closing(open_store(store_url, create=False)) as store:
        infos = _different_sweeps(sweep_names, store)
        output = report.page_output("--out", page, _default_page(store_url, [info.id for info in infos]))
        check_outputs([output, *summaries.known_outputs()], store_path(store_url))
        sides = _load_sweeps(infos, store)
    first, *others = sides
    comparisons = tuple(compare(first.label, first.cells, other.label, other.cells) for other in others)
    not_applicable = {
        skip.case.key: (skip.case, skip.reason) for side in sides for skip in side.info.plan.not_applicable
    }
    page_model = make_page(
        _title(sides),
        analyse_cells([cell for side in sides for cell in labelled(side.cells, side.label)], predict_options),
        list(not_applicable.values()),
        join_provenance([report.provenance(side.info, side.cells, side.costs) for side in sides]),
        comparisons,
        [report.trials_download([(side.info, side.cells, side.stored) for side in sides])],
        [f"{side.label}: {line}" for side in sides for line in report.node_remarks(side.info, side.cells)],
    )
    more = contents(summaries, page_model, ())
    check_outputs([output, *(written for written, _ in more)], store_path(store_url))
    for written, content in [(output, render(page_model)), *more]:
        write_output(written, content)
    printed = markdown(page_model) if summaries.printed else None
    return ComparisonResult(
        {side.label: side.info.id for side in sides}, comparisons, output.target, printed_summary=printed
    )


def compare_stored(first: str, other: str, store_url: str, markdown: Path | None) -> ComparisonResult:
    """Compare the cells of two sweeps, without a page.

    Args:
        first: What names the sweep to compare with.
        other: What names the one that may have changed.
        store_url: The store.
        markdown: A file for the table, or ``-`` for standard output; ``None``: none.

    Raises:
        OutputError: The file can't be written.
        StoreError: The store can't be read, or a name means none of its sweeps, or several.
        UsageError: Both are the same sweep.
    """
    printed = markdown == Path("-")
    output = None if markdown is None or printed else OutputFile("--markdown", markdown, comparison_text.SIGNATURE)
    if output is not None:
        check_outputs([output], store_path(store_url))
    with closing(open_store(store_url, create=False)) as store:
        before, after = _load_sweeps(_different_sweeps((first, other), store), store)
        verdicts = verdicts_on_step_times(store, before.info.id, after.info.id)
    comparison = compare(before.label, before.cells, after.label, after.cells)
    text = comparison_text.markdown(
        [(side.label, side.info.id, side.info.shown_title) for side in (before, after)], comparison, verdicts
    )
    problems = []
    if output is not None:
        try:
            write_output(output, text)
        except OutputError as problem:
            problems.append(str(problem))
    sweeps = {side.label: side.info.id for side in (before, after)}
    return ComparisonResult(sweeps, (comparison,), None, tuple(problems), text if printed else None, verdicts)


def _different_sweeps(sweep_names: Sequence[str], store: Store) -> list[SweepInfo]:
    if len(sweep_names) > MAX_SWEEPS:
        raise UsageError(f"{len(sweep_names)} sweeps side by side: at most {MAX_SWEEPS}; use --index DIR for more")
    infos: list[SweepInfo] = []
    for info in map(store.sweep, sweep_names):
        if any(other.id == info.id for other in infos):
            raise UsageError(f"sweep {info.id} is named twice; name different ones")
        infos.append(info)
    return infos


def _load_sweeps(infos: Sequence[SweepInfo], store: Store) -> list[ComparedSweep]:
    backends, workloads, _ = load_plugins()
    sides: list[ComparedSweep] = []
    for number, info in enumerate(infos):
        stored = read_trials(store, info)
        cells = report.sweep_cells(info, stored.summaries, backends, workloads)
        sides.append(ComparedSweep(sweep_label(number), info, cells, stored, overheads_of(stored.overheads)))
    return sides


def join_provenance(rows: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, ...]]:
    """One row a name, one column a sweep, in the order in which names appear."""
    tables = [_join_rows(table) for table in rows]
    return [
        (name, *(table.get(name, "–") for table in tables))
        for name in dict.fromkeys(name for table in tables for name in table)
    ]


def _join_rows(rows: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Values by name; those of several rows are joined."""
    by_name: dict[str, list[str]] = {}
    for name, value in rows:
        by_name.setdefault(name, []).append(value)
    return {name: "; ".join(values) for name, values in by_name.items()}


def _title(sides: Sequence[ComparedSweep]) -> str:
    """``A against B: mnist: ddp at 1–2 ranks``; with a title for each where they differ."""
    titles = [side.info.shown_title for side in sides]
    if len(set(titles)) == 1:
        return f"{' against '.join(side.label for side in sides)}: {titles[0]}"
    return "; ".join(f"{side.label} = {title}" for side, title in zip(sides, titles, strict=True))


def _default_page(store_url: str, names: Sequence[str]) -> Path:
    return artifact_folder(store_url, names[-1]) / f"beside-{file_stem(*names[:-1])}.html"
