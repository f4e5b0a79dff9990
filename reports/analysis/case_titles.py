"""case_titles"""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import Case, Scalar
from bench.core.machine import NodeFacts
from bench.core.records import Link
from bench.host.links import UNSHAPED
from reports.analysis.cells import Cell
from reports.analysis.formatting import estimate, message_size, nodes, number, rank_count, ranks
from reports.analysis.placement import Place, Placement
from reports.analysis.stats import Estimate


def path_title(case: Case) -> str:
    """``ddp/gloo · cpu``: how gradients travel."""
    return f"{backend_site_title(case)} · {case.device}{f' · {net_title(case.net)}' if case.net else ''}"


def options(options_text: dict[str, Scalar]) -> str:
    """``compute_ms=400, model=emulated``"""
    text = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in options_text.items()}
    return ", ".join(f"{name}={value}" for name, value in sorted(text.items()))


def workload_title(case: Case) -> str:
    """``synthetic (model=cnn)``, *emulated compute* where the compute was a wait, and the links between the ranks."""
    options_text = f" ({options(case.workload_options)})" if case.workload_options else ""
    emulated = ", emulated compute" if "emulated_compute" in case.flags else ""
    net = f", {net_title(case.net)}" if case.net else ""
    return f"{case.workload}{options_text}{emulated}{net}"


def net_title(net: str) -> str:
    """``1 Gbit/s links``; ``unshaped links``"""
    if net == UNSHAPED:
        return "unshaped links"
    unit = {"gbit": "Gbit/s", "mbit": "Mbit/s", "kbit": "kbit/s"}[net[-4:]]
    return f"{net[:-4]} {unit} links"


def link_summary(found: Link) -> str:
    """``1 Gbit/s links: 119 MB/s of payload each way at once (95 % of the rate), round trip 15.0 µs``"""
    target_bytes_s, achieved = found.wanted_bytes_s, found.achieved_bytes_s
    rate = estimate(Estimate(value=achieved, low=None, high=None, n=1, unit="B/s"))
    share = f" ({100 * achieved / target_bytes_s:.0f} % of the rate)" if target_bytes_s else ""
    return (
        f"{net_title(found.net)}: {rate} of payload each way at once{share}, "
        f"round trip {number(found.round_trip_s * 1e6)} µs"
    )


def host_summaries(found: Sequence[NodeFacts]) -> list[str]:
    """``n1, n2: Intel Xeon, 8 cores, 16 GiB, GPUs: none; Linux 6.1, Python 3.12; torch 2.8.0``: alike ones together."""
    alike: dict[str, list[str]] = {}
    for one in found:
        packages = ", ".join(f"{name} {version}" for name, version in one.packages.items())
        text = (
            f"{one.cpu}, {one.cores} cores, {one.memory_bytes / 2**30:.0f} GiB, GPUs: {', '.join(one.gpus) or 'none'}; "
            f"{one.system}, Python {one.python}; {packages}"
        )
        alike.setdefault(text, []).append(one.host)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in alike.items()]


def backend_title(case: Case) -> str:
    """``ddp/gloo (bucket_cap_mb=1)``, and what tells its curve from others: ranks a node, the sweep, the site."""
    ranks_per_node = f", {case.ranks_per_node} a node" if case.ranks_per_node else ""
    return f"{_backend_transport(case)}{ranks_per_node}{_label_and_site(case)}"


def backend_site_title(case: Case) -> str:
    """``ddp/gloo on slurm``: however many ranks a node holds."""
    return f"{_backend_transport(case)}{_label_and_site(case)}"


def _backend_transport(case: Case) -> str:
    transport = "" if case.transport == "none" else f"/{case.transport}"
    options_text = f" ({options(case.backend_options)})" if case.backend_options else ""
    return f"{case.backend}{transport}{options_text}"


def _label_and_site(case: Case) -> str:
    """`` · B on slurm``"""
    site = f" on {case.site}" if case.site != "local" else ""
    return f" · {case.label}{site}" if case.label else site


def case_title(case: Case) -> str:
    """``synthetic · ddp/gloo · 2 ranks · strong``, and the fault that was injected."""
    fault = f" · injected {case.fault.label}" if case.fault else ""
    return f"{workload_title(case)} · {backend_site_title(case)} · {ranks_on_nodes(case)} · {case.scaling}{fault}"


def case_conditions(case: Case) -> str:
    """``strong scaling · global batch 128 · 1 thread per rank · cpu``"""
    batch = "global batch" if case.scaling == "strong" else "batch per rank"
    size = "" if case.batch == 1 else f"{batch} {case.batch} · "
    return f"{case.scaling} scaling · {size}{case.threads} thread{'s' * (case.threads > 1)} per rank · {case.device}"


def ranks_on_nodes(case: Case) -> str:
    """``4 ranks on 2 nodes``, where it was said how many a node holds."""
    return f"{ranks(case.ranks)} on {nodes(case.nodes)}" if case.ranks_per_node else ranks(case.ranks)


def backend_and_ranks(case: Case) -> str:
    """``ddp/gloo, 4 ranks on 2 nodes``"""
    return f"{backend_site_title(case)}, {ranks_on_nodes(case)}"


def backend_at_ranks(case: Case) -> str:
    """``ddp/gloo at 4 ranks on 2 nodes``"""
    return f"{backend_site_title(case)} at {ranks_on_nodes(case)}"


def case_rank_count(case: Case) -> str:
    """``4 on 2 nodes``: the ranks, in a column of that name."""
    return rank_count(Placement(case.ranks, case.ranks_per_node))


PLACE_TITLES: dict[Place, str] = {
    "inside": "inside a node",
    "across": "across nodes",
    "both": "several ranks on each of several nodes",
}


def group_key(cell: Cell) -> tuple[str, ...]:
    """Cells of one group belong into one figure: the same workload with the same options and scaling."""
    case = cell.case
    return (workload_title(case), case.scaling, case.device, f"batch={case.batch}", f"seed={case.seed}")


def group_title(cells: Sequence[Cell]) -> str:
    """The workload of a group, its largest message where it is a collective, and that a stand-in is one."""
    sizes = [message.message_bytes for cell in cells for message in cell.messages]
    size = f" of {message_size(max(sizes))}" if sizes else ""
    return f"{workload_title(cells[0].case)}{size}{stand_in_note(cells[0].case)}"


def stand_in_note(case: Case) -> str:
    """`` (digits standing in for MNIST)``; empty for the data itself."""
    data = case.data
    return f" ({data.name.split(',')[0]} standing in for {data.stands_for})" if data and data.stands_for else ""
