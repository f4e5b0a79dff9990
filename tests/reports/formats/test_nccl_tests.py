"""Collective operations in the columns of nccl-tests, with numbers worked out by hand."""

from __future__ import annotations

from bench.core.same_work import SameWork
from reports.formats.exports.nccl_tests import FORMAT
from reports.formats.trial_rows import SweepFacts, SweepTable, rows_of
from tests.reports.page.test_collectives_section import collective_sweep

SWEEP = SweepFacts(
    id="s1",
    started_at="2026-11-27T00:00:00+00:00",
    environment="e",
    commit=None,
    changed_files=None,
    host="h",
    system="Linux",
    cpu="c",
    cores=2,
    memory_bytes=1,
    gpus=(),
    python="3.12",
    packages={},
)


def exported(*operations, **options):
    cells, trials = collective_sweep(operations, **options)
    same = SameWork(verdict="same", deviation=0.0, tolerance=1e-3, label="float32")
    trials = [trial.model_copy(update={"same_work": same}) for trial in trials]
    return FORMAT.render(SweepTable(sweeps=(SWEEP,), rows=tuple(rows_of(SWEEP, cells, trials))))


def lines(*operations, **options):
    return [line.split() for line in exported(*operations, **options).content.splitlines() if line[0] != "#"]


def test_columns_are_nccl_tests_and_times_are_microseconds():
    # 4 ranks, 16 MiB in 10 ms: 1.678 GB/s, and 3/2 of it on the bus.
    na = ["N/A"] * 4
    assert lines("all_reduce")[-1] == [
        *("16777216", "4194304", "float", "sum", "-1"),
        *("10000.00", "1.678", "2.517", "0"),
        *na,
    ]
    # A count of the elements of a rank's part; 3/4 of the algorithm bandwidth on the bus.
    assert lines("all_gather")[-1] == [
        *("16777216", "1048576", "float", "none", "-1"),
        *("10000.00", "1.678", "1.258", "0"),
        *na,
    ]
    assert lines("broadcast", in_place=True)[-1] == [
        *("16777216", "4194304", "float", "none", "0"),
        *na,
        *("10000.00", "1.678", "1.678", "0"),
    ]


def test_each_case_is_a_block_that_says_what_it_is_and_can_be_replaced():
    found = exported("all_reduce", "all_gather")
    blocks = [line for line in found.content.splitlines() if line.startswith("# nccl-tests columns: ")]
    assert len(blocks) == 2
    assert blocks[1].startswith("# nccl-tests columns: all_gather, collectives (operation=all_gather) · ddp/gloo")
    assert FORMAT.signature.match(found.content.encode())
