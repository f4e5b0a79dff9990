"""The files of the report of one sweep: its page, and what is written beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.plugins.registry import Plugins, load_plugins
from harness.output_files import OutputFile, check_outputs, write_output
from harness.reporting import report
from harness.reporting.decisions import decisions_of
from harness.reporting.pricing import pricing_of
from harness.reporting.stored_trials import keep_night, read_trials
from harness.reporting.summary_outputs import NO_SUMMARIES, Content, SummaryPaths, contents
from harness.reporting.sweep_result import SweepResult
from harness.store.artifacts import default_page
from harness.store.location import store_path
from harness.store.opening import open_store
from harness.store.store import Store
from harness.store.summaries import is_night_kept
from reports.analysis.answers import workload_answers
from reports.analysis.findings import analyse_cells
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS, PredictOptions
from reports.analysis.stats import student_t
from reports.analysis.trial_measures import overhead_of, overheads_of
from reports.formats.summary.markdown import markdown
from reports.page.elements import Page
from reports.page.html import load_templates, render


@dataclass(frozen=True)
class SweepReport:
    """The report of one sweep, not yet written."""

    result: SweepResult
    page: Page
    output: OutputFile
    """The file of the page."""
    summaries: SummaryPaths

    def files(self) -> list[Content]:
        """What is written, with its contents: the page first."""
        beside = contents(self.summaries, self.page, workload_answers(self.result.findings))
        return [(self.output, render(self.page)), *beside]


def load_for_reports() -> None:
    """Load what a report is computed and drawn with, and takes half a second at the first one."""
    student_t(1)
    load_templates()


def page_file(page: Path | None, store_url: str, sweep: str, summaries: SummaryPaths) -> OutputFile:
    """The file of the page of a sweep.

    Args:
        page: Where it goes; ``None``: beside the store.
        store_url: The store that holds the sweep.
        sweep: Its name.
        summaries: What is written beside the page.

    Raises:
        OutputError: It, or what is written beside it, can't be written.
    """
    output = report.page_output("--out", page, default_page(store_url, sweep))
    check_outputs([output, *summaries.known_outputs()], store_path(store_url))
    return output


def make_report(
    store: Store,
    store_url: str,
    sweep: str,
    output: OutputFile,
    summaries: SummaryPaths,
    plugins: Plugins,
    predict_options: PredictOptions = DEFAULT_PREDICT_OPTIONS,
    prices: Mapping[str, Any] | None = None,
) -> SweepReport:
    """Analyse a stored sweep. The store is closed then, and keeps what an index needs of the sweep.

    Args:
        store: The store, open.
        store_url: Where it is.
        sweep: The name of the sweep.
        output: The file of its page.
        summaries: What is written beside the page.
        plugins: All backends and workloads.
        predict_options: What is predicted.
        prices: As :func:`harness.reporting.pricing.pricing_of` takes them.
    """
    info = store.sweep(sweep)
    stored = read_trials(store, info)
    decisions = decisions_of(info, store)
    has_night = is_night_kept(store, info.id, stored.count)
    store.close()
    cells = report.sweep_cells(info, stored.summaries, plugins.backends, plugins.workloads)
    findings = replace(analyse_cells(cells, predict_options, pricing_of(info.suite, prices)), decisions=decisions)
    if not has_night:
        keep_night(store_url, info, stored, findings.cells)
    page = report.sweep_page(info, stored, findings)
    result = SweepResult(
        info,
        findings,
        output.target,
        overhead_of(stored.overheads),
        overheads_of(stored.overheads),
        printed_summary=markdown(page) if summaries.printed else None,
    )
    return SweepReport(result, page, output, summaries)


def rewrite_report(
    sweep: str,
    store_url: str,
    page: Path | None,
    predict_options: PredictOptions = DEFAULT_PREDICT_OPTIONS,
    prices: Mapping[str, Any] | None = None,
    summaries: SummaryPaths = NO_SUMMARIES,
) -> SweepResult:
    """Write the page of a stored sweep again, and its summaries.

    Args:
        sweep: Its name.
        store_url: The store that holds it.
        page: Where the page goes; ``None``: beside the store.
        predict_options: What is predicted.
        prices: As :func:`harness.reporting.pricing.pricing_of` takes them.
        summaries: What is written beside the page.
    """
    store = open_store(store_url, create=False)
    name = store.sweep(sweep).id
    output = page_file(page, store_url, name, summaries)
    made = make_report(store, store_url, name, output, summaries, load_plugins(), predict_options, prices)
    files = made.files()
    check_outputs([file for file, _ in files], store_path(store_url))
    for file, content in files:
        write_output(file, content)
    return made.result
