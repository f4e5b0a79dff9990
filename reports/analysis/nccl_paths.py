"""How NCCL connects the ranks of a cell, and which connections are slow: past NVLink, PCIe or the network card."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from bench.core.nccl_report import NcclReport, join_reports
from bench.core.records import Trial

LINKS = MappingProxyType(
    {
        "NVL": "NVLink",
        "NVB": "NVLink by way of another GPU",
        "C2C": "NVLink-C2C",
        "PIX": "one PCIe switch",
        "PXB": "PCIe switches",
        "PXN": "NVLink to another GPU's network card",
        "P2C": "PCIe of an NVLink-C2C host",
        "PHB": "the host's PCIe bridge",
        "SYS": "the link between processors",
    }
)
"""NCCL's abbreviations of the slowest link on a path."""


def nccl_of(trials: Iterable[Trial]) -> tuple[NcclReport | None, str | None]:
    """The reports of the ranks of the first trial that has any, together; or why they are unknown, where NCCL was used.

    Trials of a case are connected alike: it is the same hardware and the same library.
    """
    reason = None
    for trial in trials:
        report = join_reports([rank.nccl for rank in trial.ranks if rank.nccl is not None])
        if report is not None:
            return report, None
        reason = reason or next((rank.nccl_reason for rank in trial.ranks if rank.nccl_reason), None)
    return None, reason


def is_without_p2p(report: NcclReport) -> bool:
    """Whether GPUs of one node exchange through the host's memory, or through the network (pure)."""
    return _uses(report, "SHM") or (report.nodes == 1 and _uses(report, "NET"))


def is_over_sockets(report: NcclReport) -> bool:
    """Whether nodes exchange over TCP (pure)."""
    return (report.nodes or 1) > 1 and _uses(report, "NET/Socket")


def inside_title(report: NcclReport) -> str:
    """How GPUs of one node exchange: ``P2P/CUMEM (NVLink)``; ``–`` where no two of them do (pure)."""
    inside = [name for name in report.transports if not name.startswith("NET")]
    if not inside:
        return "–"
    p2p = any(name.startswith("P2P") for name in inside)
    link = f" ({LINKS.get(report.path_inside, report.path_inside)})" if p2p and report.path_inside else ""
    return ", ".join(sorted(inside)) + link


def across_title(report: NcclReport) -> str:
    """How nodes exchange: ``NET/IB/GDRDMA``; ``–`` where there is one (pure)."""
    return ", ".join(sorted(name for name in report.transports if name.startswith("NET"))) or "–"


def describe_nccl(report: NcclReport) -> str:
    """One sentence on the connections, such as ``NCCL 2.28.9 connects 8 ranks by P2P/CUMEM (NVLink), 24 channels``."""
    version = f"NCCL {report.version}" if report.version else "NCCL"
    if not report.transports:
        alone = report.ranks == 1
        return f"{version}: {'one rank exchanges nothing' if alone else 'its log names no connection'}"
    ways = [way for way in (inside_title(report), across_title(report)) if way != "–"]
    ranks = f" {report.ranks} ranks" if report.ranks else " ranks"
    channels = f", {report.channels} channels" if report.channels else ""
    unused = ": neither NVLink nor PCIe joins all GPUs of a node" if is_without_p2p(report) else ""
    return f"{version} connects{ranks} by {' and '.join(ways)}{channels}{unused}"


def _uses(report: NcclReport, transport: str) -> bool:
    return any(name == transport or name.startswith(f"{transport}/") for name in report.transports)
