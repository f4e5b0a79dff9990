"""What NCCL's connections amount to: a sentence, the columns of the page, and flags where a faster way is not taken."""

from __future__ import annotations

import pytest

from bench.core.nccl_report import NcclReport
from reports.analysis.cells import make_cells
from reports.analysis.nccl_paths import across_title, describe_nccl, inside_title, nccl_of
from reports.page.nccl_section import nccl_table, sections
from tests.support.builders import make_case, make_record, make_trial

CASE = make_case(device="cuda", transport="nccl")
FLAGS = {"nccl_without_p2p", "nccl_over_sockets"}
NVLINK = NcclReport(version="2.28.9", ranks=8, nodes=1, transports={"P2P/CUMEM": 24}, path_inside="NVL", channels=24)
HOST = NcclReport(version="2.28.9", ranks=2, nodes=1, transports={"SHM/direct/direct": 4}, path_inside="PHB")
TCP = NcclReport(ranks=4, nodes=2, transports={"NET/Socket": 4, "P2P/IPC": 4}, path_inside="PIX")
RDMA = NcclReport(ranks=4, nodes=2, transports={"NET/IB/GDRDMA": 4})
ALONE = NcclReport(version="2.28.9", ranks=1)


def cells_of(*reports, reason=None):
    ranks = tuple(
        make_record(rank, len(reports), nccl=report, nccl_reason=reason) for rank, report in enumerate(reports)
    )
    return make_cells([CASE], {}, [make_trial(CASE, ranks=ranks)], {})


@pytest.mark.parametrize(
    ("report", "sentence", "flags"),
    [
        (NVLINK, "NCCL 2.28.9 connects 8 ranks by P2P/CUMEM (NVLink), 24 channels", set()),
        (
            HOST,
            "NCCL 2.28.9 connects 2 ranks by SHM/direct/direct: neither NVLink nor PCIe joins all GPUs of a node",
            {"nccl_without_p2p"},
        ),
        (
            TCP,
            "NCCL connects 4 ranks by P2P/IPC (one PCIe switch) and NET/Socket",
            {"nccl_over_sockets"},
        ),
        (RDMA, "NCCL connects 4 ranks by NET/IB/GDRDMA", set()),
        (
            NcclReport(ranks=2, nodes=1, transports={"NET/Socket": 4}),
            "NCCL connects 2 ranks by NET/Socket: neither NVLink nor PCIe joins all GPUs of a node",
            {"nccl_without_p2p"},
        ),
        (ALONE, "NCCL 2.28.9: one rank exchanges nothing", set()),
        (NcclReport(), "NCCL: its log names no connection", set()),
    ],
)
def test_a_sentence_and_flags(report, sentence, flags):
    assert describe_nccl(report) == sentence
    (cell,) = cells_of(report, NcclReport())
    assert FLAGS & set(cell.flags) == flags


def test_titles():
    assert inside_title(NVLINK) == "P2P/CUMEM (NVLink)"
    assert inside_title(RDMA) == "–"
    assert inside_title(NVLINK.model_copy(update={"path_inside": "XYZ"})) == "P2P/CUMEM (XYZ)"
    assert (across_title(TCP), across_title(NVLINK)) == ("NET/Socket", "–")


def test_the_ranks_of_the_first_trial_that_knows():
    unknown = make_trial(CASE, ranks=(make_record(0, 2, nccl_reason="why"), make_record(1, 2)))
    known = make_trial(CASE, ranks=(make_record(0, 2, nccl=HOST), make_record(1, 2, nccl=HOST)))
    assert nccl_of([unknown]) == (None, "why")
    report, reason = nccl_of([unknown, known])
    assert (report.transports, reason) == ({"SHM/direct/direct": 8}, None)
    assert nccl_of([make_trial(make_case())]) == (None, None)


def test_the_table_has_cells_over_nccl_only():
    (cell,) = cells_of(NVLINK, NVLINK)
    (row,) = nccl_table([cell]).rows
    assert row[3:] == ("2.28.9", "P2P/CUMEM (NVLink)", "–", "24", "rings", "–", "–")
    (unknown,) = cells_of(None, None, reason="NCCL_DEBUG is set")
    assert nccl_table([unknown]).rows[0][3] == "– (NCCL_DEBUG is set)"
    plain = make_cells([make_case()], {}, [make_trial(make_case())], {})
    assert list(sections(plain)) == []
