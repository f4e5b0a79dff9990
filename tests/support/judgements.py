"""Judgements for tests of how they are told: one of everything, one of nothing, one of a thousand, one of odd names."""

from __future__ import annotations

import math
import random

from reports.regression.values import Assurance, Finding, Judgement, MetricSeries, NightTrials, Verdict

MLP = "synthetic[model=mlp]/ddp-gloo/strong/batch=128/threads=1/cpu/seed=0"
CNN = "synthetic[model=cnn]/ddp-gloo/strong/batch=128/threads=1/cpu/seed=0"
MNIST = "mnist/horovod-mpi/strong/batch=128/threads=1/cpu/seed=0"
DASK = "synthetic[model=mlp]/dask-tasks/strong/batch=128/threads=1/cpu/seed=0"
ODD = (
    'a|b`c`<img src=x onerror=alert(1)>&amp;"q"',
    "line\nbreak\r\nand\ttab",
    "bell\x07 \x1b[31m nul\x00 \ud800\uffff",
    "@somebody #12 https://example.org/x",
    "**bold** [link](http://example.org) \\| ~~no~~ $x$",
    "]]> --> </details>",
    "ü–Ω 模型 🙂",
    " ",
    "x" * 5000,
)
"""Names that could break out of what they stand in."""
ASSURANCE = Assurance(
    checks=31_000,
    false_alarms=7,
    false_alarm_rate=7 / 31_000,
    false_alarm_high=0.000465,
    source="on generated histories, by `python -m harness check --calibrate`",
    found_pct={"1": 6.4, "2": 4.6, "4": 3.3},
)


def verdict(name, status="pass", metric="step", change=None, low=None, high=None, **more) -> Verdict:
    return Verdict(name=name, metric=metric, status=status, change_pct=change, low_pct=low, high_pct=high, **more)


def at(curve: str, ranks: int) -> str:
    return f"{curve}/ranks={ranks}"


def passes(count: int) -> tuple[Verdict, ...]:
    noise = random.Random(1)
    changes = [noise.gauss(0, 1) for _ in range(count)]
    return tuple(
        verdict(f"bench_{number}", "pass", "step", change, change - 2, change + 2, nights=29)
        for number, change in enumerate(changes)
    )


def everything() -> Judgement:
    """A regression after pairs, a loss of scaling at two rank counts, and one of every other status."""
    verdicts = (
        verdict(at(MLP, 2), "regressed", "throughput", -10.4, -11.8, -8.9, pairs_used=16, nights=29),
        verdict(at(CNN, 2), "regressed", "efficiency", -6.1, -7.9, -4.2, pairs_used=24, nights=29),
        verdict(at(CNN, 4), "regressed", "efficiency", -12.8, -14.9, -10.7, pairs_used=8, nights=29),
        verdict(at(MNIST, 2), "failed", "throughput", reason="rank 1 was killed (signal 9): out of memory"),
        verdict(at(DASK, 4), "missing", "throughput", reason="measured on 29 nights, not on this one"),
        verdict(
            at(MLP, 4),
            "suspect",
            "step",
            4.8,
            1.9,
            7.8,
            pairs_wanted=8,
            nights=29,
            reason="z 2.6 against the 14 nights before",
        ),
        verdict(
            at(MNIST, 1),
            "inconclusive",
            "energy",
            2.2,
            -1.0,
            5.5,
            pairs_used=40,
            nights=12,
            reason="40 pairs gave no answer",
        ),
        verdict(at(DASK, 1), "incomparable", "throughput", reason="torch 2.9.1, not 2.9.0"),
        verdict(at(DASK, 2), "incomparable", "throughput", reason="torch 2.9.1, not 2.9.0"),
        verdict("suites/test_micro.py::test_batching[32]", "new", reason="no night before"),
        verdict(at(MLP, 1), "improved", "memory", -21.0, -22.5, -19.4, pairs_used=8, nights=29),
        *passes(43),
    )
    findings = (
        Finding(
            curve=MLP,
            kind="slower",
            status="regressed",
            ranks=(2,),
            change_pct=-10.4,
            low_pct=-11.8,
            high_pct=-8.9,
            said="ddp/gloo mlp lost 10.4 % (8.9–11.8 %) of its throughput",
            verdicts=(at(MLP, 2),),
        ),
        Finding(
            curve=CNN,
            kind="lost scaling",
            status="regressed",
            ranks=(2, 4),
            change_pct=-12.8,
            low_pct=-14.9,
            high_pct=-10.7,
            said="ddp/gloo cnn lost 12.8 % (10.7–14.9 %) of its efficiency at 4 ranks, 6.1 % at 2",
            verdicts=(at(CNN, 2), at(CNN, 4)),
        ),
    )
    return Judgement(
        judged="20261003-030000-ab12",
        started_at="2026-10-03T03:00:00.000+02:00",
        commit="1a2b3c4d5e6f70819",
        base_commit="9f8e7d6c5b4a39281",
        machine="bench-1: Some CPU, 8 cores",
        verdicts=verdicts,
        findings=findings,
        trials=270,
        extra_trials=96,
        assurance=ASSURANCE,
        command="python -m harness check",
    )


def of(*verdicts: Verdict, **more) -> Judgement:
    return Judgement(**{"judged": "30", "verdicts": verdicts, **more})


def one_each(*statuses) -> Judgement:
    return of(*(verdict(f"b{number}", status) for number, status in enumerate(statuses)))


def nothing() -> Judgement:
    return of()


def thousand(status="regressed", name="bench_{}", reason="because of {}") -> Judgement:
    return of(
        *(
            verdict(name.format(number), status, "step", 10.0, 8.0, 12.0, nights=30, reason=reason.format(number))
            for number in range(1000)
        )
    )


def odd(status="regressed") -> Judgement:
    """Names, reasons and all else from outside are odd."""
    verdicts = tuple(verdict(name, status, "step", 5.0, 3.0, 7.0, reason=name) for name in ODD)
    finding = Finding(curve=ODD[0], kind="other", status=status, said=ODD[4], verdicts=(ODD[0],))
    return of(*verdicts, findings=(finding,), commit=ODD[2], machine=ODD[0], base_commit=ODD[5], command=ODD[1])


def numberless() -> Judgement:
    return of(
        verdict("nan", "inconclusive", "step", math.nan, -math.inf, math.inf),
        verdict("far", "regressed", "step", 1e300, 1e299, math.inf),
    )


def nights(
    name, metric="step", *, value=0.1, changed=1.1, count=29, accepted_at=None, noise=0.01, seed=0
) -> MetricSeries:
    """A history of five trials a night; ``changed`` is what the newest is of the others; ``accepted_at``: the night
    from which on a level 20 % worse was accepted."""
    draw = random.Random(ascii((name, metric, seed)))
    better = metric in ("throughput", "efficiency")
    levels = [int(accepted_at is not None and night >= accepted_at) for night in range(count)]
    past = tuple(_night(draw, night, value * (1.2**level), noise, better, level) for night, level in enumerate(levels))
    newest = _night(draw, count, value * 1.2 ** max(levels, default=0) * changed, noise, better, max(levels, default=0))
    return MetricSeries(name=name, metric=metric, past=past, newest=newest, more_is_better=better)


def _night(draw, number, value, noise, better, level) -> NightTrials:
    day = draw.gauss(0, noise)
    logs = tuple((-1 if better else 1) * (math.log(value) + day + draw.gauss(0, noise)) for _ in range(5))
    name = f"2026{9 if number < 30 else 10:02}{number % 30 + 1:02}-030000-ab12"
    return NightTrials(night=name, logs=logs, level=level)


def history() -> tuple[MetricSeries, ...]:
    """The series behind :func:`everything`."""
    return (
        nights(at(MLP, 2), "throughput", value=8000, changed=0.896),
        nights(at(CNN, 2), "efficiency", value=0.81, changed=0.94),
        nights(at(CNN, 4), "efficiency", value=0.7, changed=0.872),
        nights(at(MNIST, 2), "throughput", value=5000).model_copy(update={"newest": None}),
        nights(at(DASK, 4), "throughput", value=3000).model_copy(update={"newest": None}),
        nights(at(MLP, 4), "step", value=0.0042, changed=1.048, accepted_at=17),
        nights(at(MNIST, 1), "energy", value=0.021, changed=1.022, count=11),
        nights(at(MLP, 1), "memory", value=412e6, changed=0.79, noise=0.001),
        nights("bench_0", changed=1.0),
    )
