"""What may be asked of a Kubernetes cluster: the knobs of ``--site kubernetes``, checked before they are used."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from bench.plugins.backend import Options

DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
LABEL_KEY = rf"({DNS_SUBDOMAIN}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{{0,61}}[A-Za-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
TAINT_EFFECT = "NoSchedule|PreferNoSchedule|NoExecute"
QUANTITY = r"^[1-9]\d*(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"

SELECTOR = re.compile(rf"(?P<key>{LABEL_KEY})=(?P<value>{LABEL_VALUE})")
TOLERATION = re.compile(rf"(?P<key>{LABEL_KEY})(=(?P<value>{LABEL_VALUE}))?:(?P<effect>{TAINT_EFFECT})")
SEPARATOR = re.compile(r"[;,]")


class KubernetesOptions(Options):
    """Lists are one value, separated by commas, or by semicolons where a shell quotes them."""

    namespace: str | None = Field(None, pattern=rf"^{DNS_LABEL}$", description="where to; default: the context's own")
    context: str | None = Field(None, pattern=r"^[\w.@:/+-]+$", description="which cluster of the kubeconfig")
    image: str = Field("scaling-harness:latest", pattern=r"^[a-zA-Z0-9][\w.:/@-]*$", description="of docker/Dockerfile")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="of the image")
    gpus: int | None = Field(None, ge=0, description="nvidia.com/gpu a pod; default: one for each rank on cuda")
    cpus: int | None = Field(None, ge=1, description="cores a pod is given; default: the namespace's")
    memory: str | None = Field(None, pattern=QUANTITY, description="memory a pod is given, for example 8Gi")
    shm_size: str = Field("1Gi", pattern=QUANTITY, description="size of /dev/shm, part of the pod's memory")
    node_selector: str = Field("", description="labels of the nodes: key=value,key=value")
    tolerations: str = Field("", description="taints to put up with: key=value:Effect,key:Effect")
    spread: Literal["required", "preferred", "none"] = Field("required", description="pods on nodes of their own")
    service_account: str | None = Field(None, pattern=rf"^{DNS_SUBDOMAIN}$", description="in whose name the pods run")
    python: str = Field("python", pattern=r"^[\w./-]+$", description="the image's interpreter")
    interface: str | None = Field(None, pattern=r"^[\w.:@-]{1,15}$", description="the pods' network interface")
    queue_timeout_s: float = Field(600.0, gt=0, description="how long pods may wait for a place and their image")

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
        return {found["key"]: found["value"] for found in _parse_list(SELECTOR, self.node_selector, "")}

    @property
    def parsed_tolerations(self) -> list[dict[str, str]]:
        """``tolerations``."""
        return [
            {
                "key": found["key"],
                "operator": "Exists" if found["value"] is None else "Equal",
                **({} if found["value"] is None else {"value": found["value"]}),
                "effect": found["effect"],
            }
            for found in _parse_list(TOLERATION, self.tolerations, "")
        ]


def _parse_list(pattern: re.Pattern[str], text: str, expected: str) -> list[re.Match[str]]:
    parts = [part.strip() for part in SEPARATOR.split(text) if part.strip()]
    found = [pattern.fullmatch(part) for part in parts]
    invalid = next((part for part, match in zip(parts, found, strict=True) if match is None), None)
    if invalid is not None:
        raise ValueError(f"'{invalid}' is not {expected}")
    return [match for match in found if match is not None]
