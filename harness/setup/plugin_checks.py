"""Checks that a plugin keeps its contract: ``doctor --plugin FILE``, and the tests of the plugins of this project.

A declaration is checked without starting anything; a backend and a workload are then run on one and two real ranks of
this machine, where they must do the same work as a single process.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from bench.core.case import Case
from bench.core.records import Trial
from bench.core.telemetry import QUANTITIES
from bench.host.scratch import open_scratch
from bench.plugins.backend import Backend, Options
from bench.plugins.probe import ProbePlugin
from bench.plugins.registry import PluginKind, load_backend, load_workload, preloaded_modules, sources_of
from bench.plugins.workload import Workload, WorkloadKind
from harness.setup.doctor import Diagnostic
from harness.sites.base.contract import DEFAULT_SITE, Site, find_site
from harness.sweep.machine_access import open_machine_access, with_conditions
from harness.sweep.runner import run_trial
from reports.analysis import formatting

RANKS = (1, 2)
MAX_TOLERANCE = 0.1
WORKLOAD_KINDS = get_args(WorkloadKind)

Check = tuple[str, Callable[[], str | None]]
"""What is checked, and a function that returns what is wrong, or ``None``."""


def check_plugin(kind: PluginKind[Any], name: str) -> Iterator[Diagnostic]:
    """Check one plugin. The checks on real ranks come last, and only if the others succeed."""
    plugin = kind.load(name)
    declared: list[Check] = []
    if isinstance(plugin, Backend):
        declared = backend_checks(plugin)
    elif isinstance(plugin, Workload):
        declared = workload_checks(plugin)
    elif isinstance(plugin, Site):
        declared = site_checks(plugin)
    elif isinstance(plugin, ProbePlugin):
        declared = probe_checks(plugin)
    findings = [_run_check(f"{kind.name} {name}: {title}", check) for title, check in declared]
    yield from findings
    if all(finding.status == "ok" for finding in findings) and isinstance(plugin, Backend | Workload):
        cases = backend_cases(plugin) if isinstance(plugin, Backend) else workload_cases(plugin)
        for case in cases:
            yield check_on_ranks(f"{kind.name} {name}", case)
    if not declared:
        yield Diagnostic(name=f"{kind.name} {name}: loads", status="ok", found=plugin.summary)


def _run_check(title: str, check: Callable[[], str | None]) -> Diagnostic:
    try:
        problem = check()
    except Exception as raised:
        problem = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
    return Diagnostic(name=title, status="failed" if problem else "ok", found=problem or "as the contract says")


def backend_checks(backend: Backend) -> list[Check]:
    """Checks of what a backend declares; none of them starts a process."""
    return [
        ("options have defaults and descriptions", lambda: _check_options(backend.options)),
        ("has a transport for each of its devices, the CPU among them", lambda: _check_transports(backend)),
        ("launch is pure and starts every rank", lambda: _check_launch(backend)),
        ("reasons are one line", lambda: _check_reasons(backend)),
        ("refuses transports of others", lambda: _check_foreign_transport(backend)),
        ("tolerates little", lambda: _check_tolerance(backend)),
    ]


def workload_checks(workload: Workload) -> list[Check]:
    """Checks of what a workload declares."""

    def check_kind() -> str | None:
        return None if workload.kind in WORKLOAD_KINDS else f"kind '{workload.kind}' is none of {WORKLOAD_KINDS}"

    return [
        ("options have defaults and descriptions", lambda: _check_options(workload.options)),
        ("has a scaling", lambda: None if workload.scalings else "scalings is empty"),
        ("is of a known kind", check_kind),
    ]


def site_checks(site: Site) -> list[Check]:
    """Checks of what a site declares and renders; nothing is submitted."""

    def check_render() -> str | None:
        from bench.node.layout import required_roles

        backend = load_backend("ddp")
        case = _case(backend.name, "synthetic", "gloo", 2).model_copy(update={"site": site.name})
        roles = required_roles(case, backend, services_provided=site.provides_services)
        files = site.render(case, roles)
        if not files or not all(files.values()):
            return "render gives no file, or an empty one"
        return None if files == site.render(case, roles) else "render is not pure: it gives other files the second time"

    return [
        ("options have defaults and descriptions", lambda: _check_options(site.options)),
        ("render is pure", check_render),
    ]


def probe_checks(plugin: ProbePlugin) -> list[Check]:
    """Opens the probe and reads it once."""

    def check_read() -> str | None:
        probe = plugin.open(_case("single", "synthetic", "none", 1).model_copy(update={"telemetry": "always"}))
        if probe is None:
            return None
        try:
            unknown = [sample.name for sample in probe.read() if sample.name not in QUANTITIES]
            if not probe.devices and not probe.problems:
                return "has neither devices nor problems"
            return f"reads {unknown[0]}, which is no quantity of bench.core.telemetry" if unknown else None
        finally:
            probe.close()

    return [("reads known quantities", check_read)]


def backend_cases(backend: Backend) -> list[Case]:
    """The cases that show that a backend does the same work: a small model on each CPU transport, on 1 and 2 ranks. A
    launcher of programs does no work of its own."""
    if backend.starts_programs:
        return []
    transports = backend.transports.get("cpu", ())
    cases = (_case(backend.name, "synthetic", transport, ranks) for transport in transports for ranks in RANKS)
    return [case for case in cases if backend.unsupported_reason(case) is None]


def workload_cases(workload: Workload) -> list[Case]:
    """The cases that show that a workload does the same work on one and on two ranks; of a program nothing is known."""
    if workload.kind == "program":
        return []
    cases = [_case("single", workload.name, "none", 1), _case("ddp", workload.name, "gloo", 2)]
    return [case for case in cases if workload.unsupported_reason(case) is None]


def check_on_ranks(title: str, case: Case) -> Diagnostic:
    """Run a case on real ranks of this machine; they must do the same work as a single process."""
    name = f"{title}: same work, {case.workload} over {case.backend}/{case.transport} on {formatting.ranks(case.ranks)}"
    backend = load_backend(case.backend)
    if reason := backend.unavailable_reason(case):
        return Diagnostic(name=name, status="missing", found="not run here", remedy=reason)
    trial = run_case(case)
    proof = trial.same_work
    if trial.outcome != "ok" or proof is None or proof.verdict != "same":
        return Diagnostic(name=name, status="failed", found=trial.reason or "nothing was compared")
    return Diagnostic(
        name=name, status="ok", found=f"deviation {proof.deviation:.0e}, {proof.tolerance:.2g} is allowed"
    )


def run_case(case: Case) -> Trial:
    """One trial of a case on this machine; it is not stored."""
    data = load_workload(case.workload).prepare(case)
    case = case.model_copy(update={"data": data, "plugins": sources_of(case)})
    with (
        tempfile.TemporaryDirectory(dir=open_scratch()) as folder,
        open_machine_access("a trial of `try` or `doctor`") as access,
        access.held() as beside,
    ):
        site, backend = find_site(DEFAULT_SITE), load_backend(case.backend)
        site.warm(preloaded_modules(backend, [case.workload]))
        trial = run_trial(case, 0, site, backend, Path(folder), environment="")
        return with_conditions(trial, beside.conditions())


def _case(backend: str, workload: str, transport: str, ranks: int) -> Case:
    return Case(
        workload=workload,
        workload_options={"model": "toy"} if workload == "synthetic" else {},
        backend=backend,
        transport=transport,
        ranks=ranks,
        batch=16,
        window_s=0.1,
        telemetry="off",
    )


def _cases(backend: Backend) -> list[Case]:
    """Cases on each device and transport, and on several rank counts."""
    return [
        _case(backend.name, "synthetic", transport, ranks).model_copy(update={"device": device})
        for device, transports in backend.transports.items()
        for transport, ranks in itertools.product(transports, (1, 2, 4))
    ]


def _check_options(options: type[Options]) -> str | None:
    try:
        options()
    except ValidationError as problem:
        return f"{problem.errors()[0]['loc'][0]} has no default"
    bare = [name for name, field in options.model_fields.items() if not field.description]
    if bare:
        return f"{bare[0]} has no description"
    try:
        options.model_validate({"no_such_option": 1})
    except ValidationError:
        return None
    return "takes options that it does not declare"


def _check_transports(backend: Backend) -> str | None:
    empty = [device for device in ("cpu", *backend.transports) if not backend.transports.get(device)]
    return f"has no transport on {empty[0]}" if empty else None


def _check_launch(backend: Backend) -> str | None:
    launched = 0
    for case in _cases(backend):
        if backend.unsupported_reason(case) is not None:
            continue
        launched += 1
        roles = backend.launch(case)
        unknown = [role.name for role in roles if role.name != "rank" and backend.role(role.name) is None]
        if roles != backend.launch(case):
            return f"{case.key}: launch gives other roles the second time"
        if len({role.name for role in roles}) < len(roles):
            return f"{case.key}: two roles have one name"
        if all(role.service for role in roles):
            return f"{case.key}: nothing ends by itself, every role is a service"
        if all(role.count != case.ranks for role in roles):
            return f"{case.key}: no role has as many processes as there are ranks"
        if unknown:
            return f"{case.key}: role('{unknown[0]}') is None"
    return None if launched else "every case is unsupported"


def _check_reasons(backend: Backend) -> str | None:
    for case in _cases(backend):
        for reason in (backend.unsupported_reason(case), backend.unavailable_reason(case)):
            if reason is not None and (not reason or "\n" in reason):
                return f"{case.key}: {reason!r}"
    return None


def _check_foreign_transport(backend: Backend) -> str | None:
    case = _case(backend.name, "synthetic", "no_such_transport", 1)
    return None if backend.unsupported_reason(case) else "unsupported_reason is None for a transport that it lacks"


def _check_tolerance(backend: Backend) -> str | None:
    tolerance = backend.tolerance(_cases(backend)[0])
    if not 0 < tolerance.value < MAX_TOLERANCE:
        return f"a deviation of {tolerance.value:g} is allowed; it must be below {MAX_TOLERANCE:g}"
    return None if tolerance.label else "the tolerance has no label"
