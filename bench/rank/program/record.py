"""What a rank knows of its program, as its record."""

from __future__ import annotations

import itertools
import os
import sys
from statistics import median
from typing import NamedTuple

from bench.core.bounds import MAX_WORK
from bench.core.case import Case
from bench.core.program_run import MAX_PRINTED, Counted, ProgramRun
from bench.core.rank_info import RankInfo
from bench.core.records import RankRecord, Reading, Window
from bench.core.reported import Reported
from bench.host.machine import host_name
from bench.host.resources import compute_threads, device_name, device_uuid, memory_peak_bytes, thread_cores
from bench.host.running_code import sources_digest
from bench.rank.context import RankContext
from bench.rank.loop import has_settled
from bench.rank.program.batches import TOKENS, BatchCounter
from bench.rank.program.checkpoints import CheckpointWatch
from bench.rank.program.device_time import DeviceBlocks
from bench.rank.program.failures import ProgramProblem, no_tokens_counted, nothing_counted
from bench.rank.program.marks import CAPACITY, Marks
from bench.rank.program.options import ScriptOptions
from bench.rank.program.printed import PrintedValues
from bench.rank.program.process_group import joined_others
from bench.rank.program.steps import OptimizerSteps
from bench.rank.program.trained import Trained, trained_in
from bench.rank.program.watch import StepWatch
from bench.rank.program.window import Cut

UNIT = "samples"


class Observed(NamedTuple):
    """All that watches a program."""

    watch: StepWatch
    batches: BatchCounter
    optimizers: OptimizerSteps
    checkpoints: CheckpointWatch
    printed: PrintedValues | None
    reported: Reported | None
    began_ns: int
    """When the program began, on the monotonic clock."""


class End(NamedTuple):
    """How a program ended."""

    at_ns: int
    stopped: bool
    exit_status: int | None = None


def make_record(
    case: Case, me: RankInfo, options: ScriptOptions, context: RankContext, observed: Observed, cut: Cut, end: End
) -> RankRecord:
    """The record of a rank.

    Args:
        case: A case with a program.
        me: This rank.
        options: Those of the case.
        context: What is known of the process.
        observed: What has watched the program.
        cut: The measured window, all of whose steps have been taken.
        end: How the program ended.

    Raises:
        ProgramProblem: It is not known how much the program processes in a step.
    """
    watch, marks = observed.watch, observed.watch.marks
    trained = trained_in(marks, *cut)
    counted, own_amount = _own_amount(case, options, observed, cut, trained)
    device = watch.device_marks.device if watch.device_marks is not None else "cpu"
    blocks = watch.device_marks.blocks(*cut) if watch.device_marks is not None else None
    step_s = tuple(max(step, 1e-9) for step in (blocks.step_s if blocks else marks.durations_s(*cut)))
    every = watch.every if blocks else 1
    began_ns = _first_step_ns(observed)
    ended_ns = marks.wall_ns[marks.count % CAPACITY]
    run = _program_run(options, observed, end, counted, own_amount, cut, (began_ns, ended_ns))
    window = Window(began_s=marks.at_s(cut.first), ended_s=marks.at_s(cut.last), cpu_s=marks.cpu_between_s(*cut))
    # What all ranks process is the sum over their records; each takes the others for its like.
    amount = own_amount * me.world if own_amount else 1.0
    return RankRecord(
        rank=me.rank,
        world=me.world,
        host=host_name(),
        node=case.node_of_rank(me.rank),
        boot_id=context.boot_id,
        sources=sources_digest(),
        pid=os.getpid(),
        device=device_name(device),
        gpu=device_uuid(device),
        kind="program",
        unit=options.unit or UNIT,
        amount_per_step=amount,
        step_s=step_s,
        steps_per_entry=every,
        last_entry_steps=(cut.last - cut.first) % every or None,
        host_step_s=_host_step_s(marks, cut, blocks) if blocks else None,
        warmup_steps=cut.first,
        settled=_settled(case, watch, cut),
        startup_s=max(0.0, began_ns / 1e9 - context.began_s),
        stepping_s=(began_ns / 1e9, ended_ns / 1e9),
        window=None if watch.followed else window,
        memory_peak_bytes=memory_peak_bytes(),
        cores=thread_cores(),
        planned_cores=context.planned_cores,
        threads=compute_threads(),
        variables=context.variables,
        settings={"threads": str(case.threads), **_versions()},
        readings=_readings(observed, cut, run, on_device=blocks is not None),
        program=run,
    )


def _host_step_s(marks: Marks, cut: Cut, blocks: DeviceBlocks) -> tuple[float, ...]:
    """How long the host took for a step of each block."""
    bounds = itertools.pairwise([cut.first, *blocks.ends])
    return tuple(marks.between_s(first, last) / (last - first) for first, last in bounds)


def _program_run(
    options: ScriptOptions,
    observed: Observed,
    end: End,
    counted: Counted,
    own_amount: float | None,
    cut: Cut,
    stepping_ns: tuple[int, int],
) -> ProgramRun:
    batches, watch, printed = observed.batches, observed.watch, observed.printed
    trained = trained_in(watch.marks, *cut)
    pauses = observed.checkpoints.paused_ns(*stepping_ns)
    others = [span for slot, span in enumerate(batches.spans_ns) if slot not in trained.loaders]
    checkpoint_s, evaluation_s = sum(pauses) / 1e9, sum(others) / 1e9
    stepping_s = (stepping_ns[1] - stepping_ns[0]) / 1e9
    return ProgramRun(
        counted=counted,
        steps_from="optimizer" if observed.optimizers.optimizers else "output",
        amount_per_step=own_amount,
        loaders=len(trained.loaders),
        optimizers=observed.optimizers.optimizers or None,
        printed=spread(_printed_in(observed, cut), MAX_PRINTED) if printed is not None else (),
        printed_scope=options.metric_scope,
        joined=joined_others() if end.stopped else None,
        ended="stopped" if end.stopped else "by itself",
        exit_status=end.exit_status,
        steps=watch.marks.count,
        wall_s=max(0.0, (end.at_ns - observed.began_ns) / 1e9),
        stepping_s=max(0.0, stepping_s - checkpoint_s - evaluation_s),
        checkpoint_s=checkpoint_s,
        checkpoints=len(pauses),
        evaluation_s=evaluation_s,
        whole=watch.whole,
        reported=observed.reported,
    )


def _own_amount(
    case: Case, options: ScriptOptions, observed: Observed, cut: Cut, trained: Trained
) -> tuple[Counted, float | None]:
    """What this rank processes in a step, and how that is known."""
    given = options.samples_of_all_ranks(case.ranks)
    if given is not None:
        return "given", given / case.ranks
    if observed.printed is not None:
        return "printed", None
    if not trained.amount and case.ranks == 1:
        raise ProgramProblem(nothing_counted_line(case, options, observed.batches))
    return "DataLoader", trained.amount / (cut.last - cut.first)


def nothing_counted_line(case: Case, options: ScriptOptions, batches: BatchCounter) -> str:
    """Why it is not known how much the program processes in a step."""
    name = case.program.name if case.program is not None else case.workload
    return no_tokens_counted(name) if options.unit == TOKENS and batches.used else nothing_counted(name)


def _printed_in(observed: Observed, cut: Cut) -> list[float]:
    """The values that were printed in the window, or right after it of its last steps."""
    assert observed.printed is not None
    marks = observed.watch.marks
    ended_ns = marks.wall_ns[(cut.last + 1) % CAPACITY] if marks.count > cut.last else 2**63
    return observed.printed.between(marks.wall_ns[cut.first % CAPACITY], ended_ns)


def spread(values: list[float], most: int) -> tuple[float, ...]:
    """At most so many of the values that a record can hold, evenly spaced (pure)."""
    numbers = [value for value in values if abs(value) <= MAX_WORK]
    every = -(-len(numbers) // most) if numbers else 1
    return tuple(numbers[::every])


def _first_step_ns(observed: Observed) -> int:
    """When the first step began: with its first batch, else about a step before its end."""
    marks = observed.watch.marks
    if marks.count >= CAPACITY:
        return observed.batches.first_ns or observed.began_ns
    first_end_ns = marks.wall_ns[1]
    if 0 < observed.batches.first_ns < first_end_ns:
        return observed.batches.first_ns
    known = marks.durations_s(1, marks.count)
    return max(observed.began_ns, first_end_ns - int(1e9 * median(known))) if known else first_end_ns


def _settled(case: Case, watch: StepWatch, cut: Cut) -> bool | None:
    """Whether step times had settled by the window; of a warm-up of a fixed length, by its halves."""
    if case.warmup is not None:
        return None
    if watch.decision.settled or not watch.marks.holds(1):
        return watch.decision.settled > 0 if watch.decision.settled else None
    middle = max(1, cut.first // 2)
    if not 1 < middle < cut.first:
        return None
    halves = [watch.marks.durations_s(1, middle), watch.marks.durations_s(middle, cut.first)]
    return has_settled([median(half) for half in halves])


def _readings(observed: Observed, cut: Cut, run: ProgramRun, *, on_device: bool) -> tuple[Reading, ...]:
    marks = observed.watch.marks
    step_s = max(1e-9, marks.between_s(*cut) / (cut.last - cut.first))
    readings = [Reading(name="watching", value=marks.watching_s(*cut) / step_s, unit="1")]
    if on_device:
        # The program's own clock would show this one.
        readings.append(Reading(name="step_on_host_clock", value=step_s, unit="s"))
    if run.whole:
        readings += [
            Reading(name="time_to_end", value=run.wall_s, unit="s"),
            Reading(name="program_startup", value=_startup_s(observed), unit="s"),
            Reading(name="program_steps", value=run.steps, unit="1"),
            Reading(name="checkpoint_pauses", value=run.checkpoint_s, unit="s"),
            Reading(name="evaluation", value=run.evaluation_s, unit="s"),
            Reading(name="goodput", value=run.stepping_s / max(run.wall_s, 1e-9), unit="1"),
        ]
    return tuple(readings)


def _startup_s(observed: Observed) -> float:
    return max(0.0, (_first_step_ns(observed) - observed.began_ns) / 1e9)


def _versions() -> dict[str, str]:
    """The versions of what the program has loaded."""
    found = {}
    for name in ("torch", "horovod", "lightning", "accelerate"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[name] = version[:64]
    return found
