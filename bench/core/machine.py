"""A machine as it describes itself. How it is read: :mod:`bench.host.machine`."""

from __future__ import annotations

from bench.core.frozen_model import FrozenModel


class MachineFacts(FrozenModel):
    """What may make two measurements on two machines differ: hardware, system and installed versions."""

    host: str
    system: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    python: str
    packages: dict[str, str]


class NodeFacts(MachineFacts):
    """The machine of one node while a trial ran on it."""

    node: int
