"""Cells of a sweep on one H200, with made-up telemetry: a launch-bound perceptron by four backends, and a full load."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import Case
from bench.core.records import Trial, Window
from bench.core.step_measures import QueuedSteps
from reports.analysis.cells import Cell, make_cells
from tests.support.builders import make_case, make_record, make_trial
from tests.support.h200_telemetry import GPU, LoadName, telemetry

WINDOW_S = 4.0
TRIALS = 4
STEPS_PER_ENTRY = 8
BUSY_S = 1 / 6651
"""How long the GPU needs for a step of the perceptron: so many a second were replayed as a CUDA graph."""
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


def gpu_trial(case: Case, load: LoadName, steps_s: float, number: int = 0, busy_s: float = BUSY_S) -> Trial:
    """A trial whose ranks each took steps at this rate.

    Args:
        case: Of the trial.
        load: Whose telemetry it has.
        steps_s: Steps a second.
        number: Of several trials; later ones are slower by half a percent each.
        busy_s: How long the GPU needs for a step.
    """
    step_s = (1 + 0.005 * number) / steps_s
    began_s = 5.0 + number
    count = round(WINDOW_S / step_s / STEPS_PER_ENTRY)
    entries_s = tuple(step_s * (1 + 0.04 * ((7 * entry) % 11) / 11) for entry in range(count))
    queued = QueuedSteps(
        exchanged=True, steps=50, queued_s=(busy_s * 1.01, busy_s, busy_s * 0.99), stepped_s=(step_s,) * 3
    )
    by_dask = case.backend == "dask"
    ranks = tuple(
        make_record(
            rank,
            case.ranks,
            entries_s,
            steps_per_entry=STEPS_PER_ENTRY,
            host_step_s=tuple(max(busy_s, 0.99 * entry_s) for entry_s in entries_s),
            queued_steps=() if by_dask else (queued,),
            queued_steps_reason="its exchange waits for the host in every step" if by_dask else None,
            device="cuda:0",
            gpu=GPU,
            host="gpu-node",
            node=0,
            boot_id="h200",
            amount_per_step=case.global_batch,
            window=Window(began_s=began_s, ended_s=began_s + WINDOW_S, cpu_s=0.99 * WINDOW_S),
            memory_peak_bytes=2_600_000_000,
        )
        for rank in range(case.ranks)
    )
    return make_trial(case, number, ranks=ranks, telemetry=(telemetry(load, WINDOW_S, began_s),))


def gpu_cells(rank_counts: Sequence[int] = (1,)) -> tuple[Cell, ...]:
    """Every backend at one rank, or at several."""
    trials = [
        gpu_trial(gpu_case(backend, transport, ranks=ranks), load, steps_s, number)
        for backend, (transport, load, steps_s) in BACKENDS.items()
        for ranks in rank_counts
        for number in range(TRIALS)
    ]
    full = gpu_case("single", "none", workload_options={"model": "mlp", "width": 8192, "precision": "bf16"})
    trials += [gpu_trial(full, "power_capped", 61.0, number, busy_s=0.99 / 61) for number in range(TRIALS)]
    cases = list({trial.case.key: trial.case for trial in trials}.values())
    return make_cells(cases, {}, trials, {})
