"""The options of ``--site kubernetes``, validated before they are used, and its time limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from harness.sites.base.contract import SiteOptions
from harness.sites.base.remote import MARGIN_S

DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
LABEL_KEY = rf"({DNS_SUBDOMAIN}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{{0,61}}[A-Za-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
TAINT_EFFECT = "NoSchedule|PreferNoSchedule|NoExecute"
QUANTITY = r"^[1-9]\d*(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"

SELECTOR = re.compile(rf"(?P<key>{LABEL_KEY})=(?P<value>{LABEL_VALUE})")
TOLERATION = re.compile(rf"(?P<key>{LABEL_KEY})(=(?P<value>{LABEL_VALUE}))?:(?P<effect>{TAINT_EFFECT})")
SEPARATOR = re.compile(r"[;,]")


@dataclass(frozen=True)
class KubernetesTimeouts:
    """How long the cluster's API and the pods may take, in seconds."""

    connect_s: float = 5.0
    read_s: float = 30.0
    attempts: int = 3
    """How often a request is sent whose failure may pass."""
    retry_pause_s: float = 1.0
    """Between these attempts."""
    poll_s: float = 5.0
    """The pods are listed at least this often."""
    debounce_s: float = 0.2
    """Several changes of the pods within this time are handled together."""
    exit_grace_s: float = 15.0
    """How long the other pods may run on after one has failed: they notice, and report it."""
    report_s: float = MARGIN_S
    """How long the pods may take to report, after a trial's own time."""
    unreachable_s: float = 120.0
    """How long the API may be out of reach before the trial is given up."""


class KubernetesOptions(SiteOptions):
    """Lists are one value, separated by commas, or by semicolons where a shell quotes them."""

    namespace: str | None = Field(
        None, pattern=rf"^{DNS_LABEL}$", description="namespace of the trials; default: the context's own"
    )
    context: str | None = Field(
        None, pattern=r"^[\w.@:/+][\w.@:/+-]*$", description="of the kubeconfig; default: the current one"
    )
    image: str = Field(
        "scaling-harness:latest",
        pattern=r"^[a-zA-Z0-9][\w.:/@-]*$",
        description="of docker/Dockerfile",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="of the image")
    gpus: int | None = Field(None, ge=0, description="nvidia.com/gpu of a pod; default: one for each rank on cuda")
    cpus: int | None = Field(None, ge=1, description="cores of a pod; default: the namespace's")
    memory: str | None = Field(None, pattern=QUANTITY, description="memory of a pod, for example 8Gi")
    shm_size: str = Field("1Gi", pattern=QUANTITY, description="size of /dev/shm, part of the pod's memory")
    node_selector: str = Field("", description="labels of the nodes: key=value,key=value")
    tolerations: str = Field("", description="taints to tolerate: key=value:Effect,key:Effect")
    spread: Literal["required", "preferred", "none"] = Field("required", description="a node for each pod")
    service_account: str | None = Field(None, pattern=rf"^{DNS_SUBDOMAIN}$", description="service account of the pods")
    python: str = Field("python", pattern=r"^[\w./][\w./-]*$", description="Python interpreter in the image")
    interface: str | None = Field(None, pattern=r"^\w[\w.:@-]{0,14}$", description="network interface of the pods")
    pack: bool = Field(True, description="one job for the trials of a round that need the same pods")
    queue_timeout_s: float = Field(600.0, gt=0, description="how long pods may wait for a node and their image")

    @field_validator("node_selector")
    @classmethod
    def _check_node_selector(cls, text: str) -> str:
        _parse_list(SELECTOR, text, "key=value")
        return text

    @field_validator("tolerations")
    @classmethod
    def _check_tolerations(cls, text: str) -> str:
        _parse_list(TOLERATION, text, "key=value:Effect or key:Effect (NoSchedule, PreferNoSchedule, NoExecute)")
        return text

    @property
    def node_labels(self) -> dict[str, str]:
        """``nodeSelector``."""
        return {match["key"]: match["value"] for match in _parse_list(SELECTOR, self.node_selector, "")}

    @property
    def parsed_tolerations(self) -> list[dict[str, str]]:
        """``tolerations``."""
        return [
            {
                "key": match["key"],
                "operator": "Exists" if match["value"] is None else "Equal",
                **({} if match["value"] is None else {"value": match["value"]}),
                "effect": match["effect"],
            }
            for match in _parse_list(TOLERATION, self.tolerations, "")
        ]


def _parse_list(pattern: re.Pattern[str], text: str, expected: str) -> list[re.Match[str]]:
    """The matches of a list's parts. Raises ``ValueError`` that names the first part that is not ``expected``."""
    matches = []
    for part in filter(None, (part.strip() for part in SEPARATOR.split(text))):
        match = pattern.fullmatch(part)
        if match is None:
            raise ValueError(f"'{part}' is not {expected}")
        matches.append(match)
    return matches
