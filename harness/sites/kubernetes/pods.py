"""The state of a pod, and of a trial's pods together, from the v1 Pod documents that an API server sends (pure).

The reasons that end a pod are those of Kubernetes' documentation on the pod lifecycle and on disruptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.sites.kubernetes.manifests import COMPLETION_INDEX

PodPhase = Literal["pending", "running", "done", "failed", "lost"]
TrialPhase = Literal["queued", "cannot start", "running", "failing", "over"]

CANNOT_START_REASONS = (
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
"""Reasons of waiting containers that will not start by themselves. A first ErrImagePull may pass."""
UNREACHABLE_REASONS = ("NodeLost", "NodeStatusUnknown")
KILLED_EXIT_CODE = 137
"""128 + SIGKILL."""


@dataclass(frozen=True)
class Pod:
    """One pod of a trial."""

    node: int
    """Its completion index, which is the node of the trial."""
    name: str
    phase: PodPhase
    reason: str = ""
    """Why it waits, failed, or is lost."""
    cannot_start: bool = False
    """What it waits for will not happen by itself."""
    host: str = ""
    """The node of the cluster that it runs on; empty before it is scheduled."""

    @property
    def over(self) -> bool:
        return self.phase in ("done", "failed", "lost")

    @property
    def ended_badly(self) -> bool:
        return self.phase in ("failed", "lost")


def read_pod(document: Mapping[str, Any]) -> Pod:
    """A pod's state from its document."""
    metadata, status = document["metadata"], document.get("status") or {}
    index = (metadata.get("annotations") or {}).get(COMPLETION_INDEX) or (metadata.get("labels") or {}).get(
        COMPLETION_INDEX, "0"
    )
    here = Pod(
        node=int(index),
        name=metadata["name"],
        phase="pending",
        host=document.get("spec", {}).get("nodeName") or "",
    )
    disruption = _condition(status, "DisruptionTarget")
    if status.get("reason") in UNREACHABLE_REASONS or status.get("phase") == "Unknown":
        return replace(here, phase="lost", reason=_with_message("its node is unreachable", status))
    if status.get("phase") == "Failed" and status.get("reason"):
        # Evicted, Preempting, DeadlineExceeded, NodeShutdown, UnexpectedAdmissionError, …
        return replace(here, phase="lost", reason=_with_message(str(status["reason"]), status))
    if disruption is not None and (status.get("phase") == "Failed" or metadata.get("deletionTimestamp")):
        return replace(
            here, phase="lost", reason=_with_message(str(disruption.get("reason") or "disrupted"), disruption)
        )
    if status.get("phase") == "Succeeded":
        return replace(here, phase="done")
    if status.get("phase") == "Failed":
        return replace(here, phase="failed", reason=_termination_reason(status))
    if status.get("phase") == "Running":
        return replace(here, phase="running")
    reason, cannot_start = _waiting_reason(status)
    return replace(here, reason=reason, cannot_start=cannot_start)


def deleted_pod(pod: Pod) -> Pod:
    """A pod that somebody else has deleted."""
    return pod if pod.over else replace(pod, phase="lost", reason="its pod was deleted")


def trial_phase(pods: Collection[Pod], nodes: int) -> TrialPhase:
    """The phase of a trial of ``nodes`` pods, some of which may not have been created yet."""
    if any(pod.cannot_start for pod in pods):
        return "cannot start"
    if len(pods) == nodes and all(pod.over for pod in pods):
        return "over"
    if any(pod.ended_badly for pod in pods):
        return "failing"
    return "running" if len(pods) == nodes and all(pod.phase != "pending" for pod in pods) else "queued"


def pending_reason(pods: Collection[Pod], nodes: int) -> str:
    """Why not all pods have started, by the first of them with a known reason."""
    waiting = sorted(
        (pod for pod in pods if pod.phase == "pending"), key=lambda pod: not (pod.cannot_start or pod.reason)
    )
    if waiting:
        return f"pod {waiting[0].node} of {nodes} waits: {waiting[0].reason or 'for an unknown reason'}"
    return f"{len(pods)} of {nodes} pods were created"


def _termination_reason(status: Mapping[str, Any]) -> str:
    """Why the container ended; empty where it ended by itself."""
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return "OOMKilled: it used more memory than its limit; raise --set kubernetes.memory"
        if ended.get("exitCode") == KILLED_EXIT_CODE or ended.get("signal"):
            return f"its container was killed by signal {ended.get('signal') or KILLED_EXIT_CODE - 128}"
        if ended.get("exitCode"):
            return _with_message(f"its container ended with status {ended['exitCode']}", ended)
    return ""


def _waiting_reason(status: Mapping[str, Any]) -> tuple[str, bool]:
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return _with_message(
                f"{reason} ({container.get('image', 'image')})", waiting
            ), reason in CANNOT_START_REASONS
    scheduled = _condition(status, "PodScheduled", wanted="False")
    if scheduled is not None:
        return _with_message(str(scheduled.get("reason", "not scheduled")), scheduled), False
    return "", False


def _condition(status: Mapping[str, Any], kind: str, wanted: str = "True") -> Mapping[str, Any] | None:
    conditions = status.get("conditions") or ()
    return next((entry for entry in conditions if (entry.get("type"), entry.get("status")) == (kind, wanted)), None)


def _with_message(reason: str, entry: Mapping[str, Any]) -> str:
    message = " ".join(str(entry.get("message") or "").split())
    return f"{reason}: {message}" if message else reason
