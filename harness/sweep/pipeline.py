"""One sweep from plan to report: prepare, run, analyse, write the page."""

from __future__ import annotations

import logging
import shlex
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from bench.plugins.registry import load_plugins
from harness.errors import DataError, OutputError, UsageError
from harness.output_files import OutputFile, write_output
from harness.planning.environment import read_environment
from harness.planning.git import NO_CHECKOUT
from harness.planning.source_copy import remove_shared_sources
from harness.planning.sources import read_sources
from harness.planning.suite import Suite
from harness.planning.user_repository import find_repository
from harness.reporting.report_files import load_for_reports, make_report, page_file
from harness.reporting.summary_outputs import NO_SUMMARIES, SummaryPaths
from harness.reporting.sweep_result import SweepResult
from harness.sites.base.contract import DEFAULT_SITE
from harness.sites.base.running_trial import utc_now
from harness.store.artifacts import artifact_folder, held_folder
from harness.store.labels import NO_LABELS, SweepLabels
from harness.store.location import store_label
from harness.store.opening import check_store, open_store
from harness.store.past_trials import read_past_rates
from harness.store.store import Store, SweepInfo
from harness.store.trial_outcomes import first_successful_trial
from harness.sweep.beginning import BegunSweep, copy_sources_of_plugins, prepare_site
from harness.sweep.building import Builds, LaterCells, builds_on_resume
from harness.sweep.data import prepare_data
from harness.sweep.duration import predict_by_store
from harness.sweep.machine_access import open_machine_access
from harness.sweep.plan import (
    PlannedSweep,
    SuiteRequest,
    choose_site,
    full_names,
    load_request_plugins,
    load_suite,
)
from harness.sweep.plugins import use_plugin_files
from harness.sweep.prepared import PreparedSweep
from harness.sweep.progress import SweepProgress
from harness.sweep.resume_checks import check_same_conditions
from harness.sweep.rounds import run_sweep
from reports.analysis.formatting import counted

log = logging.getLogger("scaling_harness")
FILES = {"--out": "FILE.html", "--markdown": "FILE.md"}
"""What each option names, in the command that writes a file again."""


@dataclass(frozen=True)
class RunSettings:
    """What a sweep is run with, beside its plan."""

    store_url: str
    """A SQLite file or a database URL; made where it is absent."""
    console: Console
    """For progress: standard error."""
    page: Path | None = None
    """Where the page goes; ``None``: beside the store."""
    summaries: SummaryPaths = NO_SUMMARIES
    """What is written beside the page."""
    shared: bool = False
    """Whether it runs beside other commands that measure on this machine."""
    builds: Builds = field(default_factory=dict)
    """What can be built for cells that would be skipped without, once the others are measured."""

    def page_file(self, sweep: str) -> OutputFile:
        """The file of its page. Raises :class:`OutputError`, before anything runs, where it can't be written."""
        return page_file(self.page, self.store_url, sweep, self.summaries)


def run(sweep: BegunSweep, settings: RunSettings, command: str, labels: SweepLabels = NO_LABELS) -> SweepResult:
    """Prepare the data, open the store, run the trials, write the page.

    Args:
        sweep: What to run.
        settings: What it is run with.
        command: The command line that the store and the page quote.
        labels: Its title, note and tags.

    Raises:
        HarnessError: Something is missing or refused. Nothing has been written then.
    """
    planned, name, store_url = sweep.planned, sweep.name, settings.store_url
    check_store(store_url)
    output = settings.page_file(name)
    sweep.prepare_site()
    plan = prepare_data(planned.plan, planned.plugins.workloads, settings.console)
    info = _new_info(replace(planned, plan=plan), name, command, labels)
    duration = predict_by_store(plan, store_url)
    folder = artifact_folder(store_url, name)
    with held_folder(folder, name):
        store = open_store(store_url, create=True)
        if info.suite.until:
            keys = {case.key for case in plan.cases}
            info = info.model_copy(update={"past_rates": read_past_rates(store, info.environment.machine, keys)})
        store.begin_sweep(info)
        if plan.cases:
            trials = counted(len(plan.cases) * plan.repeats, "trial")
            log.info("%s: %s", f"at most {trials}" if info.suite.until else trials, planned.describe(duration))
        prepared = PreparedSweep(info, store, planned.site, planned.plugins, folder, sweep.access)
        return _run_and_report(prepared, settings, output, duration.seconds)


def _new_info(planned: PlannedSweep, name: str, command: str, labels: SweepLabels) -> SweepInfo:
    """What is stored of a sweep that begins."""
    environment = read_environment(find_repository(planned.plan.cases, planned.suite.plugins))
    if environment.commit_reason not in (None, NO_CHECKOUT):
        log.warning("commit unknown: %s", environment.commit_reason)
    return SweepInfo(
        id=name,
        started_at=utc_now(),
        command=command,
        suite=planned.suite,
        plan=planned.plan,
        environment=environment,
        sources=read_sources(),
        **dict(labels),
    )


def resume(
    settings: RunSettings, request: SuiteRequest | None = None, site_name: str | None = None, *, build: bool = False
) -> SweepResult:
    """Finish the sweep that began last and has not ended.

    Args:
        settings: What it is run with, in the store that holds it.
        request: The suite as it was asked for now; ``None``: as it is stored.
        site_name: The site that was asked for now; ``None``: the stored one.
        build: Whether it was asked for now to build what cells lack; else it is where the sweep was started with that.

    Raises:
        UsageError: There is no such sweep, or it was another one, on another site or machine, or over other data.
    """
    store_url = settings.store_url
    suite = None if request is None else load_suite(request, load_request_plugins(request))
    store = open_store(store_url, create=False, upgrade=True)
    name = store.unfinished()
    if name is None:
        raise UsageError(f"--resume: store {store_label(store_url)} holds no unfinished sweep; leave --resume out")
    check_store(store_url)
    with held_folder(artifact_folder(store_url, name), name):
        info = store.sweep(name)
        settings = replace(settings, builds=builds_on_resume(settings.builds, info.command, asked=build))
        return _resume(info, store, settings, suite, site_name)


def _resume(
    info: SweepInfo, store: Store, settings: RunSettings, suite: Suite | None, site_name: str | None
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
    copy_sources_of_plugins()
    trial = first_successful_trial(store, info.id)
    check_same_conditions(info, [] if trial is None else [trial], read_sources())
    site = choose_site(place, stored_suite)
    here = site.uses_this_machine
    with open_machine_access(f"sweep {info.id}", here=here, shared=settings.shared) as access:
        access.acquire()
        prepare_site(site, info.plan, plugins.backends)
        if prepare_data(info.plan, plugins.workloads, settings.console) != info.plan:
            raise DataError(f"--resume: the data of sweep {info.id} has changed since; start a new one")
        output = settings.page_file(info.id)
        folder = artifact_folder(settings.store_url, info.id)
        return _run_and_report(PreparedSweep(info, store, site, plugins, folder, access), settings, output)


def _run_and_report(
    sweep: PreparedSweep, settings: RunSettings, output: OutputFile, expected_s: float | None = None
) -> SweepResult:
    """Run what the store does not hold yet, then write the page of what it holds. ``expected_s``: how long it takes."""
    info, store = sweep.info, sweep.store
    interrupted = False
    if info.plan.cases:
        # While the frameworks of the ranks are being loaded, which the first trial waits for.
        load_for_reports()
    left = len(info.plan.cases) * info.plan.repeats - len(store.done(info.id))
    with SweepProgress(settings.console, max(0, left), info.plan.cases, expected_s) as watcher:
        sweep.access.watcher = watcher
        try:
            run_sweep(sweep, watcher, LaterCells(sweep, settings.builds, watcher, settings.console))
        except KeyboardInterrupt:
            interrupted = True
        if not interrupted and info.plan.cases:
            # To write the page is work, too. Who does not want to wait for it interrupts.
            with suppress(KeyboardInterrupt):
                sweep.access.acquire()
    # After any other exception, jobs that outlive this process may still need them.
    remove_shared_sources(sweep.folder)
    made = make_report(store, settings.store_url, info.id, output, settings.summaries, sweep.plugins)
    again = shlex.join(["python", "-m", "harness", "report", info.id, "--store", store_label(settings.store_url)])
    problems = []
    for written, content in made.files():
        try:
            write_output(written, content)
        except OutputError as problem:
            problems.append(f"{problem}; the trials are stored: `{again} {written.option} {FILES[written.option]}`")
    return replace(made.result, interrupted=interrupted, problems=tuple(problems))
