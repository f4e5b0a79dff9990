"""A sweep of 24 cells with everything that a page of CPUs shows, made without running a rank."""

from __future__ import annotations

from bench.core.case import DataSource
from bench.core.records import Condition, Trial
from bench.core.same_work import SameWork
from bench.core.step_measures import PhaseTimes
from bench.core.telemetry import HOST, Device, NodeTelemetry, Series
from reports.analysis.cells import Cell, make_cells
from reports.analysis.findings import analyse_cells
from reports.page.elements import Page
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_record, make_trial

DIGITS = DataSource(name="scikit-learn digits", digest="d", path="p", stands_for="MNIST")
WORKLOADS = {"mnist": {"data": DIGITS}, "synthetic": {}, "array_mean": {}, "my_lm": {}}
BACKENDS = {"ddp/gloo": 0.3, "horovod/gloo": 0.5, "dask/tasks": 0.7}
"""The share of a step that two ranks lose to the exchange."""
SAME = SameWork(verdict="same", deviation=4e-7, tolerance=1e-3, label="float32")
NOISY = Condition(name="host_load", seen="here: other processes kept 1.20 of 2 cores busy")
PROVENANCE = (
    ("command", "python -m harness sweep --ranks 1,2"),
    ("started, finished", "2026-11-27T04:39:53.920+00:00, 2026-11-27T04:47:10.455+00:00"),
    ("suite", "quick, 3 rounds in shuffled order, seed 0"),
    ("commit", "9e9153b00ba7"),
    ("machine", "node7: AMD EPYC, 2 cores, 24 GiB, GPUs: none"),
)


def sweep_cells(slowdown: float = 1.0) -> tuple[Cell, ...]:
    """Four workloads, three backends, one and two ranks; one cell has failed. ``slowdown``: of every step."""
    cases, trials = [], []
    for workload, changes in WORKLOADS.items():
        for backend, lost in BACKENDS.items():
            name, transport = backend.split("/")
            for ranks in (1, 2):
                case = make_case(
                    workload=workload, backend=name, transport=transport, ranks=ranks, batch=128, **changes
                )
                cases.append(case)
                if (workload, name, ranks) == ("my_lm", "dask", 2):
                    trials.append(make_trial(case, ranks=(), outcome="failed", reason="rank 1: out of memory"))
                else:
                    trials += [_trial(case, number, lost if ranks > 1 else 0.0, slowdown) for number in range(3)]
    return make_cells(cases, {}, trials, {})


def sweep_page() -> Page:
    """The page of :func:`sweep_cells`, with a note."""
    return make_page(
        "mnist, synthetic and two more",
        analyse_cells(sweep_cells()),
        [(make_case(backend="single"), "single is one rank by definition")],
        PROVENANCE,
        note="After the upgrade of the kernel.",
    )


def _trial(case, number: int, lost: float, slowdown: float) -> Trial:
    """A step of 100 ms at one rank; of two ranks half of the work, and the share ``lost`` of it in the exchange."""
    own_s = 0.1 / case.ranks * (1 + number / 500) * slowdown
    step_s = own_s / (1 - lost)
    ranks = tuple(
        make_record(
            rank,
            case.ranks,
            tuple(step_s * (1 + step / 1000) for step in range(20)),
            amount_per_step=128,
            phases=PhaseTimes(
                together_s=(step_s,),
                digest="d",
                alone_s=dict.fromkeys(("data", "forward", "backward", "optimizer"), (own_s / 4,)),
            ),
        )
        for rank in range(case.ranks)
    )
    times = tuple(9.75 + number / 2 for number in range(6))
    busy = Series(device=HOST, name="job_cpu_s", times_s=times, values=(0.0, 0.5, 1.5, 2.5, 3.5, 3.5), reason="no")
    node = NodeTelemetry(
        host="here",
        source="live",
        interval_s=0.5,
        began_s=10.0,
        ended_s=12.0,
        devices=(Device(id=HOST, name=HOST),),
        series=(busy,),
    )
    return make_trial(case, number, ranks=ranks, telemetry=(node,), same_work=SAME, conditions=(NOISY,))
