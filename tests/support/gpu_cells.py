"""Cells of a sweep on one H200, with made-up telemetry: a launch-bound perceptron by four backends, and a full load."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import Case
from bench.core.records import Trial, Window
from reports.analysis.cells import Cell, make_cells
from tests.support.builders import make_case, make_record, make_trial
from tests.support.h200_telemetry import GPU, LoadName, telemetry

WINDOW_S = 4.0
TRIALS = 4
BACKENDS: dict[str, tuple[str, LoadName, float]] = {
    # Transport, load, and steps per second of the perceptron.
    "single": ("none", "launch_bound", 1137.0),
    "ddp": ("nccl", "launch_bound", 1021.0),
    "horovod": ("nccl", "launch_bound", 934.0),
    "dask": ("tasks", "dask", 88.0),
}


def gpu_case(backend: str, transport: str, **changes) -> Case:
    options = {"model": "mlp"}
    return make_case(
        **{"backend": backend, "transport": transport, "ranks": 1, "batch": 512, "device": "cuda"}
        | {"window_s": WINDOW_S, "workload_options": options}
        | changes
    )


def gpu_trial(case: Case, load: LoadName, steps_s: float, number: int = 0, **changes) -> Trial:
    """A trial whose ranks each took steps at this rate, ``number`` of several: later ones are slower by half a
    percent each."""
    step_s = (1 + 0.005 * number) / steps_s
    began_s = 5.0 + number
    count = round(WINDOW_S / step_s)
    ranks = tuple(
        make_record(
            rank,
            case.ranks,
            tuple(step_s * (1 + 0.04 * ((7 * step) % 11) / 11) for step in range(count)),
            device="cuda:0",
            gpu=GPU,
            host="gpu-node",
            node=0,
            boot_id="h200",
            amount_per_step=case.global_batch,
            window=Window(began_s=began_s, ended_s=began_s + WINDOW_S, cpu_s=0.99 * WINDOW_S),
            memory_peak_bytes=2_600_000_000,
            **changes,
        )
        for rank in range(case.ranks)
    )
    return make_trial(case, number, ranks=ranks, telemetry=(telemetry(load, WINDOW_S, began_s),))


def gpu_cells(rank_counts: Sequence[int] = (1,), **changes) -> tuple[Cell, ...]:
    """Every backend at one rank, or at several; ``changes``: further fields of every rank's record."""
    trials = [
        gpu_trial(gpu_case(backend, transport, ranks=ranks), load, steps_s, number, **changes)
        for backend, (transport, load, steps_s) in BACKENDS.items()
        for ranks in rank_counts
        for number in range(TRIALS)
    ]
    full = gpu_case("single", "none", workload_options={"model": "mlp", "width": 8192, "precision": "bf16"}, batch=512)
    trials += [gpu_trial(full, "power_capped", 61.0, number, **changes) for number in range(TRIALS)]
    cases = list({trial.case.key: trial.case for trial in trials}.values())
    return make_cells(cases, {}, trials, {})
