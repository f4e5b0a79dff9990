"""From a suite's name and flags to the plan of a sweep on a site. It starts nothing and writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from bench.core.case import REPLAY_PREFIX
from bench.core.recording import read_recording
from bench.host.paths import from_home
from bench.plugins.registry import Plugins, load_plugins
from harness.errors import UsageError
from harness.planning.gpus import idle_gpus_problem
from harness.planning.options import Axes, known_options, parse_settings, resolve_options, single_options
from harness.planning.plan import Plan, idle_parts, make_plan
from harness.planning.script_flags import WORKLOAD, ScriptFlags
from harness.planning.suite import Suite, SuiteFile, apply_flags, shipped_suites
from harness.sites.base.contract import DEFAULT_SITE, Site, find_site, site_names
from harness.sweep.duration import SweepDuration
from harness.sweep.plugins import use_plugin_files, with_programs, with_sources
from reports.analysis import case_titles
from reports.analysis.decisions import NO_QUESTION, questions_of
from reports.analysis.formatting import counted, small_share
from reports.analysis.formatting import duration as duration_text
from reports.formats.documents import versioned

log = logging.getLogger("scaling_harness")


@dataclass(frozen=True)
class SuiteRequest:
    """A suite as it was asked for.

    Args:
        name: A suite's name or a TOML file.
        overrides: Values of flags by the name of the suite's field.
        settings: The values of ``--set``.
        plugins: The files of ``--plugin``, beside those of the suite.
        script: The flags of a user's program.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()
    plugins: Sequence[str] = ()
    script: ScriptFlags = field(default_factory=ScriptFlags)

    @property
    def script_folder(self) -> Path:
        """The folder that the paths of scripts are relative to: that of the suite's file where it names them."""
        return Path.cwd() if self.script.scripts or self.name in shipped_suites() else self.file.path.parent

    @cached_property
    def file(self) -> SuiteFile:
        """The file of the suite, read once. Raises :class:`UsageError`."""
        return SuiteFile(self.name)


@dataclass(frozen=True)
class PlannedSweep:
    """What will run, where, and the plugins that it takes."""

    suite: Suite
    site: Site
    plan: Plan
    plugins: Plugins

    def rendered_files(self) -> dict[str, dict[str, str]]:
        """What would be submitted for each case beyond this machine, by case key and file name."""
        if self.site.name == DEFAULT_SITE:
            return {}
        from bench.node.layout import required_roles

        # Where something is missing here, the files are shown all the same.
        lacking = self.site.missing_option() or self.site.missing_dependency()
        cases = self.plan.cases or [skip.case for skip in self.plan.skips if lacking]
        provided = self.site.provides_services
        return {
            case.key: self.site.render(
                case, required_roles(case, self.plugins.backends[case.backend], services_provided=provided)
            )
            for case in cases
        }

    def as_json(self, duration: SweepDuration) -> dict[str, Any]:
        document = self.plan.model_dump(mode="json", exclude={"later"}) | {"files": self.rendered_files()}
        return versioned("plan", document | {"duration": duration.model_dump()})

    def lines(self, duration: SweepDuration) -> Iterator[str]:
        """Cases, skips and what makes no sense, a line each, the files that would be submitted, and the duration."""
        skips, never = self.plan.skips, self.plan.not_applicable
        values = case_titles.with_batch([*self.plan.cases, *(skip.case for skip in (*skips, *never))])
        for case in self.plan.cases:
            flags = f"  [{', '.join(case.flags)}]" if case.flags else ""
            yield f"run    {case_titles.case_title(case, values(case))}{flags}"
        for skip in skips:
            yield f"skip   {case_titles.case_title(skip.case, values(skip.case))}: {skip.reason}"
        for skip in never:
            yield f"never  {case_titles.case_title(skip.case, values(skip.case))}: {skip.reason}"
        for key, files in self.rendered_files().items():
            for name, content in files.items():
                yield f"\n# {key}: {name}\n{content.rstrip()}"
        count, repeats = len(self.plan.cases), self.plan.repeats
        trials, skipped = counted(count * repeats, "trial"), len(self.plan.skips)
        most = " at most, fewer where questions are decided" if self.suite.until else ""
        yield f"{counted(count, 'case')} × {counted(repeats, 'round')} = {trials}{most}; {skipped} skipped"
        if count:
            yield f"time: {self.describe(duration)}"

    def describe(self, duration: SweepDuration) -> str:
        """The duration as one line; further rounds for ``--precision`` are named, and not in it."""
        precision, budget_s = self.suite.precision, self.suite.budget_s
        rounds = (
            f"; then further rounds for ±{small_share(precision)}, up to {duration_text(budget_s)} in all"
            if precision
            else ""
        )
        most = "at most " if self.suite.until and duration.seconds is not None else ""
        return f"{most}{duration.text()}, {duration.explanation()}{rounds}"


def plan_sweep(request: SuiteRequest, site_name: str = DEFAULT_SITE) -> PlannedSweep:
    """Load the suite and plan it on a site.

    Raises:
        UsageError: A name, an option or a number is wrong; with file and line where the suite's file holds it.
    """
    plugins = load_request_plugins(request)
    suite = load_suite(request, plugins)
    _report_broken_plugins(suite, plugins)
    with _located(request):
        site = choose_site(site_name, suite)
        site.survey()
        _check_recording(suite, site)
        machine = site.machine()
        plan = make_plan(suite, machine, plugins.backends, plugins.workloads, site)
        plan = with_programs(with_sources(plan), request.script_folder)
    if (problem := idle_gpus_problem(suite, machine)) is not None:
        log.warning("%s", problem)
    for name, reason in idle_parts(plan).items():
        log.warning("nothing of %s runs: %s", name, reason)
    # What is skipped now may be compiled, and compared after all.
    if suite.until and plan.cases and not questions_of([*plan.cases, *(skip.case for skip in plan.skips)]):
        log.warning("--until decided: %s", NO_QUESTION)
    for line in _unused_settings(request, suite, site, plugins):
        log.warning("%s", line)
    return PlannedSweep(suite, site, plan, plugins)


def _check_recording(suite: Suite, site: Site) -> None:
    """Raise where ``replay:FILE`` names no recording. Nodes of other sites have files of their own."""
    if site.name != DEFAULT_SITE or not suite.telemetry.startswith(REPLAY_PREFIX):
        return
    path = from_home(suite.telemetry.removeprefix(REPLAY_PREFIX))
    try:
        with path.open() as lines:
            read_recording(islice(lines, 1))
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise UsageError(f"--telemetry {suite.telemetry}: {why}", ("telemetry",)) from None


def _unused_settings(request: SuiteRequest, suite: Suite, site: Site, plugins: Plugins) -> Iterator[str]:
    """A line for each option of ``--set`` that belongs to no part of the sweep. A suite's may be meant for others."""
    parts = {"workload": suite.workloads, "backend": suite.backends, "site": (site.name,)}
    settings = parse_settings(request.settings)
    for owner, options in resolve_options(settings, _known_options(settings, plugins)).items():
        scope, _, name = owner.partition(".")
        if name not in parts[scope]:
            yield f"--set {owner}.{next(iter(options))} has no effect: {scope} {name} is not in this sweep"


def load_request_plugins(request: SuiteRequest) -> Plugins:
    """All plugins, those of the files that the suite and the flags name included. Raises :class:`UsageError`."""
    with _located(request):
        use_plugin_files([*request.file.read().plugins, *request.plugins])
    return load_plugins()


def load_suite(request: SuiteRequest, plugins: Plugins) -> Suite:
    """The suite with flags laid over it and options under their full names. Raises :class:`UsageError`."""
    settings = parse_settings(request.settings)
    with _located(request):
        suite = full_names(request.file.read(), plugins)
    files = (*suite.plugins, *(str(Path(file).resolve()) for file in request.plugins))
    suite = suite.model_copy(update={"plugins": tuple(dict.fromkeys(files))})
    changes, options = dict(request.overrides), resolve_options(settings, _known_options(settings, plugins))
    for scope, axes in request.script.options().items():
        options.setdefault(scope, {}).update(axes)
    changes |= request.script.changes(changes, plugins.backends)
    suite = apply_flags(suite, changes, options)
    if suite.until is None:
        for flag, field_ in (("--margin", "margin"), ("--max-repeats", "max_repeats")):
            if field_ in request.overrides:
                raise UsageError(f"{flag}: it is about --until decided; add that, or leave it out")
    elif suite.precision is not None:
        raise UsageError("--until decided: a sweep goes on until it is decided or --precision is reached, not both")
    if "steps" in request.overrides and request.overrides.get("adapt_window"):
        raise UsageError("--window auto: --steps gives the window a number of steps; leave one of them out")
    if request.script.given and WORKLOAD not in suite.workloads:
        raise UsageError(f"{request.script.given[0]}: it is about a program; name one with --script")
    return suite


def full_names(suite: Suite, plugins: Plugins) -> Suite:
    """The suite with its options under full names; a stored one may hold short names. Raises :class:`UsageError`."""
    options = resolve_options(suite.options, _known_options(suite.options, plugins))
    return suite.model_copy(update={"options": options})


def choose_site(name: str, suite: Suite) -> Site:
    """The named site with the suite's options for it. Raises :class:`UsageError` that names the option."""
    site = find_site(name)
    return site.with_options(single_options(f"site.{name}", site.options, suite.options.get(f"site.{name}", {})))


def _known_options(axes: Axes, plugins: Plugins) -> dict[str, tuple[str, ...]]:
    """Sites are loaded only where an option is set for one of their name."""
    named = {plugin.rpartition(".")[2] for plugin in axes}
    sites = {name: find_site(name).options if name in named else None for name in site_names()}
    return known_options(plugins.backends, plugins.workloads, sites)


def _report_broken_plugins(suite: Suite, plugins: Plugins) -> None:
    for broken in plugins.broken:
        if broken.name in (*suite.backends, *suite.workloads):
            raise UsageError(f"{broken.kind} '{broken.name}' can't be loaded: {broken.error}")
        log.warning("plugin broken: %s %s: %s", broken.kind, broken.name, broken.error)


@contextmanager
def _located(request: SuiteRequest) -> Iterator[None]:
    """Name file and line in an error about a key that the suite's file sets and no flag overrides."""
    try:
        yield
    except UsageError as problem:
        if not problem.place or _set_by_flag(problem.place, request):
            raise
        raise UsageError(f"{request.file.locate(problem.place)}{problem}") from None


def _set_by_flag(place: tuple[str, ...], request: SuiteRequest) -> bool:
    if place[0] in request.overrides:
        return True
    name = place[1].rpartition(".")[2] if len(place) > 1 else ""
    set_options = {
        option
        for plugin, options in parse_settings(request.settings).items()
        for option in options
        if plugin.rpartition(".")[2] == name
    }
    return any(option in set_options for option in place[2:])
