"""machine"""

from __future__ import annotations

from bench.core.frozen_model import FrozenModel


class MachineFacts(FrozenModel):
    """A machine as it describes itself: what may make two measurements differ."""

    host: str
    system: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    python: str
    packages: dict[str, str]


class NodeFacts(MachineFacts):
    """A node beyond the harness's own machine, when a trial ran there."""

    node: int
