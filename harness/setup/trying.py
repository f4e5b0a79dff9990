"""Tries a workload of a user's own file on this machine: a few steps on one and on two ranks, in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome, Trial
from bench.plugins.registry import WORKLOADS
from harness.errors import UsageError
from harness.planning.plan import Plan
from harness.setup.plugin_checks import run_case
from harness.sweep.plan import SuiteRequest, plan_sweep
from harness.sweep.plugins import plugin_kinds, use_plugin_files
from reports.analysis import formatting
from reports.analysis.case_titles import case_title
from reports.analysis.stats import estimate
from reports.analysis.step_times import throughput_of
from reports.analysis.units import rate_unit

STEPS, WARMUP_STEPS = 10, 2


class Attempt(FrozenModel):
    """How one case went."""

    title: str
    backend: str
    ranks: int
    outcome: Outcome | Literal["skipped"]
    reason: str | None
    """Why the outcome is not ``ok``, or what a reader has to know of it."""
    same_work: str | None = None
    """``same``, or ``unproven``."""
    rate: float | None = None
    """Of all ranks, in :attr:`unit` per second."""
    unit: str | None = None
    wall_s: float | None = None
    """With the start of the processes."""

    @property
    def is_ok(self) -> bool:
        return self.outcome == "ok"

    def line(self) -> str:
        """For people."""
        if self.is_ok:
            proof = "the same work as a single process" if self.same_work == "same" else f"not proven: {self.reason}"
            rate = formatting.estimate(estimate([self.rate or 0.0], rate_unit(self.unit or "")))
            return f"ok       {self.title}: {STEPS} steps, about {rate}, {proof} ({self.wall_s:.1f} s)"
        return f"{self.outcome:8} {self.title}: {self.reason}"


class TriedFile(NamedTuple):
    """What is to be tried of a file."""

    file: str
    workload: str
    plan: Plan
    backends: tuple[str, ...]
    ranks: tuple[str, ...]
    settings: tuple[str, ...]

    def is_ready(self, made: Sequence[Attempt]) -> bool:
        """Whether it works under every backend that can run here, and under one at least."""
        return any(attempt.is_ok for attempt in made) and all(attempt.outcome in ("ok", "skipped") for attempt in made)

    @property
    def sweep_command(self) -> str:
        """The command that measures it."""
        named = ["--plugin", self.file, "--workloads", self.workload, "--backends", ",".join(self.backends)]
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return shlex.join(["python", "-m", "harness", "sweep", *named, "--ranks", ",".join(self.ranks), *settings])


def plan_attempts(
    file: str, backends: Sequence[str], ranks: Sequence[str], batch: int | None, settings: Sequence[str]
) -> TriedFile:
    """What will be tried. Raises :class:`UsageError` for a file without a workload, and for wrong names."""
    use_plugin_files([file], option="try")
    names = [name for name, source in WORKLOADS.files.items() if source.file == Path(file).name]
    if not names:
        kinds = [kind.name for kind in plugin_kinds() if kind.files]
        raise UsageError(f"try {file}: defines a {kinds[0]} and no workload; check it by `doctor --plugin {file}`")
    overrides: dict[str, Any] = {
        "workloads": (names[0],),
        "backends": tuple(backends),
        "ranks": tuple(ranks),
        "scaling": ("strong",),
        "repeats": 1,
        "steps": STEPS,
        "warmup": WARMUP_STEPS,
        "decompose": False,
        "own_cost": False,
        "roofline": False,
        "telemetry": "off",
        **({} if batch is None else {"batch": batch}),
    }
    plan = plan_sweep(SuiteRequest("quick", overrides, tuple(settings), (file,))).plan
    return TriedFile(file, names[0], plan, tuple(backends), tuple(ranks), tuple(settings))


def attempts(plan: Plan) -> Iterator[Attempt]:
    """Run the cases of a plan one after the other; after a failure, none of more ranks of that backend."""
    for skip in (*plan.skips, *plan.not_applicable):
        yield _not_run(skip.case, skip.reason)
    failed: dict[str, str] = {}
    for case in sorted(plan.cases, key=lambda case: (case.backend, case.ranks)):
        curve = case.curve
        if curve in failed:
            yield _not_run(case, f"not tried, since {failed[curve]} did not work")
            continue
        attempt = _describe(case, run_case(case))
        if not attempt.is_ok:
            failed[curve] = formatting.ranks(case.ranks)
        yield attempt


def _not_run(case: Case, reason: str) -> Attempt:
    return Attempt(title=case_title(case), backend=case.backend, ranks=case.ranks, outcome="skipped", reason=reason)


def _describe(case: Case, trial: Trial) -> Attempt:
    common: dict[str, Any] = {
        "title": case_title(case),
        "backend": case.backend,
        "ranks": case.ranks,
        "wall_s": trial.wall_s,
    }
    if trial.outcome != "ok":
        return Attempt(outcome=trial.outcome, reason=trial.reason, **common)
    proof = trial.same_work
    return Attempt(
        outcome="ok",
        reason=proof.reason if proof else None,
        same_work=proof.verdict if proof else None,
        rate=throughput_of(trial.ranks),
        unit=trial.ranks[0].unit,
        **common,
    )
