"""What was sampled on each node of a trial, cut to the measured window of the ranks there; or why nothing was."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import SAMPLER_ROLE, Case
from bench.core.machine import NodeIdentity, find_node
from bench.core.recording import Recording, cut_to_window, longest_gap_s
from bench.core.records import RankRecord
from bench.core.telemetry import HOST, LIVE, Device, Header, NodeTelemetry
from harness.sites.base.contract import TrialResult

NO_RECORDING = "the sampler left no recording"
MAX_GAP_S = 3.0
"""Shorter gaps between samples are the scheduling of a busy machine."""
MAX_GAP_INTERVALS = 10


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
        _cut(recording, ranks_of[number], result)
        for number, recording in enumerate(result.recordings)
        if number in ranks_of
    ]
    if case.telemetry != "off":
        unsampled: dict[NodeIdentity, list[RankRecord]] = {}
        for rank in ranks_of.get(None, ()):
            unsampled.setdefault(rank.identity, []).append(rank)
        cut += [_without_samples(ranks, result) for ranks in unsampled.values()]
    return tuple(cut)


def _cut(recording: Recording, ranks: Sequence[RankRecord], result: TrialResult) -> NodeTelemetry:
    began_s, ended_s = _span(ranks)
    errors = _sampler_errors(result, recording.header.node)
    return cut_to_window(recording, began_s, ended_s, _incomplete_reason(recording, began_s, ended_s, errors))


def _span(ranks: Sequence[RankRecord]) -> tuple[float, float]:
    """When the first window of the ranks began, and the last one ended."""
    windows = [rank.window for rank in ranks if rank.window is not None]
    return min(window.began_s for window in windows), max(window.ended_s for window in windows)


def _incomplete_reason(recording: Recording, began_s: float, ended_s: float, errors: Sequence[str]) -> str:
    """Why a recording does not cover a window; empty where it does.

    Args:
        recording: Of one node.
        began_s: The window, by the node's clock.
        ended_s: The window, by the node's clock.
        errors: What became of the sampler before the ranks ended.
    """
    last_s = max((tick.at_s for tick in recording.ticks), default=began_s)
    # The processes on GPUs are listed again when the ranks have ended.
    lists_missing = any(device.id != HOST for device in recording.header.devices)
    if errors and (last_s < ended_s or lists_missing):
        return errors[0]
    gap_s = longest_gap_s(recording, began_s, ended_s)
    if gap_s > max(MAX_GAP_S, MAX_GAP_INTERVALS * recording.header.interval_s):
        return f"the sampler took no samples for {gap_s:.1f} s of a window of {ended_s - began_s:.1f} s"
    return ""


def _sampler_errors(result: TrialResult, node: int | None = None) -> list[str]:
    """What became of the samplers that failed: of all nodes, or of one."""
    return [
        f"the sampler failed: {failure.error}"
        for failure in result.failures
        if failure.role == SAMPLER_ROLE.name and node in (None, failure.rank)
    ]


def _without_samples(ranks: Sequence[RankRecord], result: TrialResult) -> NodeTelemetry:
    """Of the node of ``ranks``, whose sampler left no recording; its failure says why, if it reported one."""
    reasons = tuple(dict.fromkeys(_sampler_errors(result))) or (NO_RECORDING,)
    header = Header(
        host=ranks[0].host,
        source=LIVE,
        interval_s=0.0,
        devices=(Device(id=HOST, name=ranks[0].host),),
        problems=reasons,
        node=ranks[0].node,
        boot_id=ranks[0].boot_id,
    )
    return cut_to_window(Recording(header, ()), *_span(ranks), reasons[0])
