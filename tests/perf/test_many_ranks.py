"""64 emulated ranks on this machine: what a trial takes beside the waits that stand for the compute of its steps.

    python -m pytest tests/perf/test_many_ranks.py -s

Waits are the same on all ranks and overlap; the rest is starting and joining, and the exchange of gradients. The goal
is a whole trial within twice its waits.
"""

from __future__ import annotations

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.core.case import Case, roles_to_start
from bench.plugins import registry
from bench.rank.progress import PHASES, read_progress
from harness.sites.base.contract import TrialRequest
from harness.sites.local.site import SITE

RANKS, COMPUTE_MS, WARMUP, STEPS, VERIFIED = 64, 2000, 1, 5, 4
WAITS_S = (WARMUP + STEPS + VERIFIED) * COMPUTE_MS / 1e3
GOAL = 2
LIMIT_S = 200
LOOK_INTERVAL_S = 0.2


@pytest.mark.parametrize(("backend", "transport"), [("ddp", "gloo"), ("horovod", "gloo"), ("dask", "tasks")])
def test_many_ranks_start_measure_and_end(backend, transport, tell, goal):
    case = Case(
        workload="synthetic",
        backend=backend,
        transport=transport,
        ranks=RANKS,
        batch=1,
        scaling="weak",
        warmup=WARMUP,
        steps=STEPS,
        verify_steps=VERIFIED,
        decompose=False,
        timeout_s=LIMIT_S,
        workload_options={"model": "emulated", "compute_ms": COMPUTE_MS},
        flags=("emulated_compute",),
    )
    reached: dict[str, float] = {}
    ended = threading.Event()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        request = TrialRequest(case, roles_to_start(registry.load_backend(backend).launch(case)), Path(folder))
        began = time.monotonic()
        watch = pool.submit(note_phases, Path(folder), reached, began, ended)
        try:
            trial = SITE.start(request)
            reached["all started"] = time.monotonic() - began
            ending = trial.wait(LIMIT_S)
        finally:
            ended.set()
        watch.result()
    took_s = time.monotonic() - began
    assert ending.outcome == "ok", (ending.reason, ending.log_tail)
    parts = ", ".join(f"{name} {at_s:.1f}" for name, at_s in reached.items())
    tell(f"{RANKS} ranks, {WAITS_S:.0f} s of waits: {took_s:.1f} s, {took_s / WAITS_S:.2f} of the waits ({parts})")
    goal(f"{backend}, {RANKS} ranks: a trial ÷ its waits", [took_s / WAITS_S], at_most=GOAL)


def note_phases(folder: Path, reached: dict[str, float], began: float, ended: threading.Event) -> None:
    """Note when the last rank has reached each phase, in seconds since the start."""
    while not ended.wait(LOOK_INTERVAL_S):
        ranks = read_progress(folder)
        if len(ranks) == RANKS:
            reached.setdefault(min((rank.phase for rank in ranks), key=PHASES.index), time.monotonic() - began)
