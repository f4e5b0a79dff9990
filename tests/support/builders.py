"""Builders that let a test state what it is about and nothing else."""

from __future__ import annotations

from bench.core.case import Case
from bench.core.program_run import ProgramRun
from bench.core.records import RankRecord, Trial
from bench.core.same_work import Reference, Tolerance, WorkProof


def make_case(**changes) -> Case:
    base = {"workload": "synthetic", "backend": "ddp", "transport": "gloo", "ranks": 2, "batch": 8}
    return Case(**{**base, **changes})


def make_proof(rank: int, world: int, **changes) -> WorkProof:
    """The proof of a rank that did what the reference did: two steps of four samples."""
    samples = ((0, 1, 2, 3), (4, 5, 6, 7))
    reference = Reference(samples=samples, losses=(1.0, 0.5), deviation=1e-7) if rank == 0 else None
    base = {
        "samples": tuple(step[rank::world] for step in samples),
        "losses": (1.0, 0.5),
        "digest": "same",
        "tolerance": Tolerance(value=1e-3, label="float32"),
        "reference": reference,
    }
    return WorkProof(**{**base, **changes})


def make_record(rank: int = 0, world: int = 1, step_s=(0.1, 0.1), **changes) -> RankRecord:
    base = {
        "rank": rank,
        "world": world,
        "host": "here",
        "pid": 1,
        "device": "cpu",
        "kind": "training",
        "unit": "samples",
        "amount_per_step": 8,
        "step_s": step_s,
        "warmup_steps": 1,
        "startup_s": 0.1,
        "final_digest": "end",
        "proof": make_proof(rank, world),
    }
    return RankRecord(**{**base, **changes})


def make_run(**changes) -> ProgramRun:
    """How a rank ran a user's own program."""
    base = {"counted": "DataLoader", "amount_per_step": 8, "optimizers": 1, "ended": "stopped", "steps": 20}
    return ProgramRun(**{**base, "wall_s": 3.0, "stepping_s": 2.0, **changes})


def make_program_record(rank: int = 0, world: int = 1, step_s=(0.1, 0.1), **changes) -> RankRecord:
    """What a rank measures of a user's own program."""
    base = {"kind": "program", "proof": None, "final_digest": None, "program": make_run()}
    return make_record(rank, world, step_s, **{**base, **changes})


def make_trial(case: Case, round_number: int = 0, step_s: float = 0.1, **changes) -> Trial:
    ranks = tuple(make_record(rank, case.ranks, (step_s, step_s)) for rank in range(case.ranks))
    base = {
        "case": case,
        "round": round_number,
        "outcome": "ok",
        "ranks": ranks,
        "environment": "e",
        "started_at": "2026-01-01T00:00:00+00:00",
        "wall_s": 1.0,
    }
    return Trial(**{**base, **changes})
