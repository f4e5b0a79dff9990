"""Titles of cases as reports show them: the same in the terminal, on the page and in exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

from pydantic import Field

from bench.core.case import ANY_TRANSPORT, Case, Scalar
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts
from bench.core.records import Link
from bench.host.links import UNSHAPED
from reports.analysis.formatting import counted, estimate, nodes, number, rank_count, ranks, share
from reports.analysis.placement import Place, Placement
from reports.analysis.program_titles import is_program, program_options, program_title
from reports.analysis.stats import Estimate

PLACE_TITLES: dict[Place, str] = {
    "inside": "inside a node",
    "across": "across nodes",
    "both": "several ranks on each of several nodes",
}


UNNAMED_TRANSPORTS = ("none", ANY_TRANSPORT)
"""There is no exchange, or the user's program chooses it."""


class CaseLabels(FrozenModel):
    """The titles of one case and its columns in tables, as text."""

    title: str
    """``synthetic · ddp/gloo · 2 ranks · strong``"""
    unscaled_title: str
    """``synthetic · ddp/gloo · 2 ranks``: the same where there is one rank count, and no scaling."""
    curve: str
    """``synthetic · ddp/gloo · strong``: without the rank count."""
    workload: str
    backend: str
    """``ddp/gloo, 2 a node``: the title of a curve among those of its workload."""
    backend_and_site: str
    """``ddp/gloo on slurm``: however many ranks a node holds."""
    path: str
    """``ddp/gloo · cpu``: how gradients travel."""
    backend_and_ranks: str
    """``ddp/gloo, 4 ranks on 2 nodes``"""
    backend_at_ranks: str
    """``ddp/gloo at 4 ranks on 2 nodes``"""
    ranks: str
    """``4 ranks on 2 nodes``"""
    rank_count: str
    """``4 on 2 nodes``: in a column of ranks."""
    scaling: str
    conditions: str
    """``strong scaling · global batch 128 · 1 thread per rank · cpu``"""
    unscaled_conditions: str
    """``global batch 128 · 1 thread per rank · cpu``: the same where there is one rank count, and no scaling."""
    stand_in: str
    """`` (digits standing in for MNIST)``; empty for the data itself."""


class _HasLabels(Protocol):
    @property
    def case(self) -> Case: ...

    @property
    def labels(self) -> CaseLabels: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self: ...


HasLabels = TypeVar("HasLabels", bound=_HasLabels)


class CaseFinding(FrozenModel):
    """The base of findings about one case: they carry its labels, which are part of no JSON document."""

    case: Case
    labels: CaseLabels = Field(default_factory=lambda fields: case_labels(fields["case"]), exclude=True, repr=False)


def case_labels(case: Case, values: Mapping[str, str] | None = None) -> CaseLabels:
    """The labels of a case. A finding carries them as ``labels``.

    Args:
        case: The case.
        values: The values of further settings, by name, to tell its curve from others: ``{"precision": "bf16"}``.
    """
    values = values or {}
    workload, backend = workload_title(case), backend_title(case, values)
    backend_and_site, placed = _backend_and_site(case, values), ranks_on_nodes(case)
    conditions = _conditions(case, batch="batch" not in values)
    return CaseLabels(
        title=case_title(case, values),
        unscaled_title=case_title(case, values, scaling=False),
        curve=f"{workload} · {backend} · {case.scaling}",
        workload=workload,
        backend=backend,
        backend_and_site=backend_and_site,
        path=f"{backend_and_site} · {case.device}{f' · {net_title(case.net)}' if case.net else ''}",
        backend_and_ranks=f"{backend_and_site}, {placed}",
        backend_at_ranks=f"{backend_and_site} at {placed}",
        ranks=placed,
        rank_count=rank_count(Placement(case.ranks, case.ranks_per_node)),
        scaling=case.scaling,
        conditions=f"{case.scaling} scaling · {conditions}",
        unscaled_conditions=conditions,
        stand_in=_stand_in(case),
    )


def case_title(case: Case, values: Mapping[str, str] | None = None, *, scaling: bool = True) -> str:
    """``synthetic · ddp/gloo · 2 ranks · strong``, and the fault that was injected; ``scaling``: with that word."""
    fault = f" · injected {case.fault.label}" if case.fault else ""
    kind = f" · {case.scaling}" if scaling else ""
    backend = _backend_and_site(case, values or {})
    return f"{workload_title(case)} · {backend} · {ranks_on_nodes(case)}{kind}{fault}"


def within_workload(finding: HasLabels) -> HasLabels:
    """The cell or finding with titles that do not repeat its workload and scaling: ``ddp/gloo · 2 ranks``."""
    titles = {"title": _title_within_workload(finding), "curve": finding.labels.backend}
    return finding.model_copy(update={"labels": finding.labels.model_copy(update=titles)})


def with_short_workload(finding: HasLabels, workload: str) -> HasLabels:
    """The cell or finding with a short name of its workload, and titles that begin with it and leave out its scaling:
    ``synthetic (model=cnn) · ddp/gloo · 2 ranks``."""
    titles = {"title": f"{workload} · {_title_within_workload(finding)}", "workload": workload}
    return finding.model_copy(update={"labels": finding.labels.model_copy(update=titles)})


def _title_within_workload(finding: HasLabels) -> str:
    case, labels = finding.case, finding.labels
    fault = f" · injected {case.fault.label}" if case.fault else ""
    return f"{labels.backend_and_site} · {labels.ranks}{fault}"


def with_batch(cases: Sequence[Case]) -> Callable[[Case], dict[str, str]]:
    """The values that the labels of these cases have to name beside their options (pure): the batch, for workloads that
    are measured with several."""
    batches: dict[str, set[int]] = {}
    for case in cases:
        batches.setdefault(case.workload, set()).add(case.batch)
    return lambda case: {"batch": str(case.batch)} if len(batches.get(case.workload, ())) > 1 else {}


def workload_title(case: Case) -> str:
    """``synthetic (model=cnn)`` or ``train.py --epochs 1 (batch=32)``, *emulated compute* where the compute was a wait,
    and the links between the ranks."""
    name, named = case.workload, case.workload_options
    if is_program(case):
        name, named = program_title(case), program_options(case)
    options = f" ({_options_text(named)})" if named else ""
    emulated = ", emulated compute" if "emulated_compute" in case.flags else ""
    net = f", {net_title(case.net)}" if case.net else ""
    return f"{name}{options}{emulated}{net}"


def backend_title(case: Case, values: Mapping[str, str] | None = None) -> str:
    """``ddp/gloo (bucket_cap_mb=1)``, and what tells its curve from others: ranks a node, the sweep, the site."""
    ranks_per_node = f", {case.ranks_per_node} a node" if case.ranks_per_node else ""
    return f"{_backend_and_transport(case, values or {})}{ranks_per_node}{_label_and_site(case)}"


def ranks_on_nodes(case: Case) -> str:
    """``4 ranks on 2 nodes``; ``4 ranks`` where the ranks per node were not given."""
    return f"{ranks(case.ranks)} on {nodes(case.nodes)}" if case.ranks_per_node else ranks(case.ranks)


def value_text(value: Scalar | None) -> str:
    """A value as ``--set`` takes it: ``true``, ``0.5``, ``bf16``; *none* for ``None``."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def net_title(net: str) -> str:
    """``1 Gbit/s links``; ``unshaped links``"""
    if net == UNSHAPED:
        return "unshaped links"
    unit = {"gbit": "Gbit/s", "mbit": "Mbit/s", "kbit": "kbit/s"}.get(net[-4:])
    return f"{net[:-4]} {unit} links" if unit else f"{net} links"  # a store may hold any text


def link_summary(link: Link) -> str:
    """``1 Gbit/s links: 119 MB/s of payload each way at once (95 % of the rate), round trip 15.0 µs``"""
    target_bytes_s, achieved = link.wanted_bytes_s, link.achieved_bytes_s
    rate = estimate(Estimate(value=achieved, low=None, high=None, n=1, unit="B/s"))
    of_target = f" ({share(achieved / target_bytes_s)} of the rate)" if target_bytes_s else ""
    return (
        f"{net_title(link.net)}: {rate} of payload each way at once{of_target}, "
        f"round trip {number(link.round_trip_s * 1e6)} µs"
    )


def host_summaries(hosts: Sequence[NodeFacts]) -> list[str]:
    """A line for each kind of host, with the names of the hosts that are alike.

    ``n1, n2: Intel Xeon, 8 cores, 16 GiB, GPUs: none; Linux 6.1, Python 3.12; torch 2.8.0``
    """
    names_by_text: dict[str, list[str]] = {}
    for host in hosts:
        packages = ", ".join(f"{name} {version}" for name, version in host.packages.items())
        text = (
            f"{host.cpu}, {host.cores} cores{host.quota_note}, {host.memory_bytes / 2**30:.0f} GiB, "
            f"GPUs: {', '.join(host.gpus) or 'none'}; {host.system}, Python {host.python}; {packages}"
        )
        names_by_text.setdefault(text, []).append(host.host)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in names_by_text.items()]


def group_key(case: Case) -> tuple[str, ...]:
    """Cells with the same key belong into one figure: the same workload, options, scaling, device, batch and seed."""
    command = str(case.workload_options.get("command", ""))  # of which a title shows the beginning
    return (workload_title(case), command, case.scaling, case.device, f"batch={case.batch}", f"seed={case.seed}")


def _backend_and_site(case: Case, values: Mapping[str, str]) -> str:
    return f"{_backend_and_transport(case, values)}{_label_and_site(case)}"


def _backend_and_transport(case: Case, values: Mapping[str, str]) -> str:
    transport = "" if case.transport in UNNAMED_TRANSPORTS else f"/{case.transport}"
    named = {**case.backend_options, **values}
    options = ", ".join(filter(None, (_options_text(named), variables_text(case))))
    shared = f", {case.ranks_per_gpu} a GPU" if case.ranks_per_gpu > 1 else ""
    return f"{case.backend}{transport}" + (f" ({options})" if options else "") + shared


def _label_and_site(case: Case) -> str:
    """`` · B on slurm``"""
    site = f" on {case.site}" if case.site != "local" else ""
    return f" · {case.label}{site}" if case.label else site


def variables_text(case: Case) -> str:
    """The variables that the case gives its ranks: ``NCCL_ALGO unset, NCCL_PROTO=LL``; empty where it gives none."""
    return ", ".join(f"{name}={value}" if value else f"{name} unset" for name, value in sorted(case.env.items()))


def _options_text(options: Mapping[str, Scalar]) -> str:
    """``compute_ms=400, model=emulated``"""
    return ", ".join(f"{name}={value_text(value)}" for name, value in sorted(options.items()))


def _conditions(case: Case, *, batch: bool) -> str:
    kind = "global batch" if case.scaling == "strong" else "batch per rank"
    size = "" if case.batch == 1 or not batch else f"{kind} {case.batch} · "
    return f"{size}{counted(case.threads, 'thread')} per rank · {case.device}"


def _stand_in(case: Case) -> str:
    data = case.data
    return f" ({data.name.split(',')[0]} standing in for {data.stands_for})" if data and data.stands_for else ""
