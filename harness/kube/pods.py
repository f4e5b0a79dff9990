"""What a pod's status says, as one value (pure): where it stands, and, where it can't go on, why.

Reads what an API server sends (v1 Pod as JSON); which reasons end a pod is from Kubernetes' documentation on pods'
lifecycle and on disruptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.kube.manifests import INDEX

Phase = Literal["pending", "running", "done", "failed", "lost"]
Standing = Literal["queued", "hopeless", "running", "breaking", "over"]

HOPELESS = (
    "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError",
    "RunContainerError",
)  # fmt: skip
"""Why a container waits that will not start by itself. A first ErrImagePull may pass."""
UNREACHABLE = ("NodeLost", "NodeStatusUnknown")
TOLD_BY_SYSTEM = 137
"""128 + SIGKILL."""


@dataclass(frozen=True)
class Pod:
    """One pod of a trial."""

    node: int
    """Its completion index: the node of the trial."""
    name: str
    phase: Phase
    why: str = ""
    """Why it waits, failed, or is lost."""
    hopeless: bool = False
    """It waits in vain."""
    host: str = ""
    """The cluster's node that it is on; empty before it has one."""

    @property
    def over(self) -> bool:
        return self.phase in ("done", "failed", "lost")

    @property
    def badly(self) -> bool:
        return self.phase in ("failed", "lost")


def read_pod(found: Mapping[str, Any]) -> Pod:
    """Where a pod stands."""
    about, status = found["metadata"], found.get("status") or {}
    index = (about.get("annotations") or {}).get(INDEX) or (about.get("labels") or {}).get(INDEX, "0")
    here = Pod(
        node=int(index),
        name=about["name"],
        phase="pending",
        host=found.get("spec", {}).get("nodeName") or "",
    )
    disruption = _condition(status, "DisruptionTarget")
    if status.get("reason") in UNREACHABLE or status.get("phase") == "Unknown":
        return replace(here, phase="lost", why=_told("its node is out of reach", status))
    if status.get("phase") == "Failed" and status.get("reason"):
        # Evicted, Preempting, DeadlineExceeded, NodeShutdown, UnexpectedAdmissionError, …
        return replace(here, phase="lost", why=_told(str(status["reason"]), status))
    if disruption is not None and (status.get("phase") == "Failed" or about.get("deletionTimestamp")):
        return replace(here, phase="lost", why=_told(str(disruption.get("reason") or "disrupted"), disruption))
    if status.get("phase") == "Succeeded":
        return replace(here, phase="done")
    if status.get("phase") == "Failed":
        return replace(here, phase="failed", why=_how_it_ended(status))
    if status.get("phase") == "Running":
        return replace(here, phase="running")
    why, hopeless = _why_it_waits(status)
    return replace(here, why=why, hopeless=hopeless)


def gone(pod: Pod) -> Pod:
    """A pod that was deleted, and not by us."""
    return pod if pod.over else replace(pod, phase="lost", why="its pod was deleted")


def standing(pods: Collection[Pod], nodes: int) -> Standing:
    """Where a trial of ``nodes`` pods stands: some of them may not have been made yet."""
    if any(pod.hopeless for pod in pods):
        return "hopeless"
    if len(pods) == nodes and all(pod.over for pod in pods):
        return "over"
    if any(pod.badly for pod in pods):
        return "breaking"
    return "running" if len(pods) == nodes and all(pod.phase != "pending" for pod in pods) else "queued"


def waiting_for(pods: Collection[Pod], nodes: int) -> str:
    """Why not all pods have begun: the first of them that says so."""
    waiting = sorted((pod for pod in pods if pod.phase == "pending"), key=lambda pod: not (pod.hopeless or pod.why))
    if waiting:
        return f"pod {waiting[0].node} of {nodes} waits: {waiting[0].why or 'nothing is known of why'}"
    return f"{len(pods)} of {nodes} pods were made"


def _how_it_ended(status: Mapping[str, Any]) -> str:
    """What the container's end says beyond its own words; empty where it ended by itself."""
    for one in status.get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return "OOMKilled: it used more memory than it was given; raise --set kubernetes.memory"
        if ended.get("exitCode") == TOLD_BY_SYSTEM or ended.get("signal"):
            return f"its container was killed by signal {ended.get('signal') or TOLD_BY_SYSTEM - 128}"
        if ended.get("exitCode"):
            return _told(f"its container ended with status {ended['exitCode']}", ended)
    return ""


def _why_it_waits(status: Mapping[str, Any]) -> tuple[str, bool]:
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return _told(f"{reason} ({one.get('image', 'image')})", waiting), reason in HOPELESS
    scheduled = _condition(status, "PodScheduled", wanted="False")
    if scheduled is not None:
        return _told(str(scheduled.get("reason", "not scheduled")), scheduled), False
    return "", False


def _condition(status: Mapping[str, Any], kind: str, wanted: str = "True") -> Mapping[str, Any] | None:
    found = (one for one in status.get("conditions") or () if one.get("type") == kind and one.get("status") == wanted)
    return next(found, None)


def _told(reason: str, words: Mapping[str, Any]) -> str:
    message = " ".join(str(words.get("message") or "").split())
    return f"{reason}: {message}" if message else reason
