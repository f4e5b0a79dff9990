"""One sweep from suite to report: load, plan, prepare, run, analyse, render."""

from __future__ import annotations

import errno
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.case import DataSource
from bench.node.layout import required_roles
from bench.plugins.backend import Backend
from bench.plugins.registry import load_backend, load_plugins
from bench.plugins.workload import DataProblem, Workload
from harness.errors import DataError, UsageError
from harness.planning.environment import read_environment
from harness.planning.options import option_combinations
from harness.planning.plan import Plan, make_plan
from harness.planning.suite import Suite, apply_flags, find_suite, find_toml_line, parse_settings, read_suite
from harness.sites.base.contract import DEFAULT_SITE, Site
from harness.sites.base.registry import find_site, site_names
from harness.sites.base.running_trial import utc_now
from harness.store.opening import check_store, mask_password, open_store, store_path
from harness.store.store import DEFAULT_STORE, Store, SweepInfo
from harness.sweep import report
from harness.sweep.json_document import as_json
from harness.sweep.progress import SweepProgress
from harness.sweep.runner import new_sweep_id, preload_modules, run_sweep
from reports.analysis import case_titles, formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import Findings, analyse_cells
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS, PredictOptions
from reports.analysis.stats import Estimate
from reports.analysis.trial_measures import overhead_of
from reports.formats import terminal
from reports.formats.terminal import finding_tables
from reports.page import summary


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has ended, with its cells and its page."""

    info: SweepInfo
    findings: Findings
    page: Path
    own_cost: Estimate | None = None
    interrupted: bool = False

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.findings.cells

    def as_json(self) -> dict[str, Any]:
        return as_json(self.info, self.findings, self.page, self.own_cost)

    def print(self, console: Console) -> None:
        for table in terminal.cell_tables(self.cells, console.width):
            console.print(table)
        for line in summary.problem_lines(self.cells):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        for line in report.node_remarks(self.info, self.cells):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        for table in finding_tables(self.findings):
            console.print(table)
        for line in summary.answer_sentences(self.findings):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self.own_cost is not None:
            said = formatting.overhead(self.own_cost)
            console.print(f"harness's own cost: {said}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"report: {self.page}", markup=False, highlight=False, soft_wrap=True)


def load_suite(name: str, changes: dict[str, Any], settings: list[str] | None) -> Suite:
    """The named suite with flags laid over it."""
    return apply_flags(read_suite(name), changes, parse_settings(settings or []))


def choose_site(name: str, suite: Suite) -> Site:
    """The named site with the suite's options for it. Raises :class:`UsageError` that names the option."""
    site = find_site(name)
    axes = suite.options.get(name, {})
    # A site has one value a knob: what looked like several was one with commas in it.
    site_options = {
        option: (",".join(map(str, values)),) if len(values) > 1 else values
        for option, values in axes.items()
        if option in site.options.model_fields
    }
    return site.with_options(site.options(**option_combinations(name, site.options, site_options)[0]))


def plan(suite: Suite, site: Site, locate_key: Callable[[tuple[str, ...]], str]) -> Plan:
    """The plan of a suite. Raises :class:`UsageError`, with file and line where the suite's file holds the mistake."""
    backends, workloads, broken = load_plugins()
    for found in broken:
        if found.name in (*suite.backends, *suite.workloads):
            raise UsageError(f"{found.kind} '{found.name}' can't be loaded: {found.error}")
    try:
        return make_plan(suite, site.machine(), backends, workloads, site, site_names())
    except UsageError as problem:
        raise UsageError(f"{locate_key(problem.place)}{problem}") from None


def key_locator(name: str, changes: dict[str, Any], settings: list[str] | None) -> Callable[[tuple[str, ...]], str]:
    """Tells ``file:line: `` of a key of the named suite; nothing for a key that a flag has set."""
    path = find_suite(name)
    said = parse_settings(settings or [])

    def locate(place: tuple[str, ...]) -> str:
        by_flag = bool(place) and (place[0] in changes or (len(place) > 2 and place[2] in said.get(place[1], {})))
        if not place or by_flag or (len(place) == 2 and place[1] in said):
            return ""
        text = path.read_text()
        return f"{path}:{find_toml_line(text, place)}: " if place[0] in tomllib.loads(text) else ""

    return locate


def print_plan(found: Plan, site: Site, console: Console) -> None:
    """Cases, skips and what makes no sense, a line each, and what would be submitted for each beyond this machine."""
    for case in found.cases:
        flags = f"  [{', '.join(case.flags)}]" if case.flags else ""
        console.print(f"run    {case_titles.case_title(case)}{flags}", markup=False, highlight=False, soft_wrap=True)
    for skip in found.skips:
        line = f"skip   {case_titles.case_title(skip.case)}: {skip.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for skip in found.not_applicable:
        line = f"never  {case_titles.case_title(skip.case)}: {skip.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for key, files in rendered_files(found, site).items():
        for name, content in files.items():
            console.print(f"\n# {key}: {name}\n{content.rstrip()}", markup=False, highlight=False, soft_wrap=True)
    total = len(found.cases) * found.repeats
    console.print(f"{len(found.cases)} cases × {found.repeats} rounds = {total} trials; {len(found.skips)} skipped")


def rendered_files(found: Plan, site: Site) -> dict[str, dict[str, str]]:
    """What would be submitted for each case beyond this machine, by case key and file name."""
    if site.name == DEFAULT_SITE:
        return {}
    # Where something is missing here, people look at what it would have been.
    cases = found.cases or [skip.case for skip in found.skips if site.missing_option() or site.missing_dependency()]
    return {
        case.key: site.render(
            case, required_roles(case, load_backend(case.backend), services_provided=site.provides_services)
        )
        for case in cases
    }


def run(
    suite: Suite, found: Plan, site: Site, store_url: str, page: Path | None, command: str, stderr_console: Console
) -> SweepResult:
    """Prepare the data, open the store, run the trials, write the page. Raises before anything is written."""
    if missing_option := site.missing_option():
        raise UsageError(f"--site {site.name}: {missing_option}")
    backends, workloads, _ = load_plugins()
    name = new_sweep_id()
    target = (page or default_page(store_url, name)).resolve()
    _check_page_writable(target, wanted=page is not None)
    check_store(store_url)
    site.warm(preload_modules(found, backends))
    ready = prepare_data(found, workloads, stderr_console)
    info = SweepInfo(
        id=name, started_at=utc_now(), command=command, suite=suite, plan=ready, environment=read_environment()
    )
    store = open_store(store_url, create=True)
    store.begin_sweep(info)
    return _run_and_report(info, store, site, store_url, target, stderr_console)


def resume(
    suite: Suite | None, site_name: str | None, store_url: str, page: Path | None, stderr_console: Console
) -> SweepResult:
    """Finish the sweep that began last and has not ended; ``suite``, ``site_name``: what was asked for, where anything
    was.

    Raises :class:`UsageError` where there is none, or where it was another one, elsewhere, or over other data.
    """
    backends, workloads, _ = load_plugins()
    store = open_store(store_url, create=False, upgrade=True)
    name = store.unfinished()
    if name is None:
        raise UsageError(f"--resume: store {mask_password(store_url)} holds no unfinished sweep; leave --resume out")
    check_store(store_url)
    info = store.sweep(name)
    place = next((case.site for case in info.plan.cases), DEFAULT_SITE)
    if (suite is not None and suite != info.suite) or site_name not in (None, place):
        raise UsageError(f"--resume: sweep {name} was asked for by `{info.command}`; repeat that, or say --resume only")
    here = read_environment().model_dump(exclude={"changed_files"})
    differing = [
        field for field, value in info.environment.model_dump(exclude={"changed_files"}).items() if value != here[field]
    ]
    if differing:
        raise UsageError(f"--resume: sweep {name} began with another {', '.join(differing)}; start a new one")
    site = choose_site(place, info.suite)
    site.warm(preload_modules(info.plan, backends))
    if prepare_data(info.plan, workloads, stderr_console) != info.plan:
        raise DataError(f"--resume: the data of sweep {name} has changed since; start a new one")
    target = (page or default_page(store_url, name)).resolve()
    _check_page_writable(target, wanted=page is not None)
    return _run_and_report(info, store, site, store_url, target, stderr_console)


def _run_and_report(
    info: SweepInfo, store: Store, site: Site, store_url: str, target: Path, stderr_console: Console
) -> SweepResult:
    """Run what the store does not hold yet, then write the page of what it holds."""
    backends, workloads, _ = load_plugins()
    interrupted = False
    left = len(info.plan.cases) * info.plan.repeats - len(store.done(info.id))
    with SweepProgress(stderr_console, max(0, left)) as watcher:
        try:
            run_sweep(info, store, site, backends, artifact_folder(store_url, info.id), watcher)
        except KeyboardInterrupt:
            interrupted = True
    return _write_report(store, info.id, target, backends, workloads, interrupted=interrupted)


def rewrite_report(
    sweep: str, store_url: str, page: Path | None, predict_options: PredictOptions = DEFAULT_PREDICT_OPTIONS
) -> SweepResult:
    """The page of a stored sweep, written again."""
    backends, workloads, _ = load_plugins()
    store = open_store(store_url, create=False)
    found = store.sweep(sweep).id
    target = (page or default_page(store_url, found)).resolve()
    return _write_report(store, found, target, backends, workloads, predict_options, interrupted=False)


def _write_report(
    store: Store,
    sweep: str,
    target: Path,
    backends: dict[str, Backend],
    workloads: dict[str, Workload],
    predict_options: PredictOptions = DEFAULT_PREDICT_OPTIONS,
    *,
    interrupted: bool,
) -> SweepResult:
    info, trials = store.sweep(sweep), store.trials(sweep)
    store.close()
    findings = analyse_cells(report.sweep_cells(info, trials, backends, workloads), predict_options)
    cost = overhead_of(trials)
    report.write_page(info, trials, findings, target, cost)
    return SweepResult(info, findings, target, cost, interrupted)


def prepare_data(found: Plan, workloads: dict[str, Workload], stderr_console: Console) -> Plan:
    """Fetch each workload's data once, before any rank starts; the plan's cases then name it.

    Raises :class:`DataError`.
    """
    prepared: dict[str, DataSource | None] = {}
    cases = []
    for case in found.cases:
        data_key = f"{case.workload} {sorted(case.workload_options.items())} {case.global_batch}"
        if data_key not in prepared:
            try:
                with (
                    stderr_console.status(f"preparing {case.workload}'s data")
                    if stderr_console.is_terminal
                    else nullcontext()
                ):
                    prepared[data_key] = workloads[case.workload].prepare(case)
            except DataProblem as problem:
                raise DataError(str(problem)) from None
        cases.append(case.model_copy(update={"data": prepared[data_key]}))
    return found.model_copy(update={"cases": tuple(cases)})


def default_page(store_url: str, sweep: str) -> Path:
    return artifact_folder(store_url, sweep) / "report.html"


def artifact_folder(store_url: str, sweep: str) -> Path:
    """Pages and logs of a sweep lie beside a file store; where the default one would be for a server."""
    return (store_path(store_url) or Path(DEFAULT_STORE)).parent / sweep


def _check_page_writable(target: Path, *, wanted: bool) -> None:
    """A page that can't be written is found out before the sweep, not after it. Raises :class:`UsageError`."""
    if not wanted:
        return
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as problem:
        raise UsageError(f"--report {target}: cannot be written ({problem.strerror}); name another place") from None
