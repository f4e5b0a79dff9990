"""What a pod's status says, as one value (pure): where it stands, and, where it can't go on, why.

Reads what an API server sends (v1 Pod as JSON); which reasons end a pod is from Kubernetes' documentation on pods'
lifecycle and on disruptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.sites.kubernetes.manifests import COMPLETION_INDEX

PodPhase = Literal["pending", "running", "done", "failed", "lost"]
TrialPhase = Literal["queued", "hopeless", "running", "breaking", "over"]

CANNOT_START_REASONS = (
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
"""Why a container waits that will not start by itself. A first ErrImagePull may pass."""
UNREACHABLE_REASONS = ("NodeLost", "NodeStatusUnknown")
KILLED_EXIT_CODE = 137
"""128 + SIGKILL."""


@dataclass(frozen=True)
class Pod:
    """One pod of a trial."""

    node: int
    """Its completion index: the node of the trial."""
    name: str
    phase: PodPhase
    why: str = ""
    """Why it waits, failed, or is lost."""
    cannot_start: bool = False
    """It waits in vain."""
    host: str = ""
    """The cluster's node that it is on; empty before it has one."""

    @property
    def over(self) -> bool:
        return self.phase in ("done", "failed", "lost")

    @property
    def ended_badly(self) -> bool:
        return self.phase in ("failed", "lost")


def read_pod(found: Mapping[str, Any]) -> Pod:
    """Where a pod stands."""
    metadata, status = found["metadata"], found.get("status") or {}
    index = (metadata.get("annotations") or {}).get(COMPLETION_INDEX) or (metadata.get("labels") or {}).get(
        COMPLETION_INDEX, "0"
    )
    here = Pod(
        node=int(index),
        name=metadata["name"],
        phase="pending",
        host=found.get("spec", {}).get("nodeName") or "",
    )
    disruption = _condition(status, "DisruptionTarget")
    if status.get("reason") in UNREACHABLE_REASONS or status.get("phase") == "Unknown":
        return replace(here, phase="lost", why=_with_message("its node is out of reach", status))
    if status.get("phase") == "Failed" and status.get("reason"):
        # Evicted, Preempting, DeadlineExceeded, NodeShutdown, UnexpectedAdmissionError, …
        return replace(here, phase="lost", why=_with_message(str(status["reason"]), status))
    if disruption is not None and (status.get("phase") == "Failed" or metadata.get("deletionTimestamp")):
        return replace(here, phase="lost", why=_with_message(str(disruption.get("reason") or "disrupted"), disruption))
    if status.get("phase") == "Succeeded":
        return replace(here, phase="done")
    if status.get("phase") == "Failed":
        return replace(here, phase="failed", why=_termination_reason(status))
    if status.get("phase") == "Running":
        return replace(here, phase="running")
    why, cannot_start = _waiting_reason(status)
    return replace(here, why=why, cannot_start=cannot_start)


def deleted_pod(pod: Pod) -> Pod:
    """A pod that was deleted, and not by us."""
    return pod if pod.over else replace(pod, phase="lost", why="its pod was deleted")


def trial_phase(pods: Collection[Pod], nodes: int) -> TrialPhase:
    """Where a trial of ``nodes`` pods stands: some of them may not have been made yet."""
    if any(pod.cannot_start for pod in pods):
        return "hopeless"
    if len(pods) == nodes and all(pod.over for pod in pods):
        return "over"
    if any(pod.ended_badly for pod in pods):
        return "breaking"
    return "running" if len(pods) == nodes and all(pod.phase != "pending" for pod in pods) else "queued"


def pending_reason(pods: Collection[Pod], nodes: int) -> str:
    """Why not all pods have begun: the first of them that says so."""
    waiting = sorted((pod for pod in pods if pod.phase == "pending"), key=lambda pod: not (pod.cannot_start or pod.why))
    if waiting:
        return f"pod {waiting[0].node} of {nodes} waits: {waiting[0].why or 'nothing is known of why'}"
    return f"{len(pods)} of {nodes} pods were made"


def _termination_reason(status: Mapping[str, Any]) -> str:
    """What the container's end says beyond its own words; empty where it ended by itself."""
    for one in status.get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return "OOMKilled: it used more memory than it was given; raise --set kubernetes.memory"
        if ended.get("exitCode") == KILLED_EXIT_CODE or ended.get("signal"):
            return f"its container was killed by signal {ended.get('signal') or KILLED_EXIT_CODE - 128}"
        if ended.get("exitCode"):
            return _with_message(f"its container ended with status {ended['exitCode']}", ended)
    return ""


def _waiting_reason(status: Mapping[str, Any]) -> tuple[str, bool]:
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return _with_message(f"{reason} ({one.get('image', 'image')})", waiting), reason in CANNOT_START_REASONS
    scheduled = _condition(status, "PodScheduled", wanted="False")
    if scheduled is not None:
        return _with_message(str(scheduled.get("reason", "not scheduled")), scheduled), False
    return "", False


def _condition(status: Mapping[str, Any], kind: str, wanted: str = "True") -> Mapping[str, Any] | None:
    found = (one for one in status.get("conditions") or () if one.get("type") == kind and one.get("status") == wanted)
    return next(found, None)


def _with_message(reason: str, words: Mapping[str, Any]) -> str:
    message = " ".join(str(words.get("message") or "").split())
    return f"{reason}: {message}" if message else reason
