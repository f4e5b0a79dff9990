"""NCCL's log: which variables ask for it, and what is read from the lines of several versions."""

from __future__ import annotations

import os
import random

import pytest

from bench.core.nccl_report import NcclReport, join_reports
from bench.rank import nccl_log
from bench.rank.nccl_log import find_warning, log_variables, parse_nccl_log, read_nccl_log, with_nccl_report
from tests.support.builders import make_case, make_record
from tests.support.nccl_logs import connections, info, log_2_18, log_2_21, log_2_28, warn


def parse(text: str) -> NcclReport:
    return parse_nccl_log(text.split("\n"))


def test_gpus_that_exchange_through_the_host():
    assert parse(log_2_18()) == NcclReport(
        network="Socket",
        ranks=2,
        transports={"SHM/direct/direct": 2},
        path_inside="PHB",
        path_to_network="PIX",
        channels=2,
        nvls_channels=0,
        trees=True,
    )


def test_one_node_with_nvlink():
    """The rings and trees of one pair of ranks share their channels, which count once."""
    assert parse(log_2_21()) == NcclReport(
        version="2.21.5",
        network="IB",
        ranks=8,
        nodes=1,
        transports={"P2P/CUMEM": 24},
        path_inside="NVL",
        path_to_network="PIX",
        channels=24,
        nvls_channels=16,
        ring="0 1 2 3 4 5 6 7",
        trees=True,
    )


def test_two_nodes_and_what_a_rank_receives_is_counted_where_it_is_sent():
    assert parse(log_2_28()) == NcclReport(
        version="2.28.9",
        network="IB",
        ranks=4,
        nodes=2,
        transports={"NET/IB/GDRDMA": 2, "P2P/CUMEM": 1},
        path_inside="NVL",
        path_to_network="PIX",
        channels=4,
        nvls_channels=0,
        gpu_direct=True,
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("P2P/direct pointer", "P2P/direct pointer"),
        ("P2P/direct pointer comm 0x56af nRanks 04", "P2P/direct pointer"),
        ("P2P/IPC/read", "P2P/IPC"),
        ("P2P/indirect/2[4000]", "P2P/indirect"),
        ("SHM/CE/direct", "SHM/CE/direct"),
        ("NET/Socket/0", "NET/Socket"),
        ("NET/AWS Libfabric/3/GDRDMA", "NET/AWS Libfabric/GDRDMA"),
        ("/", "unknown"),
    ],
)
def test_transports_without_devices(text, name):
    found = parse(info(f"Channel 03 : 0[1b000] -> 1[1e000] via {text}"))
    assert found.transports == {name: 1}


def test_lines_between_others_and_in_any_order():
    """As where two processes write to one file, and libraries print beside them."""
    lines = [*log_2_21().split("\n"), "epoch 1: loss 0.3 via NET/Socket/0", "NCCL", ""] * 2
    random.Random(1).shuffle(lines)
    found = parse_nccl_log(lines)
    assert found.transports == {"P2P/CUMEM": 24}
    assert (found.version, found.ranks, found.path_inside) == ("2.21.5", 8, "NVL")


@pytest.mark.parametrize("text", [log_2_18(), log_2_21(), log_2_28()])
def test_damaged_logs_say_less_and_never_raise(text, tmp_path):
    rng, log = random.Random(7), tmp_path / "nccl-0.log"
    whole = parse(text)
    for _ in range(100):
        log.write_text(text[: rng.randrange(1, len(text))])
        cut = read_nccl_log(log)
        assert set(cut.transports) <= set(whole.transports), "the last line is not complete"
        spoilt = list(text)
        for _ in range(30):
            spoilt[rng.randrange(len(spoilt))] = chr(rng.randrange(0x500))
        parse("".join(spoilt))


def test_a_huge_log_is_bounded():
    many = [line for peer in range(1, 200) for line in connections(0, peer, [f"X{peer}/y"] * 9)]
    noise = [warn(f"w{number} " + "x" * 10**5).strip() for number in range(50)]
    found = parse_nccl_log([*many, *noise, info("Using network " + "n" * 10**6)])
    assert len(found.transports) == 32
    assert len(found.warnings) == 5
    assert all(len(text) <= 200 for text in (*found.warnings, found.network, *found.transports))


def test_numbers_beyond_what_a_trial_may_have_are_no_counts():
    found = parse(info("comm 0x1 rank 0 nranks 9999999 cudaDev 0 - Init COMPLETE"))
    assert found.ranks is None


def test_the_ranks_of_a_trial_together():
    both = join_reports([parse(log_2_28()), parse(log_2_21())])
    assert both.transports == {"P2P/CUMEM": 25, "NET/IB/GDRDMA": 2}
    assert (both.ranks, both.nodes, both.version, both.ring) == (8, 2, "2.28.9", "0 1 2 3 4 5 6 7")
    assert join_reports([]) is None


def test_the_warning_that_may_be_a_cause():
    lines = "\n".join(
        [
            warn("Failed to open libibverbs.so[.1]"),
            info("a line"),
            warn("Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000", place="init.cc:795"),
            warn("later", stamp="[2026-11-27 18:00:00] ", place="proxy.cc:12 (run)"),
        ]
    )
    assert find_warning(lines.split("\n")) == "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000"
    assert len(parse(lines).warnings) == 3
    assert find_warning(log_2_21().split("\n")) is None


def test_what_the_user_has_set_stays(tmp_path):
    file = tmp_path / "50%h" / "nccl-0.log"
    assert log_variables({}, file) == {
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,NET,ENV",
        "NCCL_DEBUG_FILE": str(tmp_path / "50%%h" / "nccl-0.log"),
    }
    assert "NCCL_DEBUG_SUBSYS" not in log_variables({"NCCL_DEBUG_SUBSYS": "ALL"}, file)
    for name in ("NCCL_DEBUG", "NCCL_DEBUG_FILE"):
        assert log_variables({name: "x"}, file) == f"{name} is set: the log of NCCL is where that puts it"


NCCL_CASE = {"device": "cuda", "transport": "nccl"}


def test_a_record_says_what_the_log_says_or_why_there_is_none(tmp_path):
    case, record = make_case(**NCCL_CASE), make_record(1, 2)
    assert with_nccl_report(record, make_case(), tmp_path, None) is record
    assert with_nccl_report(record, case, tmp_path, "NCCL_DEBUG is set").nccl_reason == "NCCL_DEBUG is set"
    assert with_nccl_report(record, case, tmp_path, None).nccl_reason == "NCCL wrote no log: the ranks did not use it"
    (tmp_path / "nccl-1.log").write_text(log_2_18() + "\n")
    read = with_nccl_report(record, case, tmp_path, None)
    assert read.nccl.transports == {"SHM/direct/direct": 2}
    assert type(read).model_validate_json(read.model_dump_json()) == read
    os.mkfifo(tmp_path / "pipe")
    assert read_nccl_log(tmp_path / "pipe") == "the log of NCCL is no regular file"


def test_only_ranks_over_nccl_write_one(tmp_path, monkeypatch):
    for name in ("NCCL_DEBUG", "NCCL_DEBUG_FILE", "NCCL_DEBUG_SUBSYS"):
        monkeypatch.delenv(name, raising=False)
    assert nccl_log.start_nccl_log(make_case(), tmp_path, 3) is None
    assert "NCCL_DEBUG" not in os.environ
    assert nccl_log.start_nccl_log(make_case(**NCCL_CASE), tmp_path, 3) is None
    try:
        assert os.environ["NCCL_DEBUG_FILE"] == str(tmp_path / "nccl-3.log")
        assert nccl_log.start_nccl_log(make_case(**NCCL_CASE), tmp_path, 3).startswith("NCCL_DEBUG is set")
    finally:
        # Not by monkeypatch, which would put back what is set now.
        for name in ("NCCL_DEBUG", "NCCL_DEBUG_FILE", "NCCL_DEBUG_SUBSYS"):
            os.environ.pop(name, None)
