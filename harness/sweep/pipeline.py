"""One sweep from plan to report: prepare, run, analyse, write the page."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.plugins.registry import Plugins, load_plugins
from harness.errors import DataError, OutputError, UsageError
from harness.output_files import OutputFile, check_outputs, write_output
from harness.planning.environment import read_environment
from harness.planning.git import NO_CHECKOUT
from harness.planning.plan import Plan
from harness.planning.source_copy import remove_shared_sources
from harness.planning.sources import Sources, copy_plugin_packages, read_sources
from harness.planning.suite import Suite
from harness.planning.user_repository import find_repository
from harness.sites.base.contract import DEFAULT_SITE, Site
from harness.sites.base.running_trial import utc_now
from harness.store.labels import NO_LABELS, SweepLabels
from harness.store.location import store_label, store_path
from harness.store.opening import check_store, open_store
from harness.store.past_trials import read_past_rates
from harness.store.store import Store, SweepInfo
from harness.sweep import report
from harness.sweep.artifacts import artifact_folder, default_page, held_folder
from harness.sweep.building import NO_BUILDS, Builds, LaterCells
from harness.sweep.data import prepare_data
from harness.sweep.duration import predict_by_store
from harness.sweep.json_document import as_json
from harness.sweep.plan import (
    PlannedSweep,
    SuiteRequest,
    choose_site,
    full_names,
    load_request_plugins,
    load_suite,
)
from harness.sweep.plugins import use_plugin_files
from harness.sweep.pricing import pricing_of
from harness.sweep.progress import SweepProgress
from harness.sweep.resume_checks import check_same_conditions
from harness.sweep.runner import new_sweep_id, preload_modules, run_sweep
from harness.sweep.stored_trials import StoredTrials, keep_night, read_trials
from harness.sweep.summary_outputs import NO_SUMMARIES, Content, SummaryPaths, contents
from harness.sweep.turns import Turns, open_turns
from harness.sweep.until_decided import decisions_of
from reports.analysis import formatting
from reports.analysis.answers import workload_answers
from reports.analysis.cells import Cell
from reports.analysis.findings import Findings, analyse_cells
from reports.analysis.group_titles import named_cells
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS, PredictOptions
from reports.analysis.stats import Estimate
from reports.analysis.trial_measures import overhead_of, overheads_of
from reports.formats import terminal
from reports.formats.console import print_line
from reports.formats.summary.markdown import markdown
from reports.formats.terminal import finding_tables
from reports.page import summary
from reports.page.elements import Page
from reports.page.html import render

log = logging.getLogger("scaling_harness")
FILES = {"--out": "FILE.html", "--markdown": "FILE.md"}
"""What each option names, in the command that writes a file again."""


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has ended, with its cells and its page."""

    info: SweepInfo
    findings: Findings
    page: Path
    own_cost: Estimate | None = None
    own_costs: Mapping[str, Estimate] = field(default_factory=dict)
    """By the name of the device."""
    interrupted: bool = False
    problems: tuple[str, ...] = ()
    """Why the page, or another output, could not be written."""
    printed_summary: str | None = None
    """What is printed in place of the tables."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.findings.cells

    def as_json(self) -> dict[str, Any]:
        return as_json(self.info, self.findings, self.page, self.own_cost, self.own_costs, self.problems)

    def print(self, console: Console) -> None:
        if self.printed_summary is not None:
            print(self.printed_summary, end="", file=console.file)
            return
        for table in terminal.cell_tables(self.cells, console.width):
            console.print(table)
        for line in (*summary.problem_lines(named_cells(self.cells)), *report.node_remarks(self.info, self.cells)):
            print_line(console, line, "yellow")
        for table in finding_tables(self.findings):
            console.print(table)
        for line in summary.answer_sentences(self.findings):
            print_line(console, line)
        for line in formatting.overheads(self.own_costs) if self.own_costs else []:
            print_line(console, f"overhead of measuring on {line}")
        if not self.problems:
            print_line(console, f"report: {self.page}")


def run(
    planned: PlannedSweep,
    store_url: str,
    page: Path | None,
    command: str,
    stderr_console: Console,
    labels: SweepLabels = NO_LABELS,
    summaries: SummaryPaths = NO_SUMMARIES,
    *,
    shared: bool = False,
    builds: Builds = NO_BUILDS,
) -> SweepResult:
    """Prepare the data, open the store, run the trials, write the page.

    Args:
        planned: What to run.
        store_url: A SQLite file or a database URL; made where it is absent.
        page: Where the page goes; ``None``: beside the store.
        command: The command line that the store and the page quote.
        stderr_console: For progress.
        labels: Its title, note and tags.
        summaries: What is written beside the page.
        shared: Whether it takes no turns with other commands that measure on this machine.
        builds: What can be built for cells that would be skipped without, once the others are measured.

    Raises:
        HarnessError: Something is missing or refused. Nothing has been written then.
    """
    site = planned.site
    if missing_option := site.missing_option():
        raise UsageError(f"--site {site.name}: {missing_option}")
    name = new_sweep_id()
    check_store(store_url)
    output = _report_output(page, store_url, name, summaries)
    sources = sources_of_plugins_too()
    with open_turns(f"sweep {name}", here=site.uses_this_machine, shared=shared) as turns:
        if planned.plan.cases:
            # Frameworks and data are loaded in the turn of the first trial: they would disturb one of somebody else.
            turns.take()
        site.reserve(planned.plan.cases)
        site.warm(preload_modules(planned.plan, planned.plugins.backends))
        plan = prepare_data(planned.plan, planned.plugins.workloads, stderr_console)
        environment = read_environment(find_repository(plan.cases, planned.suite.plugins))
        if environment.commit_reason not in (None, NO_CHECKOUT):
            log.warning("commit unknown: %s", environment.commit_reason)
        info = SweepInfo(
            id=name,
            started_at=utc_now(),
            command=command,
            suite=planned.suite,
            plan=plan,
            environment=environment,
            sources=sources,
            **dict(labels),
        )
        duration = predict_by_store(plan, store_url)
        with held_folder(artifact_folder(store_url, name), name):
            store = open_store(store_url, create=True)
            if info.suite.until:
                keys = {case.key for case in plan.cases}
                info = info.model_copy(update={"past_rates": read_past_rates(store, environment.machine, keys)})
            store.begin_sweep(info)
            if plan.cases:
                trials = formatting.counted(len(plan.cases) * plan.repeats, "trial")
                log.info("%s: %s", f"at most {trials}" if info.suite.until else trials, planned.describe(duration))
            inputs = (info, store, site, planned.plugins, store_url, output, stderr_console, summaries, turns, builds)
            return _run_and_report(*inputs, expected_s=duration.seconds)


def resume(
    request: SuiteRequest | None,
    site_name: str | None,
    store_url: str,
    page: Path | None,
    stderr_console: Console,
    summaries: SummaryPaths = NO_SUMMARIES,
    *,
    shared: bool = False,
    builds: Builds = NO_BUILDS,
) -> SweepResult:
    """Finish the sweep that began last and has not ended.

    Args:
        request: The suite as it was asked for now; ``None``: as it is stored.
        site_name: The site that was asked for now; ``None``: the stored one.
        store_url: The store that holds the sweep.
        page: Where the page goes; ``None``: beside the store.
        stderr_console: For progress.
        summaries: What is written beside the page.
        shared: Whether it takes no turns with other commands that measure on this machine.
        builds: What can be built for cells that would be skipped without, once the others are measured.

    Raises:
        UsageError: There is no such sweep, or it was another one, on another site or machine, or over other data.
    """
    suite = None if request is None else load_suite(request, load_request_plugins(request))
    store = open_store(store_url, create=False, upgrade=True)
    name = store.unfinished()
    if name is None:
        raise UsageError(f"--resume: store {store_label(store_url)} holds no unfinished sweep; leave --resume out")
    check_store(store_url)
    with held_folder(artifact_folder(store_url, name), name):
        outputs = (store_url, page, stderr_console, summaries)
        return _resume(store.sweep(name), store, suite, site_name, *outputs, shared=shared, builds=builds)


def _resume(
    info: SweepInfo,
    store: Store,
    suite: Suite | None,
    site_name: str | None,
    store_url: str,
    page: Path | None,
    stderr_console: Console,
    summaries: SummaryPaths,
    *,
    shared: bool,
    builds: Builds,
) -> SweepResult:
    """``suite``: as it was asked for now."""
    use_plugin_files(info.suite.plugins)
    plugins = load_plugins()
    stored_suite = full_names(info.suite, plugins)
    place = next((case.site for case in info.plan.cases), DEFAULT_SITE)
    if (suite is not None and suite != stored_suite) or site_name not in (None, place):
        raise UsageError(
            f"--resume: sweep {info.id} was started by `{info.command}`; repeat that with --resume, or --resume alone"
        )
    sources = sources_of_plugins_too()
    check_same_conditions(info, store.trials(info.id), sources)
    site = choose_site(place, stored_suite)
    with open_turns(f"sweep {info.id}", here=site.uses_this_machine, shared=shared) as turns:
        turns.take()
        site.reserve(info.plan.cases)
        site.warm(preload_modules(info.plan, plugins.backends))
        if prepare_data(info.plan, plugins.workloads, stderr_console) != info.plan:
            raise DataError(f"--resume: the data of sweep {info.id} has changed since; start a new one")
        output = _report_output(page, store_url, info.id, summaries)
        return _run_and_report(info, store, site, plugins, store_url, output, stderr_console, summaries, turns, builds)


def sources_of_plugins_too() -> Sources:
    """The sources of the sweep that begins. From now on its ranks import the packages of plugins from the copy."""
    for name in copy_plugin_packages():
        log.warning("package %s of a plugin is too large to be copied: leave it as it is until the sweep ends", name)
    return read_sources()


def _run_and_report(
    info: SweepInfo,
    store: Store,
    site: Site,
    plugins: Plugins,
    store_url: str,
    output: OutputFile,
    stderr_console: Console,
    summaries: SummaryPaths,
    turns: Turns,
    builds: Builds = NO_BUILDS,
    expected_s: float | None = None,
) -> SweepResult:
    """Run what the store does not hold yet, then write the page of what it holds. ``expected_s``: how long it takes."""
    interrupted, folder = False, artifact_folder(store_url, info.id)
    left = len(info.plan.cases) * info.plan.repeats - len(store.done(info.id))
    with SweepProgress(stderr_console, max(0, left), info.plan.cases, expected_s) as watcher:
        turns.watcher = watcher

        def warm(plan: Plan) -> None:
            site.warm_again(preload_modules(plan, plugins.backends))

        later = LaterCells(info, store, site, plugins, builds, turns, watcher, stderr_console, warm)
        try:
            run_sweep(info, store, site, plugins.backends, folder, watcher, turns, later)
        except KeyboardInterrupt:
            interrupted = True
        if not interrupted and info.plan.cases:
            # To write the page is work, too. Who does not want to wait for it interrupts.
            with suppress(KeyboardInterrupt):
                turns.take()
    # After any other exception, jobs that outlive this process may still need them.
    remove_shared_sources(folder)
    result, stored = _analyse(store, info.id, output, plugins, DEFAULT_PREDICT_OPTIONS)
    result = replace(result, interrupted=interrupted)
    keep_night(store_url, result.info, stored, result.cells)
    again = shlex.join(["python", "-m", "harness", "report", info.id, "--store", store_label(store_url)])
    drawn = report.sweep_page(result.info, stored, result.findings)
    problems = []
    for written, content in [(output, render(drawn)), *_summaries(summaries, drawn, result.findings)]:
        try:
            write_output(written, content)
        except OutputError as problem:
            problems.append(f"{problem}; the trials are stored: `{again} {written.option} {FILES[written.option]}`")
    return replace(result, problems=tuple(problems), printed_summary=_printed(summaries, drawn))


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
        prices: As :func:`harness.sweep.pricing.pricing_of` takes them.
        summaries: What is written beside the page.
    """
    store = open_store(store_url, create=False)
    name = store.sweep(sweep).id
    output = report.page_output("--out", page, default_page(store_url, name))
    check_outputs([output, *summaries.known_outputs()], store_path(store_url))
    result, stored = _analyse(store, name, output, load_plugins(), predict_options, prices)
    keep_night(store_url, result.info, stored, result.cells)
    drawn = report.sweep_page(result.info, stored, result.findings)
    others = _summaries(summaries, drawn, result.findings)
    check_outputs([output, *(written for written, _ in others)], store_path(store_url))
    for written, content in [(output, render(drawn)), *others]:
        write_output(written, content)
    return replace(result, printed_summary=_printed(summaries, drawn))


def _summaries(paths: SummaryPaths, page: Page, findings: Findings) -> list[Content]:
    return contents(paths, page, workload_answers(findings)) if paths.wanted else []


def _printed(paths: SummaryPaths, page: Page) -> str | None:
    return markdown(page) if paths.printed else None


def _analyse(
    store: Store,
    sweep: str,
    output: OutputFile,
    plugins: Plugins,
    predict_options: PredictOptions,
    prices: Mapping[str, Any] | None = None,
) -> tuple[SweepResult, StoredTrials]:
    """A stored sweep and its trials; the store is closed then."""
    info = store.sweep(sweep)
    stored = read_trials(store, info)
    decisions = decisions_of(info, store.trials(sweep)) if info.suite.until is not None else None
    store.close()
    cells = report.sweep_cells(info, stored.summaries, plugins.backends, plugins.workloads)
    findings = analyse_cells(cells, predict_options, pricing_of(info.suite, prices))
    findings = replace(findings, decisions=decisions)
    overheads = stored.overheads
    return SweepResult(info, findings, output.target, overhead_of(overheads), overheads_of(overheads)), stored


def _report_output(page: Path | None, store_url: str, sweep: str, summaries: SummaryPaths) -> OutputFile:
    """The page of a sweep. Raises :class:`OutputError` before the sweep where it can't be written."""
    output = report.page_output("--out", page, default_page(store_url, sweep))
    check_outputs([output, *summaries.known_outputs()], store_path(store_url))
    return output
