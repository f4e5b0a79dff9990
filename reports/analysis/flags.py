"""Flags of cells and fits with their meaning and remedy, and the conditions that may disturb a trial.

Conditions are other processes' work, heat, hardware faults, swapping and shared machines. A serious condition makes the
trial ``invalid``: its number would not be of the case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.core.case import Case
from bench.core.records import Condition, Link, RankRecord, SameWork, Trial
from bench.core.telemetry import HOST, NodeTelemetry
from bench.plugins.backend import FLOAT32_TOLERANCE
from reports.analysis.telemetry import TelemetryWindow, gpus_of

MIN_TRIALS = 3
FULL_RATE_SHARE = 0.9
"""Links that carry a smaller share of their configured rate are flagged. A full one carries 0.956 in payload."""
FLAG_MEANINGS: dict[str, tuple[str, str]] = {
    "oversubscribed": (
        "more threads than cores, so that ranks waited for each other's cores",
        "use fewer ranks or threads; the cell feeds no scaling claim",
    ),
    "emulated_compute": (
        "the compute is a wait of a stated length; the exchange is real",
        "compare it with other emulated numbers only",
    ),
    "stand_in_data": (
        "the samples are stand-in data, not the data set of the workload",
        "give a folder with the real data: for mnist, --set mnist.data=FOLDER",
    ),
    "other_machinery": (
        "this backend implements the same work differently from the others",
        "compare the implementations as a whole, not their exchange",
    ),
    "no_baseline": (
        "no measurement at 1 rank: speed-up and efficiency start from the smallest rank count",
        "add 1 to --ranks",
    ),
    "imprecise": (
        "the interval is wider than the requested precision, and the budget is used up",
        "raise --budget, or reduce other load on the machine",
    ),
    "few_trials": ("fewer than 3 trials: the interval is wide or missing", "raise --repeats"),
    "loose_tolerance": (
        "same work is judged with a looser tolerance than float32's",
        "read the tolerance in the same-work table",
    ),
    "slow_links": (
        "the links between ranks carried less than 90 % of their rate: this machine is the bottleneck, not the links",
        "see the achieved rate under Provenance; choose a lower rate",
    ),
    "injected": ("a fault was injected on purpose", "leave out --inject; the cell is never a baseline"),
    "never_settled": (
        "step times had not settled when the measured window began",
        "raise --warmup, or find what disturbs the steps",
    ),
    "cpu_steal": ("the hypervisor gave CPU time to other machines", "measure on a dedicated host, or at another time"),
    "host_load": ("other processes used the cores", "stop them, or measure at another time"),
    "cpu_clock_moved": ("the cores' clock changed within the window", "fix the clock, or let the machine cool down"),
    "swapping": ("memory was swapped; above 1 MiB/s the trial is invalid", "use a smaller batch or model"),
    "foreign_gpu_process": ("other processes computed on the GPUs: the trial is invalid", "use the GPUs exclusively"),
    "gpu_thermal_throttling": ("a GPU slowed down by heat: the trial is invalid", "improve the cooling"),
    "gpu_power_brake": ("a GPU's power supply slowed it down: the trial is invalid", "check the power supply"),
    "gpu_power_capped": ("a GPU ran at its power limit", "compare it with runs at the same limit only"),
    "gpu_xid": ("a GPU reported an error: the trial is invalid", "look up the Xid in the kernel log"),
    "gpu_memory_errors": (
        "a GPU's memory had uncorrectable errors: the trial is invalid",
        "replace the GPU",
    ),
    "gpu_clock_moved": ("a GPU's clock changed within the window", "lock it with nvidia-smi --lock-gpu-clocks"),
    "superlinear": (
        "more than proportional throughput: caching or an unfair baseline",
        "compare weak scaling, or measure the smallest rank count again",
    ),
    "retrograde": (
        "more ranks gave less throughput",
        "use the rank count of the peak, or see what limits the curve there",
    ),
    "misfit": (
        "poor fit: the points do not follow the fitted law, as under a hard ceiling",
        "use the points, not the law; look for a shared limit",
    ),
    "at_bound": ("a fitted parameter ended at a bound of its range", "measure more rank counts"),
    "extrapolated_peak": (
        "the peak is extrapolated beyond the measured rank counts",
        "measure at the peak",
    ),
    "outlier": ("one rank count is far off a fit to the others", "measure that rank count again"),
    "few_points": ("few rank counts for the parameters of the law", "measure at least 6 rank counts"),
    "too_few_points": ("too few rank counts for any scaling law", "measure at least 3 rank counts, 4 for USL"),
    "unproven": ("the same-work check was switched off", "set verify_steps above 0"),
}


def remedy(flag: str) -> str:
    """What to do about a flag; empty for an unknown one."""
    return FLAG_MEANINGS.get(flag, ("", ""))[1]


def explain_flag(flag: str) -> str:
    """The meaning of a flag and its remedy, in one line; the flag itself where it is unknown."""
    meaning, action = FLAG_MEANINGS.get(flag, ("", ""))
    return f"{meaning}; {action}" if meaning else flag


MAX_STEAL_SHARE = 0.02
MAX_FOREIGN_SHARE = 0.1
MAX_HOST_CLOCK_CHANGE = 0.1
MAX_GPU_CLOCK_CHANGE = 0.05
MAX_THROTTLED_SHARE = 0.01
MAX_SWAP_BYTES_PER_S = 2**20


def find_conditions(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry]) -> tuple[Condition, ...]:
    """The conditions on the nodes during the measured window (processes on GPUs: before and after it)."""
    conditions: list[Condition] = []
    for node in nodes:
        view = TelemetryWindow(node)
        if view.window_s <= 0:
            continue
        used = gpus_of(node, ranks)
        conditions += _host_conditions(view, [rank for rank in ranks if rank.host == node.host])
        conditions += _foreign_gpu_processes(node, used)
        for device in used:
            conditions += _gpu_conditions(view, device)
    return tuple(conditions)


def _host_conditions(view: TelemetryWindow, ranks: Sequence[RankRecord]) -> Iterator[Condition]:
    host, seconds = view.node.host, view.window_s
    stolen = view.growth(HOST, "cpu_steal_s") / seconds
    cores = view.values_in_window(HOST, "cores")
    core_count = max(cores, default=float(len({core for rank in ranks for core in rank.cores}) or 1))
    if stolen > MAX_STEAL_SHARE * core_count:
        yield Condition(name="cpu_steal", seen=f"{host}: the hypervisor took {stolen:.2f} of {core_count:.0f} cores")
    foreign = (view.growth(HOST, "cpu_busy_s") - view.growth(HOST, "job_cpu_s")) / seconds
    known = view.values_in_window(HOST, "cpu_busy_s") and view.values_in_window(HOST, "job_cpu_s")
    if known and foreign > MAX_FOREIGN_SHARE * core_count:
        yield Condition(
            name="host_load", seen=f"{host}: other processes kept {foreign:.2f} of {core_count:.0f} cores busy"
        )
    yield from _clock_changed(view, HOST, "cpu_frequency_hz", MAX_HOST_CLOCK_CHANGE, "cpu_clock_moved", host)
    swapped = view.growth(HOST, "swapped_bytes")
    if swapped > 0:
        rate = swapped / seconds
        description = f"{host}: {swapped / 2**20:.1f} MiB were swapped in or out"
        yield Condition(name="swapping", seen=description, serious=rate > MAX_SWAP_BYTES_PER_S)


def _foreign_gpu_processes(node: NodeTelemetry, used: Sequence[str]) -> Iterator[Condition]:
    parents = {device.part_of for device in node.devices if device.id in used and device.part_of}
    others = [process for process in node.processes if process.device in used or process.device in parents]
    if others:
        named = ", ".join(f"{process.pid}{f' ({process.name})' if process.name else ''}" for process in others[:3])
        description = f"{node.host}: other processes computed on the GPUs: {named}"
        yield Condition(name="foreign_gpu_process", seen=description, serious=True)


def _gpu_conditions(view: TelemetryWindow, device: str) -> Iterator[Condition]:
    name = f"{view.node.host}, {device[:12]}"
    for counter, flag, cause in (
        ("thermal_throttled_s", "gpu_thermal_throttling", "slowed down by heat"),
        ("power_brake_s", "gpu_power_brake", "slowed down by its power supply"),
    ):
        share = view.growth(device, counter) / view.window_s
        if share > MAX_THROTTLED_SHARE:
            yield Condition(name=flag, seen=f"{name}: {cause} {share:.0%} of the time", serious=True)
    capped = view.growth(device, "power_capped_s") / view.window_s
    if capped > MAX_THROTTLED_SHARE:
        yield Condition(name="gpu_power_capped", seen=f"{name}: at its power limit {capped:.0%} of the time")
    for counter, flag, what in (
        ("xid_errors", "gpu_xid", "Xid errors"),
        ("double_bit_errors", "gpu_memory_errors", "double-bit memory errors"),
    ):
        count = _counter_increase(view, device, counter)
        if count:
            yield Condition(name=flag, seen=f"{name}: {count:.0f} {what}", serious=True)
    yield from _clock_changed(view, device, "sm_clock_hz", MAX_GPU_CLOCK_CHANGE, "gpu_clock_moved", name)


def _counter_increase(view: TelemetryWindow, device: str, counter: str) -> float:
    """The increase of an event counter from the sample before the window to the sample after it."""
    series = view.series(device, counter)
    known = [value for value in series.values if value is not None] if series else []
    return known[-1] - known[0] if known else 0.0


def _clock_changed(
    view: TelemetryWindow, device: str, name: str, share: float, flag: str, location: str
) -> Iterator[Condition]:
    clocks = view.values_in_window(device, name)
    if clocks and min(clocks) < (1 - share) * max(clocks):
        description = f"{location}: the clock varied between {min(clocks) / 1e9:.2f} and {max(clocks) / 1e9:.2f} GHz"
        yield Condition(name=flag, seen=description)


def cell_flags(
    case: Case,
    good: Sequence[Trial],
    baseline: Case | None,
    proof: SameWork | None,
    machinery: str | None,
    link: Link | None,
) -> tuple[str, ...]:
    """The flags of a cell: those of its case, and what its trials add.

    Args:
        case: of the cell.
        good: its successful trials.
        baseline: the case that its speed-up starts from.
        proof: the same-work verdict that counts for the cell.
        machinery: how its backend's implementation differs from the others'.
        link: the slowest links that joined its ranks.
    """
    extra = {
        "stand_in_data": case.data is not None and case.data.stands_for is not None,
        "other_machinery": machinery is not None,
        "no_baseline": baseline is not None and baseline.ranks > 1 and not is_collective(good),
        "few_trials": len(good) < MIN_TRIALS,
        "loose_tolerance": proof is not None and (proof.tolerance or 0) > FLOAT32_TOLERANCE.value,
        "unproven": proof is not None and proof.verdict == "unproven",
        "slow_links": link is not None and link.achieved_bytes_s < FULL_RATE_SHARE * (link.wanted_bytes_s or 0),
        "never_settled": any(record.settled is False for trial in good for record in trial.ranks),
    }
    return (*case.flags, *(name for name, holds in extra.items() if holds))


def is_collective(trials: Sequence[Trial]) -> bool:
    """Whether the trials measured a collective alone; ``False`` without any."""
    return bool(trials) and trials[0].ranks[0].kind == "collective"
