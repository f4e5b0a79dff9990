"""Sweeps over nodes that follow a known model exactly: their α and β inside a node and across nodes are stated here."""

from __future__ import annotations

from bench.core.gradients import GradientBuckets, Gradients
from bench.core.step_measures import MessageTiming, PhaseTimes
from reports.analysis.cells import make_cells
from reports.analysis.communication import time_s
from reports.analysis.layered_allreduce import LinkModel, layered_time_over_links
from reports.analysis.step_model import OwnTimes, predict_step
from tests.support.builders import make_case, make_record, make_trial

SIZES = tuple(1024 * 4**power for power in range(7))
INSIDE = (2e-5, 2e-10)
ACROSS = (1e-4, 8e-9)
"""α in seconds, β in seconds a byte."""
TENSORS = Gradients(
    tensor_bytes=(800_000,) * 4, grouping=GradientBuckets(first_bytes=2**20, most_bytes=25 * 2**20, laid_out=True)
)
OWN = {"data": 0.0, "forward": 0.02, "backward": 0.04, "optimizer": 0.002}


def hop(alpha, beta):
    return LinkModel(alpha, beta, lambda ranks, size: time_s("ring", ranks, size, alpha, beta))


def exchange_s(algorithm="flat ring", across=ACROSS):
    """By ranks, nodes, bytes."""
    return layered_time_over_links(algorithm, hop(*INSIDE), hop(*across))


def placed(algorithm="flat ring", nodes=(1, 2, 4), widths=(1, 2), across=ACROSS, link=None, trials=3, **changes):
    """The cells of a sweep with ``--nodes`` and ``--ranks-per-node``, and of the allreduces."""
    carried = exchange_s(algorithm, across)
    cases, found = [], []
    for width in widths:
        for count in nodes:
            for workload in ("synthetic", "allreduce"):
                case = make_case(
                    workload=workload,
                    ranks=count * width,
                    ranks_per_node=width,
                    scaling="weak",
                    **{"batch": 64 if workload == "synthetic" else 1, "site": "slurm", **changes},
                )
                if workload == "allreduce" and case.ranks == 1:
                    continue
                cases.append(case)
                here = link if count > 1 else None
                found += [
                    make_trial(case, number, link=here, ranks=_ranks(case, carried, 1 + 0.001 * (number - 1)))
                    for number in range(trials)
                ]
    return make_cells(cases, {}, found, {})


def _ranks(case, carried, factor):
    if case.workload == "allreduce":
        messages = tuple(
            MessageTiming(message_bytes=size, times_s=(factor * carried(case.ranks, case.nodes, size),))
            for size in SIZES
        )
        extra = {"kind": "collective", "unit": "bytes", "messages": messages}
        return tuple(make_record(rank, case.ranks, **extra) for rank in range(case.ranks))
    times = OwnTimes(**{f"{name}_s": value for name, value in OWN.items()})
    step_s = times.total_s
    if case.ranks > 1:
        step_s = predict_step(times, TENSORS, lambda size: carried(case.ranks, case.nodes, size))
    phases = PhaseTimes(together_s=(step_s,), alone_s={name: (value,) for name, value in OWN.items()}, digest="")
    more = {"amount_per_step": case.global_batch, "phases": phases, "gradients": TENSORS}
    return tuple(make_record(rank, case.ranks, (step_s * factor,) * 2, **more) for rank in range(case.ranks))
