"""One sweep from suite to report: load, plan, prepare, run, analyse, render."""

from __future__ import annotations

import errno
import importlib
import pkgutil
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.backends import Backend
from bench.case import DataSource
from bench.node import roles_of
from bench.registry import load_backend, survey
from bench.workloads import DataProblem, Workload
from harness import report, sites
from harness.document import as_json
from harness.environment import read_environment
from harness.errors import DataError, UsageError, nearest
from harness.knobs import choices
from harness.plan import Plan, make_plan
from harness.run import modules_of, new_sweep_id, run_sweep
from harness.sites import DEFAULT_SITE, Site
from harness.started import now
from harness.storage.opening import check_store, masked, open_store, path_of
from harness.storage.store import DEFAULT_STORE, Store, SweepInfo
from harness.suite import Suite, find_suite, line_of, override, parse_settings, read_suite
from harness.watch import ProgressWatcher
from reports.analysis.own_cost import own_cost
from reports.analysis.stats import Estimate
from reports.cells import Cell
from reports.findings import Findings, find
from reports.forecasts import NOTHING_ASKED, Asked
from reports.page import text, words
from reports.page.further_text import further


@dataclass(frozen=True)
class Done:
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
        for table in text.tables(self.cells, console.width):
            console.print(table)
        for line in text.remarks(self.cells):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        for line in report.node_remarks(self.info, self.cells):
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        for table in further(self.findings):
            console.print(table)
        for line in text.answered(self.findings):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self.own_cost is not None:
            said = words.own_cost(self.own_cost)
            console.print(f"harness's own cost: {said}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"report: {self.page}", markup=False, highlight=False, soft_wrap=True)


def choose_suite(name: str, changes: dict[str, Any], settings: list[str] | None) -> Suite:
    """The named suite with flags laid over it."""
    return override(read_suite(name), changes, parse_settings(settings or []))


def find_site(name: str) -> Site:
    known = site_names()
    if name not in known:
        raise UsageError(f"unknown site '{name}'{nearest(name, known)}")
    found: Site = importlib.import_module(f"harness.sites.{name}").SITE
    return found


def site_names() -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(sites.__path__))


def choose_site(name: str, suite: Suite) -> Site:
    """The named site with the suite's options for it. Raises :class:`UsageError` that names the option."""
    site = find_site(name)
    axes = suite.options.get(name, {})
    # A site has one value a knob: what looked like several was one with commas in it.
    given = {knob: (",".join(map(str, values)),) if len(values) > 1 else values
             for knob, values in axes.items() if knob in site.options.model_fields}  # fmt: skip
    return site.configured(site.options(**choices(name, site.options, given)[0]))


def plan(suite: Suite, site: Site, place_of: Callable[[tuple[str, ...]], str]) -> Plan:
    """The plan of a suite. Raises :class:`UsageError`, with file and line where the suite's file holds the mistake."""
    backends, workloads, broken = survey()
    for found in broken:
        if found.name in (*suite.backends, *suite.workloads):
            raise UsageError(f"{found.kind} '{found.name}' can't be loaded: {found.error}")
    try:
        return make_plan(suite, site.machine(), backends, workloads, site, site_names())
    except UsageError as problem:
        raise UsageError(f"{place_of(problem.place)}{problem}") from None


def place_in(name: str, changes: dict[str, Any], settings: list[str] | None) -> Callable[[tuple[str, ...]], str]:
    """Tells ``file:line: `` of a key of the named suite; nothing for a key that a flag has set."""
    path = find_suite(name)
    said = parse_settings(settings or [])

    def tell(place: tuple[str, ...]) -> str:
        by_flag = bool(place) and (place[0] in changes or (len(place) > 2 and place[2] in said.get(place[1], {})))
        if not place or by_flag or (len(place) == 2 and place[1] in said):
            return ""
        text = path.read_text()
        return f"{path}:{line_of(text, place)}: " if place[0] in tomllib.loads(text) else ""

    return tell


def print_plan(found: Plan, site: Site, console: Console) -> None:
    """Cases, skips and what makes no sense, a line each, and what would be submitted for each beyond this machine."""
    for case in found.cases:
        flags = f"  [{', '.join(case.flags)}]" if case.flags else ""
        console.print(f"run    {words.case_title(case)}{flags}", markup=False, highlight=False, soft_wrap=True)
    for skip in found.skips:
        line = f"skip   {words.case_title(skip.case)}: {skip.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for skip in found.not_applicable:
        line = f"never  {words.case_title(skip.case)}: {skip.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for key, files in files_of(found, site).items():
        for name, content in files.items():
            console.print(f"\n# {key}: {name}\n{content.rstrip()}", markup=False, highlight=False, soft_wrap=True)
    total = len(found.cases) * found.repeats
    console.print(f"{len(found.cases)} cases × {found.repeats} rounds = {total} trials; {len(found.skips)} skipped")


def files_of(found: Plan, site: Site) -> dict[str, dict[str, str]]:
    """What would be submitted for each case beyond this machine, by case key and file name."""
    if site.name == DEFAULT_SITE:
        return {}
    # Where something is missing here, people look at what it would have been.
    cases = found.cases or [skip.case for skip in found.skips if site.unset() or site.lacking()]
    return {case.key: site.render(case, roles_of(case, load_backend(case.backend))) for case in cases}


def run(
    suite: Suite, found: Plan, site: Site, store_place: str, page: Path | None, command: str, people: Console
) -> Done:
    """Prepare the data, open the store, run the trials, write the page. Raises before anything is written."""
    if unset := site.unset():
        raise UsageError(f"--site {site.name}: {unset}")
    backends, workloads, _ = survey()
    name = new_sweep_id()
    target = (page or page_beside(store_place, name)).resolve()
    _check_writable(target, wanted=page is not None)
    check_store(store_place)
    site.warm(modules_of(found, backends))
    ready = prepare_data(found, workloads, people)
    info = SweepInfo(
        id=name, started_at=now(), command=command, suite=suite, plan=ready, environment=read_environment()
    )
    store = open_store(store_place, create=True)
    store.begin_sweep(info)
    return _go(info, store, site, store_place, target, people)


def resume(suite: Suite | None, asked_site: str | None, store_place: str, page: Path | None, people: Console) -> Done:
    """Finish the sweep that began last and has not ended; ``suite``, ``asked_site``: what was asked for, where anything
    was.

    Raises :class:`UsageError` where there is none, or where it was another one, elsewhere, or over other data.
    """
    backends, workloads, _ = survey()
    store = open_store(store_place, create=False, upgrade=True)
    name = store.unfinished()
    if name is None:
        raise UsageError(f"--resume: store {masked(store_place)} holds no unfinished sweep; leave --resume out")
    check_store(store_place)
    info = store.sweep(name)
    place = next((case.site for case in info.plan.cases), DEFAULT_SITE)
    if (suite is not None and suite != info.suite) or asked_site not in (None, place):
        raise UsageError(f"--resume: sweep {name} was asked for by `{info.command}`; repeat that, or say --resume only")
    here = read_environment().model_dump(exclude={"changed_files"})
    differ = [field for field, value in info.environment.model_dump(exclude={"changed_files"}).items()
              if value != here[field]]  # fmt: skip
    if differ:
        raise UsageError(f"--resume: sweep {name} began with another {', '.join(differ)}; start a new one")
    site = choose_site(place, info.suite)
    site.warm(modules_of(info.plan, backends))
    if prepare_data(info.plan, workloads, people) != info.plan:
        raise DataError(f"--resume: the data of sweep {name} has changed since; start a new one")
    target = (page or page_beside(store_place, name)).resolve()
    _check_writable(target, wanted=page is not None)
    return _go(info, store, site, store_place, target, people)


def _go(info: SweepInfo, store: Store, site: Site, store_place: str, target: Path, people: Console) -> Done:
    """Run what the store does not hold yet, then write the page of what it holds."""
    backends, workloads, _ = survey()
    interrupted = False
    left = len(info.plan.cases) * info.plan.repeats - len(store.done(info.id))
    with ProgressWatcher(people, max(0, left)) as watcher:
        try:
            run_sweep(info, store, site, backends, folder_beside(store_place, info.id), watcher)
        except KeyboardInterrupt:
            interrupted = True
    return _finish(store, info.id, target, backends, workloads, interrupted=interrupted)


def report_again(sweep: str, store_place: str, page: Path | None, asked: Asked = NOTHING_ASKED) -> Done:
    """The page of a stored sweep, written again."""
    backends, workloads, _ = survey()
    store = open_store(store_place, create=False)
    found = store.sweep(sweep).id
    target = (page or page_beside(store_place, found)).resolve()
    return _finish(store, found, target, backends, workloads, asked, interrupted=False)


def _finish(
    store: Store,
    sweep: str,
    target: Path,
    backends: dict[str, Backend],
    workloads: dict[str, Workload],
    asked: Asked = NOTHING_ASKED,
    *,
    interrupted: bool,
) -> Done:
    info, trials = store.sweep(sweep), store.trials(sweep)
    store.close()
    findings = find(report.cells_of(info, trials, backends, workloads), asked)
    cost = own_cost(trials)
    report.write_page(info, trials, findings, target, cost)
    return Done(info, findings, target, cost, interrupted)


def prepare_data(found: Plan, workloads: dict[str, Workload], people: Console) -> Plan:
    """Fetch each workload's data once, before any rank starts; the plan's cases then name it.

    Raises :class:`DataError`.
    """
    prepared: dict[str, DataSource | None] = {}
    cases = []
    for case in found.cases:
        what = f"{case.workload} {sorted(case.workload_options.items())} {case.global_batch}"
        if what not in prepared:
            try:
                with people.status(f"preparing {case.workload}'s data") if people.is_terminal else nullcontext():
                    prepared[what] = workloads[case.workload].prepare(case)
            except DataProblem as problem:
                raise DataError(str(problem)) from None
        cases.append(case.model_copy(update={"data": prepared[what]}))
    return found.model_copy(update={"cases": tuple(cases)})


def page_beside(store_place: str, sweep: str) -> Path:
    return folder_beside(store_place, sweep) / "report.html"


def folder_beside(store_place: str, sweep: str) -> Path:
    """Pages and logs of a sweep lie beside a file store; where the default one would be for a server."""
    return (path_of(store_place) or Path(DEFAULT_STORE)).parent / sweep


def _check_writable(target: Path, *, wanted: bool) -> None:
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
