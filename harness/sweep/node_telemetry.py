"""What was sampled on each node of a trial, cut to the measured window of the ranks there; or why nothing was."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import SAMPLER_ROLE, Case
from bench.core.machine import NodeIdentity, find_node
from bench.core.records import RankRecord
from bench.core.telemetry import HOST, LIVE, Device, Header, NodeTelemetry, Recording, cut_to_window
from harness.sites.base.contract import TrialResult

NO_RECORDING = "the sampler left no recording"


def cut_telemetry(result: TrialResult, case: Case) -> tuple[NodeTelemetry, ...]:
    """The telemetry of each node that ranks measured a window on (pure).

    A node whose sampler has failed is among them, without samples and with the reason. A recording of a node without
    such ranks is left out: no clock relates it to a window.
    """
    nodes = [recording.header.identity for recording in result.recordings]
    ranks_of: dict[int | None, list[RankRecord]] = {}
    for rank in result.ranks:
        if rank.window is not None:
            ranks_of.setdefault(find_node(rank.identity, nodes), []).append(rank)
    cut = [
        _cut(recording, ranks_of[number]) for number, recording in enumerate(result.recordings) if number in ranks_of
    ]
    if case.telemetry != "off":
        unsampled: dict[NodeIdentity, list[RankRecord]] = {}
        for rank in ranks_of.get(None, ()):
            unsampled.setdefault(rank.identity, []).append(rank)
        cut += [_without_samples(ranks, result) for ranks in unsampled.values()]
    return tuple(cut)


def _cut(recording: Recording, ranks: Sequence[RankRecord]) -> NodeTelemetry:
    windows = [rank.window for rank in ranks if rank.window is not None]
    return cut_to_window(
        recording, min(window.began_s for window in windows), max(window.ended_s for window in windows)
    )


def _without_samples(ranks: Sequence[RankRecord], result: TrialResult) -> NodeTelemetry:
    """Of the node of ``ranks``, whose sampler left no recording; its failure says why, if it reported one."""
    errors = [
        f"the sampler failed: {failure.error}" for failure in result.failures if failure.role == SAMPLER_ROLE.name
    ]
    header = Header(
        host=ranks[0].host,
        source=LIVE,
        interval_s=0.0,
        devices=(Device(id=HOST, name=ranks[0].host),),
        problems=tuple(dict.fromkeys(errors)) or (NO_RECORDING,),
        node=ranks[0].node,
        boot_id=ranks[0].boot_id,
    )
    return _cut(Recording(header, ()), ranks)
