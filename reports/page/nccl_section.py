"""How NCCL connects the ranks: version, transports and topology from its own log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.core.nccl_report import NcclReport
from reports.analysis.cells import Cell
from reports.analysis.nccl_paths import LINKS, across_title, describe_nccl, inside_title
from reports.page.elements import Section, Table

TITLE = "How NCCL connects the ranks"
NOTE = (
    "From NCCL's own log. P2P: one GPU writes into another one's memory, over NVLink or PCIe; SHM: through the host's "
    "memory; NET: over the network, with GDRDMA past the host's memory. In parentheses: the slowest link between GPUs "
    "that a ring takes. NVLS: channels on which NVSwitch computes."
)


def sections(cells: Sequence[Cell]) -> Iterator[Section]:
    """One section, where NCCL was used."""
    if (table := nccl_table(cells)).rows:
        yield Section(TITLE, "; ".join(nccl_sentences(cells)), tables=(table,))


def nccl_sentences(cells: Sequence[Cell]) -> list[str]:
    """One for each way in which ranks are connected."""
    return list(dict.fromkeys(describe_nccl(cell.nccl) for cell in cells if cell.nccl is not None))


def nccl_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell over NCCL."""
    rows = tuple(
        (cell.labels.workload, cell.labels.backend, cell.labels.rank_count, *_columns(cell.nccl, cell.nccl_reason))
        for cell in cells
        if cell.nccl is not None or cell.nccl_reason is not None
    )
    header = (
        "workload",
        "backend",
        "ranks",
        "NCCL",
        "inside a node",
        "across nodes",
        "channels",
        "topology",
        "ring",
        "warnings",
    )
    return Table(TITLE, header, rows, NOTE)


def _columns(report: NcclReport | None, reason: str | None) -> tuple[str, ...]:
    if report is None:
        return (f"– ({reason})", "–", "–", "–", "–", "–", "–")
    return (
        report.version or "–",
        inside_title(report),
        across_title(report),
        _channels(report),
        _topology(report),
        report.ring or "–",
        "; ".join(report.warnings) or "–",
    )


def _channels(report: NcclReport) -> str:
    if report.channels is None:
        return "–"
    return f"{report.channels} and {report.nvls_channels} NVLS" if report.nvls_channels else str(report.channels)


def _topology(report: NcclReport) -> str:
    parts = ["rings", "trees"] if report.trees else ["rings"] if report.channels else []
    if report.path_to_network and across_title(report) != "–":
        parts.append(f"network card by {LINKS.get(report.path_to_network, report.path_to_network)}")
    return ", ".join(parts) or "–"
