"""From a suite to ordered cases, skips with reasons, and combinations that make no sense. It starts nothing."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from bench.core.case import REPLAY_PREFIX, Case, Device, Scalar, Scaling
from bench.core.frozen_model import FrozenModel
from bench.node.launchers.base import launch_unavailable_reason
from bench.plugins.backend import Backend
from bench.plugins.workload import Workload
from harness.errors import UsageError, suggest_name
from harness.planning.gpus import ranks_on_a_machine, shares_gpus, sharing_refused, too_few_gpus
from harness.planning.options import option_combinations
from harness.planning.placements import Machine, Placement, choose_device, default_threads, placements
from harness.planning.python_files import suggest_option
from harness.planning.suite import Suite
from harness.planning.variables import variable_combinations
from reports.analysis.case_titles import value_text
from reports.analysis.stats import estimate, half_width

T = TypeVar("T")
SUITE_FIELDS_OF_CASES = {
    "seed",
    "steps",
    "precision",
    "warmup",
    "verify_steps",
    "tolerance",
    "timeout_s",
    "decompose",
    "own_cost",
    "roofline",
    "telemetry",
}
"""The fields of a suite that every case repeats."""
WINDOW_S = 1.0
GPU_WINDOW_S = 2.0
"""The shortest window in whole seconds that holds three values of every reading of a GPU, also where the driver knows
power as a mean over a second only (:meth:`bench.core.update_timing.UpdateTiming.needed_window_s`)."""
MAX_REASONS = 3
"""Why a plan is empty, in its error."""


class Skip(FrozenModel):
    """A case that does not run, with the reason and the remedy."""

    case: Case
    reason: str


class Plan(FrozenModel):
    """What will run, what can't run here, and what makes no sense anywhere."""

    cases: tuple[Case, ...]
    skips: tuple[Skip, ...]
    not_applicable: tuple[Skip, ...]
    repeats: int
    """Trials of each case; under ``until = decided`` at most."""
    later: tuple[str, ...] = ()
    """The keys of cases that are measured when all rounds of the others have ended: their backend was built then."""


def idle_parts(plan: Plan) -> dict[str, str]:
    """The workloads and backends of which no case is planned or skipped, each with the reason (pure)."""
    active = [*plan.cases, *(skip.case for skip in plan.skips)]
    busy = {name for case in active for name in (case.workload, case.backend)}
    idle: dict[str, str] = {}
    for skip in plan.not_applicable:
        for name in {skip.case.workload, skip.case.backend} - busy:
            idle.setdefault(name, skip.reason)
    return idle


class SiteProtocol(Protocol):
    """What the plan needs of a site; see :class:`harness.sites.base.contract.Site`."""

    shares_environment: bool

    launchers: tuple[str, ...]

    def unavailable_reason(self, case: Case) -> str | None: ...

    def launcher_unavailable_reason(self, launcher: str) -> str | None: ...


def make_plan(
    suite: Suite,
    machine: Machine,
    backends: Mapping[str, Backend],
    workloads: Mapping[str, Workload],
    where: SiteProtocol,
) -> Plan:
    """Expand a suite.

    Args:
        suite: With options under their full names (:func:`harness.planning.options.resolve_options`).
        machine: The machines of the site.
        backends: All backends by name.
        workloads: All workloads by name.
        where: The site.

    Raises:
        UsageError: A name, an option or a number is wrong, or the plan is empty.
    """
    _check_names(suite, backends, workloads)
    device = choose_device(suite, machine)
    places = placements(suite, machine, device)
    cases: list[Case] = []
    skips: list[Skip] = []
    not_applicable: list[Skip] = []
    for case in _expand(suite, device, places, machine, backends, workloads):
        backend, workload = backends[case.backend], workloads[case.workload]
        unsupported = (
            _other_kind_reason(workload, backend)
            or workload.unsupported_reason(case)
            or backend.unsupported_reason(case)
            or sharing_refused(case, backend, machine)
            or _refused_execution(case, backend, workload)
        )
        if unsupported:
            not_applicable.append(Skip(case=case, reason=unsupported))
        elif skip_reason := unavailable_reason(case, backend, workload, machine, where):
            skips.append(Skip(case=case, reason=skip_reason))
        else:
            cases.append(case)
    if not cases and not skips:
        raise UsageError(
            f"suite '{suite.name}' plans nothing to run{_why_empty(not_applicable, suite, machine, backends)}"
        )
    return Plan(cases=tuple(cases), skips=tuple(skips), not_applicable=tuple(not_applicable), repeats=suite.max_rounds)


def _why_empty(never: Sequence[Skip], suite: Suite, machine: Machine, backends: Mapping[str, Backend]) -> str:
    """The reasons of an empty plan, after a colon: of its cases, then what this machine lacks for the first of them."""
    reasons = list(dict.fromkeys(skip.reason for skip in never))[:MAX_REASONS]
    if never and (lacking := too_few_gpus(never[0].case, backends[never[0].case.backend], machine)):
        reasons.append(lacking)
    elif never and never[0].case.device == "cuda" and machine.ranks_for_gpus == 1 and not (suite.ranks or suite.nodes):
        reasons.append("with 1 GPU, 1 rank is the default")
    return f": {'; '.join(reasons)}" if reasons else ""


def _refused_execution(case: Case, backend: Backend, workload: Workload) -> str | None:
    """Why sessions of the backend can't take a way of execution that the workload's options choose, or ``None``."""
    options = workload.options(**case.workload_options)
    chosen = {name: getattr(options, name) for name in workload.options.execution}
    return next(
        (
            f"{backend.name} does not take {name}={value_text(value)}: {backend.unsupported_options[name]}"
            for name, value in chosen.items()
            if name in backend.unsupported_options and value != workload.options.execution[name]
        ),
        None,
    )


def unavailable_reason(
    case: Case, backend: Backend, workload: Workload, machine: Machine, where: SiteProtocol
) -> str | None:
    """Why a case can't run on this site at present, with the remedy, or ``None``."""
    return (
        too_few_gpus(case, backend, machine)
        or (backend.unavailable_reason(case) or workload.unavailable_reason(case) if where.shares_environment else None)
        or where.unavailable_reason(case)
        or launch_unavailable_reason(case, backend.launch(case), where.launchers, where.launcher_unavailable_reason)
    )


def _other_kind_reason(workload: Workload, backend: Backend) -> str | None:
    """Why a backend does not run workloads of a kind: launchers start programs, the others nothing else."""
    if (workload.kind == "program") == backend.starts_programs:
        return None
    if backend.starts_programs:
        return f"{backend.name} starts a program of yours (--script), not a workload of this project or a plugin"
    return (
        f"{backend.name} runs workloads of this project or a plugin, not a program; choose a launcher, such as torchrun"
    )


def shuffled_rounds(plan: Plan, seed: int) -> Iterator[tuple[int, Case]]:
    """Round number and case, every case once a round.

    Each round has its own seeded order, so that a drift of the machine affects all cases alike. Those that are measured
    later have rounds of their own, from the first on.
    """
    later = frozenset(plan.later)
    for is_later in (False, True):
        cases = [case for case in plan.cases if (case.key in later) == is_later]
        for number in range(plan.repeats) if cases else ():
            for case in shuffle_cases(cases, seed, number):
                yield number, case


def shuffle_cases(cases: Sequence[T], seed: int, round_number: int) -> list[T]:
    """The cases (or their places) in the order of a round, which the seed decides."""
    order = list(cases)
    random.Random(f"{seed}/{round_number}").shuffle(order)
    return order


def imprecise_cases(plan: Plan, rates: Mapping[str, Sequence[float]], precision: float) -> list[Case]:
    """The cases whose throughput is not known well enough.

    Args:
        plan: The cases.
        rates: Throughputs of successful trials by case key. A case without one is left out: more rounds would not
            make its number precise.
        precision: The largest half-width of the 95 % interval, as a fraction of the value.
    """
    wide = []
    for case in plan.cases:
        case_rates = rates.get(case.key)
        width = half_width(estimate(case_rates, "")) if case_rates else 0.0
        if width is None or width > precision:
            wide.append(case)
    return wide


def _check_names(suite: Suite, backends: Mapping[str, Backend], workloads: Mapping[str, Workload]) -> None:
    for name in suite.backends:
        if name not in backends:
            raise UsageError(f"unknown backend '{name}'{suggest_option(name, backends)}", ("backends",))
    for name in suite.workloads:
        if name not in workloads:
            raise UsageError(f"unknown workload '{name}'{suggest_option(name, workloads)}", ("workloads",))


def _expand(
    suite: Suite,
    device: Device,
    places: Sequence[Placement],
    machine: Machine,
    backends: Mapping[str, Backend],
    workloads: Mapping[str, Workload],
) -> Iterator[Case]:
    variables = variable_combinations(suite.env)
    for workload_name, backend_name in itertools.product(suite.workloads, suite.backends):
        workload, backend = workloads[workload_name], backends[backend_name]
        where: Device = device if device in workload.devices else "cpu"
        backend_scope = f"backend.{backend_name}"
        transports, option_axes = _split_transport(suite.options.get(backend_scope, {}), backend, where)
        for (
            (scaling, workload_options),
            net,
            batch,
            transport,
            backend_options,
            env,
            (count, ranks_per_node),
        ) in itertools.product(
            _scalings_and_options(workload, suite),
            suite.net or (None,),
            suite.batch if workload.uses_batch else (1,),
            transports,
            option_combinations(backend_scope, backend.options, option_axes),
            variables,
            places,
        ):
            if workload.uses_batch and scaling == "strong" and batch % count:
                raise UsageError(
                    f"batch {batch} does not divide among {count} ranks; under strong scaling it is the global "
                    "batch: choose a multiple, or --scaling weak"
                )
            case = Case(
                workload=workload_name,
                workload_options=workload_options,
                backend=backend_name,
                transport=transport,
                backend_options=backend_options,
                env=env,
                device=where,
                window_s=suite.window_s or default_window_s(where, suite.telemetry),
                ranks=count,
                ranks_per_node=ranks_per_node,
                ranks_per_gpu=machine.ranks_per_gpu if where == "cuda" else 1,
                site=machine.site,
                scaling=scaling,
                batch=batch,
                threads=_threads(suite, places, machine, workload),
                affinity=suite.affinity or ("none" if workload.kind == "program" else "cores"),
                net=net,
                fault=suite.fault if suite.fault is not None and suite.fault.rank < count else None,
                # The length of a given number of steps is what it is.
                adapt_window=suite.adapt_window and suite.steps is None,
                **suite.model_dump(include=SUITE_FIELDS_OF_CASES),
            )
            yield case.model_copy(update={"flags": _flags(case, workload, machine)})


def default_window_s(device: Device, telemetry: str) -> float:
    """The length of a window in seconds, where the suite does not say it: readings of GPUs need a longer one."""
    reads_gpus = telemetry.startswith(REPLAY_PREFIX) or (device == "cuda" and telemetry != "off")
    return GPU_WINDOW_S if reads_gpus else WINDOW_S


def _threads(suite: Suite, places: Sequence[Placement], machine: Machine, workload: Workload) -> int:
    """Threads of each rank, the same at every rank count. A program has as many as torchrun gives it: one, unless it is
    a single rank."""
    several = any(place.ranks > 1 for place in places)
    by_default = 1 if workload.kind == "program" and several else default_threads(places, machine)
    return suite.threads or by_default


def _scalings_and_options(workload: Workload, suite: Suite) -> list[tuple[Scaling, dict[str, Scalar]]]:
    """The kinds of scaling with every combination of the options of a workload, each as what differs from defaults."""
    scope = f"workload.{workload.name}"
    try:
        products = workload.split_axes(suite.options.get(scope, {}))
    except ValueError as problem:
        raise UsageError(f"option {scope}: {problem}", ("options", scope)) from None
    combinations = [chosen for axes in products for chosen in option_combinations(scope, workload.options, axes)]
    for number, chosen in enumerate(combinations):
        # Of two products: two commands of a program may have an axis with the same name.
        if chosen in combinations[:number]:
            raise UsageError(f"option {scope}: {chosen} is named twice", ("options", scope))
    if suite.scaling is None:
        return [(workload.default_scaling(workload.options(**chosen)), chosen) for chosen in combinations]
    scalings = [scaling for scaling in suite.scaling if scaling in workload.scalings] or workload.scalings
    return list(itertools.product(scalings, combinations))


def _flags(case: Case, workload: Workload, machine: Machine) -> tuple[str, ...]:
    """The names that go wherever the numbers of a case appear."""
    flags = workload.flags(workload.options(**case.workload_options))
    threads = ranks_on_a_machine(case, machine) * case.threads
    if case.device == "cpu" and threads > (machine.cores or math.inf) and "emulated_compute" not in flags:
        flags = (*flags, "oversubscribed")
    if shares_gpus(case, machine):
        flags = (*flags, "shared_gpu")
    return flags if case.fault is None else (*flags, "injected")


def _split_transport(
    axes: Mapping[str, tuple[Scalar, ...]], backend: Backend, device: Device
) -> tuple[tuple[str, ...], dict[str, tuple[Scalar, ...]]]:
    option_axes = dict(axes)
    chosen = tuple(str(name) for name in option_axes.pop("transport", ()))
    if not chosen:
        # That a backend does not run on this device is its own reason, whatever the transport.
        return backend.transports.get(device, ("any",))[:1], option_axes
    scope = f"backend.{backend.name}"
    place = ("options", scope, "transport")
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"option {scope}.transport: {', '.join(chosen)} names one of them twice", place)
    everywhere = sorted({name for names in backend.transports.values() for name in names})
    for name in chosen:
        if name not in everywhere:
            meant = suggest_name(name, everywhere)
            raise UsageError(f"option {scope}.transport: unknown transport '{name}'{meant}", place)
    return chosen, option_axes
