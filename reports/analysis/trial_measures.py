"""The numbers of one trial, computed once: cells, verdicts and exports are made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from bench.core.bounds import MAX_WORK
from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts
from bench.core.records import CONNECTIONS, RankRecord, Reading, Trial
from reports.analysis.device_busy import DeviceTime, device_readings, device_time
from reports.analysis.energy_errors import EnergyError, energy_errors
from reports.analysis.numerous_model import NumerousModel
from reports.analysis.rank_resources import variable_settings, variables_of
from reports.analysis.stats import Estimate, estimate
from reports.analysis.step_times import StepSplit, slowest_steps, split_step, throughput_of
from reports.analysis.telemetry import usage_of

PROGRAM_SETTING, SOURCE_PREFIX = "program", "source "
"""The setting whose last word is the digest of a program, and what begins the value of one that is a plugin's."""
NODE_PREFIX = "node "
"""Begins the name of a setting that is a fact about the nodes; records of before have none."""
NODE_SEPARATOR = " | "
"""Between the values of different nodes."""
COMPARED_SETTINGS = {"steps", "window_s", "precision", "warmup", "verify_steps", "affinity", "telemetry"}


class TrialMeasures(NumerousModel):
    """What one successful trial measured in its window. ``None``: unknown."""

    round: int
    """Of the sweep, from 0: a case has one trial a round."""
    unit: str
    """What throughput counts: ``samples``, ``bytes``, ``elements``, or what a workload of one's own counts."""
    amount_per_step: float
    """Units of work in a step, of all ranks together."""
    steps: int
    throughput: float
    """Units per second, of all ranks together."""
    step_s: float
    """The median over the window of each step's slowest rank; of a device that marks blocks of steps, of each
    block's."""
    host_step_s: float | None = None
    """The mean time in which the host enqueues a step, on the rank where that takes longest."""
    memory_bytes: int | None
    """The highest resident memory of a rank; unknown where it is for one rank, which may be the highest."""
    usage: tuple[Reading, ...]
    """Of ranks, hosts and GPUs: memory, energy, utilization, traffic; and what the device needs for a step."""
    energy_errors: tuple[EnergyError, ...] = ()
    """Of the readings of energy that are known."""
    split: StepSplit | None
    """The parts of a step; exposed communication among them."""
    device: DeviceTime | None
    """What the devices do in a step; unknown on CPUs."""
    message_times_s: tuple[float, ...]
    """Of a collective: by message size, the median time on the slowest rank."""

    @property
    def window_amount(self) -> float:
        """Units of work in the measured window, of all ranks together."""
        return self.amount_per_step * self.steps

    def usage_value(self, name: str) -> float | None:
        """A reading of :attr:`usage` by its name; ``None`` where it is unknown or was not taken."""
        return next((reading.value for reading in self.usage if reading.name == name), None)


def measure_trial(trial: Trial) -> TrialMeasures | None:
    """The numbers of a trial; ``None`` of one that did not succeed, or whose window has no positive, finite length."""
    ranks = trial.ranks
    window_s = max((rank.measured_s for rank in ranks), default=0.0)
    if trial.outcome != "ok" or not 0 < window_s < math.inf:  # not of a NaN either
        return None
    throughput = throughput_of(ranks)
    step_s = median(slowest_steps(ranks))
    return TrialMeasures(
        round=trial.round,
        unit=ranks[0].unit,
        amount_per_step=ranks[0].amount_per_step,
        steps=ranks[0].steps,
        throughput=throughput,
        step_s=step_s,
        host_step_s=_host_step_s(ranks),
        memory_bytes=_memory_bytes(ranks),
        usage=(*usage_of(ranks, trial.telemetry, throughput), *device_readings(ranks, step_s)),
        energy_errors=energy_errors(ranks, trial.telemetry),
        split=split_step(ranks),
        device=device_time(ranks, step_s),
        message_times_s=tuple(_message_times_s(ranks)),
    )


def _host_step_s(ranks: Sequence[RankRecord]) -> float | None:
    # A clock that stood still has measured nothing.
    known = [time_s for rank in ranks if (time_s := rank.mean_host_step_s)]
    return max(known) if len(known) == len(ranks) else None


def _memory_bytes(ranks: Sequence[RankRecord]) -> int | None:
    peaks = [rank.memory_peak_bytes for rank in ranks]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if len(known) == len(peaks) else None


def _message_times_s(ranks: Sequence[RankRecord]) -> list[float]:
    by_size = zip(*(rank.messages for rank in ranks), strict=True)
    return [
        median(max(times) for times in zip(*(message.times_s for message in messages), strict=True))
        for messages in by_size
    ]


def stored_measures(trial: Trial) -> dict[str, float]:
    """The measures that are stored beside a trial, so that a nightly check reads no raw steps; by name.

    ``step_s``, ``rate`` (units a second), ``memory_bytes``, ``gpu_memory_bytes``, ``joules_per_sample`` (of the devices
    that computed) and ``exposed_s`` (exposed communication of a step, which may be negative). What is unknown or not
    finite is left out; a trial that did not succeed, or has an injected fault, has none.
    """
    measures = measure_trial(trial)
    if measures is None or trial.case.fault is not None:
        return {}
    values = {
        "step_s": measures.step_s,
        "rate": measures.throughput,
        "memory_bytes": measures.memory_bytes,
        "gpu_memory_bytes": measures.usage_value("gpu_memory_peak"),
        "joules_per_sample": measures.usage_value("cpu_energy" if trial.case.device == "cpu" else "gpu_energy"),
        # One rank exchanges with no other.
        "exposed_s": measures.split.exposed_s if measures.split and len(trial.ranks) > 1 else None,
    }
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def is_measure(name: str, value: object) -> bool:
    """Whether a stored value can be that of :func:`stored_measures`: exposed communication alone may be 0 or less."""
    if not isinstance(value, float | int) or not abs(value) <= MAX_WORK**2:
        return False
    return name == "exposed_s" or value > 0


def settings_of(case: Case) -> dict[str, str]:
    """The settings beside the case's key that must match before the numbers of two nights are compared, by name."""
    settings = {name: str(value) for name, value in case.model_dump(include=COMPARED_SETTINGS).items()}
    if case.adapt_window:
        # The length of a trial's window follows from the trials before it: it is no condition of the night.
        settings["window_s"] = f"auto, from {case.window_s}"
    settings |= {"data": f"{case.data.name} {case.data.digest}" if case.data else "none"}
    if case.program is not None:
        settings[PROGRAM_SETTING] = f"{case.program.name} {case.program.digest}"
    return settings | {f"{plugin.kind} {plugin.name}": f"{SOURCE_PREFIX}{plugin.digest}" for plugin in case.plugins}


def trial_settings(trial: Trial) -> dict[str, str]:
    """:func:`settings_of` its case, the environment variables of its ranks that change what is measured, and what its
    nodes are where they are not the harness's own machine."""
    first = trial.ranks[0].settings if trial.ranks else {}
    connections = {CONNECTIONS: first[CONNECTIONS]} if CONNECTIONS in first else {}
    return settings_of(trial.case) | connections | variable_settings(variables_of([trial])) | node_settings(trial.nodes)


def node_settings(nodes: Sequence[NodeFacts]) -> dict[str, str]:
    """The kind of machine and the versions of nodes, by name; different values are joined. Their names do not count: a
    cluster gives other nodes of one kind each time."""
    fields = [{"cpu": node.cpu, "GPUs": ", ".join(node.gpus) or "none", "python": node.python} for node in nodes]
    known = [fields_of_node | node.packages for fields_of_node, node in zip(fields, nodes, strict=True)]
    names = sorted({name for each in known for name in each})
    return {f"{NODE_PREFIX}{name}": _join({each.get(name, "none") for each in known}) for name in names}


def join_settings(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The settings of a cell after one more trial: the trial's, with all kinds of nodes that the cell's trials had.

    A trial that failed before it was measured does not tell how its ranks were connected.
    """
    nodes = [name for name in now if name.startswith(NODE_PREFIX) and name in before]
    joined = {name: _join({*before[name].split(NODE_SEPARATOR), *now[name].split(NODE_SEPARATOR)}) for name in nodes}
    connections = {CONNECTIONS: before[CONNECTIONS]} if CONNECTIONS in before else {}
    return {**connections, **now, **joined}


def _join(values: Iterable[str]) -> str:
    return NODE_SEPARATOR.join(sorted(values))


class TrialOverhead(FrozenModel):
    """What step timing and sampling cost in one trial: the time without them ÷ with them, of each pair of blocks."""

    device: str
    """See :func:`device_model`."""
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The geometric mean over the pairs."""
        return math.exp(math.fsum(map(math.log, self.ratios)) / len(self.ratios))


def trial_overheads(trials: Iterable[Trial]) -> tuple[TrialOverhead, ...]:
    """Of the successful trials that measured it."""
    return tuple(
        TrialOverhead(device=device_model(trial.ranks[0].device), ratios=tuple(ratios))
        for trial in trials
        if trial.outcome == "ok" and (ratios := overhead_ratios(trial.ranks))
    )


def overhead_of(measured: Sequence[TrialOverhead]) -> Estimate | None:
    """What step timing and sampling cost: throughput with them ÷ without, so that 0.99 is a cost of 1 %.

    Each trial is one observation; ``None`` where none measured it.
    """
    return estimate([one.ratio for one in measured], "1") if measured else None


def overheads_of(measured: Iterable[TrialOverhead]) -> dict[str, Estimate]:
    """:func:`overhead_of` the trials of each kind of device, by its name, in the order in which they were used.

    A single trial has an interval over its pairs of blocks.
    """
    by_device: dict[str, list[TrialOverhead]] = {}
    for one in measured:
        by_device.setdefault(one.device, []).append(one)
    return {device: _overhead_on(found) for device, found in by_device.items()}


def _overhead_on(measured: Sequence[TrialOverhead]) -> Estimate:
    if len(measured) == 1:
        return estimate(measured[0].ratios, "1").model_copy(update={"n": 1})
    return estimate([one.ratio for one in measured], "1")


def device_model(device: str) -> str:
    """``NVIDIA H200`` of ``cuda:0 (NVIDIA H200)``; ``CPU``."""
    _, bracket, model = device.partition(" (")
    return model.removesuffix(")") if bracket else device.upper()


def overhead_ratio(ranks: Sequence[RankRecord]) -> float | None:
    """:func:`overhead_of` one trial: the geometric mean over neighbouring blocks, each timed on its slowest rank."""
    ratios = overhead_ratios(ranks)
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else None


def overhead_ratios(ranks: Sequence[RankRecord]) -> list[float]:
    """Of each pair of neighbouring blocks: the time without measuring ÷ with it; empty where a rank has none.

    Where blocks with measuring had a multiple m of it, the m-th root: costs of a few percent add up, and unlike a
    quotient of differences the logarithm errs as often upwards as downwards where either block is disturbed.
    """
    costs = [rank.own_cost for rank in ranks if rank.own_cost is not None]
    if not costs or len(costs) != len(ranks):
        return []
    watched = [max(times) for times in zip(*(cost.watched_s for cost in costs), strict=True)]
    unwatched = [max(times) for times in zip(*(cost.unwatched_s for cost in costs), strict=True)]
    multiple = costs[0].multiple
    return [(off / on) ** (1 / multiple) for on, off in zip(watched, unwatched, strict=True)]
