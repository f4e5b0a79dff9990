"""Cells of a large sweep, made without running ranks: backends × rank counts × workloads × two values of an axis."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.core.case import Case
from bench.core.records import Trial
from bench.core.step_measures import MessageTiming, PhaseTimes
from reports.analysis.cells import Cell, make_cells
from tests.support.builders import make_case, make_record, make_trial

BACKENDS = {"ddp": ("gloo", 0.04), "horovod": ("mpi", 0.07), "fsdp": ("gloo", 0.11)}
"""Transport, and the share of a step by which each further rank slows it."""
RANKS = (1, 2, 4, 8)
WORKLOADS = ("synthetic", "mnist")
PRECISIONS = ({}, {"precision": "bf16"})
TRIALS = 3


def training_trial(case: Case, number: int, slowdown: float, noise: random.Random) -> Trial:
    """A trial whose ranks compute alike but for the last, and wait for each other's gradients."""
    own_s = 0.08 / case.ranks * (0.7 if case.workload_options else 1)
    together_s = own_s * (1 + slowdown * (case.ranks - 1)) * (1 + noise.gauss(0, 0.01 * case.ranks**0.5))
    ranks = tuple(
        make_record(
            rank,
            case.ranks,
            tuple(together_s * noise.uniform(0.97, 1.1) for _ in range(20)),
            amount_per_step=case.global_batch,
            phases=PhaseTimes(
                together_s=(together_s,),
                digest="d",
                alone_s={
                    "data": (0.05 * own_s,),
                    "forward": (0.35 * own_s,),
                    "backward": (0.5 * own_s,),
                    "optimizer": ((0.08 + 0.02 * (rank == case.ranks - 1)) * own_s,),
                },
            ),
        )
        for rank in range(case.ranks)
    )
    return make_trial(case, number, ranks=ranks)


def collective_trial(case: Case, number: int) -> Trial:
    """Allreduces of 1 KiB to 16 MiB."""
    messages = tuple(
        MessageTiming(message_bytes=2**power, times_s=(2e-5 * case.ranks + 2**power / 1e9 * (1 + 0.02 * number),))
        for power in range(10, 25, 2)
    )
    records = tuple(
        make_record(rank, case.ranks, kind="collective", unit="bytes", messages=messages) for rank in range(case.ranks)
    )
    return make_trial(case, number, ranks=records)


def large_sweep(
    rank_counts: Sequence[int] = RANKS,
    *,
    workloads: Sequence[str] = WORKLOADS,
    failed_from: int | None = None,
    speed: float = 1.0,
    collectives: bool = True,
) -> tuple[Cell, ...]:
    """The cells.

    Args:
        rank_counts: Of each backend.
        workloads: Their names.
        failed_from: From how many ranks on every trial failed.
        speed: By which every slowdown is multiplied, to make a second sweep that differs.
        collectives: Whether allreduces were measured too.
    """
    noise = random.Random(7)
    cases, trials = [], []
    for workload in workloads:
        for backend, (transport, slowdown) in BACKENDS.items():
            for options in PRECISIONS:
                for ranks in rank_counts:
                    case = make_case(
                        workload=workload,
                        backend=backend,
                        transport=transport,
                        ranks=ranks,
                        batch=128,
                        workload_options=options,
                    )
                    cases.append(case)
                    for number in range(TRIALS):
                        if failed_from and ranks >= failed_from:
                            trials.append(make_trial(case, number, outcome="failed", reason="exit 1", ranks=()))
                        else:
                            trials.append(training_trial(case, number, slowdown * speed, noise))
    for ranks in rank_counts if collectives else ():
        if ranks > 1:
            case = make_case(workload="allreduce", ranks=ranks, scaling="weak", batch=1)
            cases.append(case)
            trials += [collective_trial(case, number) for number in range(TRIALS)]
    return make_cells(cases, {}, trials, {})


def many_workloads(count: int) -> tuple[Cell, ...]:
    """Cells of so many workloads, ``work0`` and so on, 12 of each, which measured the same."""
    cells = large_sweep((1, 2), workloads=("work0",), collectives=False)
    return tuple(cell.with_case(workload=f"work{number}") for number in range(count) for cell in cells)
