"""How NCCL connects the ranks of a trial: what its own log says of its version, transports and topology."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from bench.core.bounds import Count, RankCount
from bench.core.frozen_model import FrozenModel

MAX_TEXT_LENGTH = 200
"""Of what is taken from a log."""
MAX_STORED_LENGTH = 2000
MAX_TRANSPORTS = 32
MAX_WARNINGS = 5

Text = Annotated[str, Field(max_length=MAX_STORED_LENGTH)]
T = TypeVar("T")


class NcclReport(FrozenModel):
    """The log of one rank, or of all ranks of a trial together. ``None``: the log does not say."""

    version: Text | None = None
    network: Text | None = None
    """The network that NCCL chose, whether ranks needed it or not: ``Socket``, ``IB``, or the name of a plugin."""
    ranks: RankCount | None = None
    """Of the largest communicator."""
    nodes: RankCount | None = None
    """As NCCL counts them."""
    transports: dict[Text, Count] = Field(default={}, max_length=MAX_TRANSPORTS)
    """Connections to other ranks by their transport: ``P2P/CUMEM``, ``SHM/direct/direct``, ``NET/IB/GDRDMA``. Each is
    counted once, on the rank that sends; one rank sends to another on several channels."""
    path_inside: Text | None = None
    """The slowest link between GPUs of a node that rings take, in NCCL's abbreviation: ``NVL`` is NVLink, ``PIX`` and
    ``PXB`` are PCIe switches, ``PHB`` is the host's PCIe bridge, ``SYS`` the link between processors."""
    path_to_network: Text | None = None
    """The same between GPU and network card."""
    channels: Count | None = None
    """For collectives."""
    nvls_channels: Count | None = None
    """For collectives that NVSwitch computes (NVLink SHARP); 0: none."""
    ring: Text | None = None
    """The ranks in the order of the first ring."""
    trees: bool | None = None
    """Whether trees are connected beside rings."""
    gpu_direct: bool | None = None
    """Whether network cards read and write the GPUs' memory (GPUDirect RDMA) on rings."""
    warnings: Annotated[tuple[Text, ...], Field(max_length=MAX_WARNINGS)] = ()
    """The first ones."""


def join_reports(reports: Sequence[NcclReport]) -> NcclReport | None:
    """The reports of several ranks as one (pure); ``None`` without any."""
    if not reports:
        return None
    transports: Counter[str] = Counter()
    for report in reports:
        transports.update(report.transports)
    warnings = dict.fromkeys(warning for report in reports for warning in report.warnings)
    return NcclReport(
        version=_first([report.version for report in reports]),
        network=_first([report.network for report in reports]),
        ranks=max((report.ranks for report in reports if report.ranks is not None), default=None),
        nodes=max((report.nodes for report in reports if report.nodes is not None), default=None),
        transports=dict(transports.most_common(MAX_TRANSPORTS)),
        path_inside=_first([report.path_inside for report in reports]),
        path_to_network=_first([report.path_to_network for report in reports]),
        channels=_first([report.channels for report in reports]),
        nvls_channels=_first([report.nvls_channels for report in reports]),
        ring=_first([report.ring for report in reports]),
        trees=_first([report.trees for report in reports]),
        gpu_direct=_first([report.gpu_direct for report in reports]),
        warnings=tuple(warnings)[:MAX_WARNINGS],
    )


def _first(values: Sequence[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)
