"""The conditions that may disturb a trial: other processes' work, heat, hardware faults, swapping, shared machines.

A serious condition makes the trial ``invalid``: its number would not be of the case. What each one means, and what to
do about it, is in :data:`reports.analysis.flags.FLAG_MEANINGS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.core.case import REPLAY_PREFIX
from bench.core.records import Condition, RankRecord
from bench.core.telemetry import HOST, LIVE, NodeTelemetry
from reports.analysis import formatting
from reports.analysis.gpu_processes import foreign_gpu_processes
from reports.analysis.telemetry import gpus_in_use, node_labels, ranks_by_node
from reports.analysis.telemetry_window import TelemetryWindow

MAX_STEAL_SHARE = 0.02
MAX_FOREIGN_SHARE = 0.1
MAX_FOREIGN_CORES = 0.5
"""Where ranks use every core, one busy process of others makes all of their threads wait for one."""
MAX_HOST_CLOCK_CHANGE = 0.1
MAX_GPU_CLOCK_CHANGE = 0.05
MAX_THROTTLED_SHARE = 0.01
MAX_CAPPED_SHARE = 0.01
"""Of the window at the power limit, up to which a clock that moved has another cause."""
MAX_THROTTLED_PERIODS = 0.01
"""Of the periods of a CPU quota."""
MAX_SWAP_BYTES_PER_S = 2**20
DISTURBANCES = ("host_load", "cpu_steal", "throttled", "cpu_clock_moved", "gpu_clock_moved")
"""Those that make the trials of a case differ from each other; the first one that holds is named."""
MAY_DISTURB = frozenset((*DISTURBANCES, "shared_machine", "not_sampled"))
"""Those by which a trial may be slower than the next one of its case, or nobody knows."""


def find_conditions(ranks: Sequence[RankRecord], nodes: Sequence[NodeTelemetry]) -> tuple[Condition, ...]:
    """The conditions on the nodes during the measured window (processes on GPUs: before and after it)."""
    conditions: list[Condition] = []
    for node, name, here in zip(nodes, node_labels(nodes), ranks_by_node(ranks, nodes), strict=True):
        view = TelemetryWindow(node)
        if node.source != LIVE:
            recording = node.source.removeprefix(REPLAY_PREFIX)
            conditions.append(Condition(name="replayed", seen=f"{name}: its readings come from {recording}"))
        if node.incomplete:
            # What disturbed the trial before or after is known nevertheless.
            conditions.append(Condition(name="not_sampled", seen=f"{name}: {node.incomplete}"))
        if view.window_s <= 0:
            continue
        used = gpus_in_use(node, here)
        conditions += _host_conditions(view, name, here, _ranks_beside(node, here, ranks))
        conditions += foreign_gpu_processes(node, name, used, here)
        for device in used:
            conditions += _gpu_conditions(view, f"{name}, {device[:12]}", device)
    return (*conditions, *_shared_cores(ranks))


def _shared_cores(ranks: Sequence[RankRecord]) -> Iterator[Condition]:
    """Nodes that are one machine, as pods may be: each assigns the machine's cores from the first one on."""
    owners: dict[tuple[str, int], RankRecord] = {}
    for rank in ranks:
        for core in rank.planned_cores if rank.boot_id else ():
            other = owners.setdefault((rank.boot_id or "", core), rank)
            if other.node != rank.node:
                nodes = f"nodes {other.node} and {rank.node} are one machine"
                seen = f"{nodes}: ranks {other.rank} and {rank.rank} were pinned to its core {core}"
                yield Condition(name="shared_cores", seen=seen)
                return


def missing_measurements(ranks: Sequence[RankRecord], ended: str | None = None) -> tuple[Condition, ...]:
    """What the ranks could not measure after their windows.

    Args:
        ranks: The records of all ranks.
        ended: Why the trial ended before they came to the end of it; ``None``: it did not.
    """
    causes = [] if ended is None else [f"after the measured window: {ended}"]
    names = dict.fromkeys(name for rank in ranks for name in rank.missing)
    reasons = (f"{name}: {missing_reason(ranks, name)}" for name in names)
    return tuple(Condition(name="not_measured", seen=text) for text in (*causes, *reasons))


def missing_reason(ranks: Sequence[RankRecord], name: str) -> str | None:
    """Why a measurement after the window is missing: what the rank says on which the first one failed."""
    lacking = [rank for rank in ranks if name in rank.missing]
    first = min(lacking, key=lambda rank: math.inf if rank.failed_at is None else rank.failed_at, default=None)
    return None if first is None else f"rank {first.rank}: {first.missing[name]}"


def _ranks_beside(node: NodeTelemetry, here: Sequence[RankRecord], ranks: Sequence[RankRecord]) -> list[RankRecord]:
    """The ranks of other nodes that are on the same machine, on the cores of the ranks of this node: in a container
    beside it."""
    cores = {core for rank in here for core in rank.cores}
    return [
        rank
        for rank in ranks
        if rank not in here and node.boot_id is not None and rank.boot_id == node.boot_id and cores & set(rank.cores)
    ]


def _host_conditions(
    view: TelemetryWindow, host: str, ranks: Sequence[RankRecord], beside: Sequence[RankRecord]
) -> Iterator[Condition]:
    seconds = view.window_s
    stolen = view.growth(HOST, "cpu_steal_s") / seconds
    cores = view.values_in_window(HOST, "cores")
    core_count = max(cores, default=float(len({core for rank in ranks for core in rank.cores}) or 1))
    if stolen > MAX_STEAL_SHARE * core_count:
        yield Condition(name="cpu_steal", seen=f"{host}: the hypervisor took {stolen:.2f} of {core_count:.0f} cores")
    yield from _throttled(view, host)
    # Ranks that mpirun or srun started are no descendants of what started the sampler: they know their own time.
    own_s = max(view.growth(HOST, "job_cpu_s"), _processor_time(ranks)) + _processor_time(beside)
    foreign = (view.growth(HOST, "cpu_busy_s") - own_s) / seconds
    known = view.values_in_window(HOST, "cpu_busy_s") and view.values_in_window(HOST, "job_cpu_s")
    free_cores = core_count - len({core for rank in ranks for core in rank.cores})
    if known and foreign > min(MAX_FOREIGN_SHARE * core_count, free_cores + MAX_FOREIGN_CORES):
        yield Condition(
            name="host_load", seen=f"{host}: other processes kept {foreign:.2f} of {core_count:.0f} cores busy"
        )
    yield from _clock_changed(view, HOST, "cpu_frequency_hz", MAX_HOST_CLOCK_CHANGE, "cpu_clock_moved", host)
    swapped = view.growth(HOST, "swapped_bytes")
    if swapped > 0:
        rate = swapped / seconds
        description = f"{host}: {swapped / 2**20:.1f} MiB were swapped in or out"
        yield Condition(name="swapping", seen=description, serious=rate > MAX_SWAP_BYTES_PER_S)


def _processor_time(ranks: Sequence[RankRecord]) -> float:
    """Of the processes of the ranks in their windows, in seconds."""
    return sum(rank.window.cpu_s for rank in ranks if rank.window is not None)


def _throttled(view: TelemetryWindow, host: str) -> Iterator[Condition]:
    throttled, periods = view.growth(HOST, "cpu_throttled_periods"), view.growth(HOST, "cpu_periods")
    if periods and throttled > MAX_THROTTLED_PERIODS * periods:
        quota = next(iter(view.values_in_window(HOST, "cpu_quota_cores")), None)
        limit = "" if quota is None else f" of {quota:g} cores"
        description = f"{host}: the CPU quota{limit} was used up in {throttled:.0f} of {periods:.0f} periods"
        yield Condition(name="throttled", seen=description)


def _gpu_conditions(view: TelemetryWindow, name: str, device: str) -> Iterator[Condition]:
    for counter, flag, cause in (
        ("thermal_throttled_s", "gpu_thermal_throttling", "slowed down by heat"),
        ("power_brake_s", "gpu_power_brake", "slowed down by its power supply"),
    ):
        share = view.growth(device, counter) / view.window_s
        if share > MAX_THROTTLED_SHARE:
            yield Condition(name=flag, seen=f"{name}: {cause} {formatting.share(share)} of the time", serious=True)
    for counter, flag, what in (
        ("xid_errors", "gpu_xid", "Xid errors"),
        ("double_bit_errors", "gpu_memory_errors", "double-bit memory errors"),
    ):
        count = _counter_increase(view, device, counter)
        if count:
            yield Condition(name=flag, seen=f"{name}: {count:.0f} {what}", serious=True)
    # At its power limit, where a GPU under full load is by design, its clock follows the load: a reading says how long.
    if view.growth(device, "power_capped_s") / view.window_s <= MAX_CAPPED_SHARE:
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
