"""A machine as it describes itself. How it is read: :mod:`bench.host.machine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.core.bounds import Bytes, Count, RankNumber, Work
from bench.core.frozen_model import FrozenModel


class MachineFacts(FrozenModel):
    """What may make two measurements on two machines differ: hardware, system and installed versions."""

    host: str
    system: str
    cpu: str
    cores: Count
    """The cores whose time a job may use: :attr:`cpu_quota_cores` rounded down, where it has a quota."""
    memory_bytes: Bytes
    gpus: tuple[str, ...]
    python: str
    packages: dict[str, str]
    cpu_quota_cores: Work | None = None
    """The CPU quota of its control groups, in cores; ``None``: there is none, or the system does not say."""

    @property
    def quota_note(self) -> str:
        """`` (CPU quota of 1.5)``, or nothing."""
        return "" if self.cpu_quota_cores is None else f" (CPU quota of {self.cpu_quota_cores:g})"


class NodeFacts(MachineFacts):
    """The machine of one node while a trial ran on it."""

    node: RankNumber
    boot_id: str | None = None
    """What the kernel calls the time since it started (:class:`NodeIdentity`); ``None`` where it does not say."""
    core_numbers: tuple[Count, ...] = ()
    """The cores that it may use, as the scheduler numbers them; empty where they are unknown."""
    sources: str | None = None
    """The digest of the package ``bench`` there (:mod:`bench.host.running_code`); ``None`` in old records."""

    @property
    def identity(self) -> NodeIdentity:
        return NodeIdentity(self.host, self.node, self.boot_id)

    @property
    def host_and_boot(self) -> tuple[str, str | None]:
        """The same for all processes that see the same files and the same clock."""
        return self.host, self.boot_id


class NodeIdentity(NamedTuple):
    """Which node of a trial a process was on.

    A host name says little: machines that are copies of one image share it. Each start of a kernel has a boot id, and
    a monotonic clock of its own. Containers of one machine share both, and differ in the number of their node.
    """

    host: str
    number: int | None = None
    """The number of the node in the trial; ``None``: it was not recorded."""
    boot_id: str | None = None


def find_node(process: NodeIdentity, nodes: Sequence[NodeIdentity]) -> int | None:
    """The position among ``nodes`` of the one that a process was on; ``None`` where it was on none of them (pure).

    The boot id decides, then the number, then the host name; records of before there were boot ids have the name alone.
    """
    candidates = [at for at, node in enumerate(nodes) if process.boot_id and node.boot_id == process.boot_id]
    if not candidates:
        unknown = [at for at, node in enumerate(nodes) if not (process.boot_id and node.boot_id)]
        candidates = [at for at in unknown if nodes[at].host == process.host]
    numbered = [at for at in candidates if process.number is not None and nodes[at].number == process.number]
    named = [at for at in candidates if nodes[at].host == process.host]
    # Another number and another name on one machine is another container, whose own node is not among these.
    unnumbered = [at for at in candidates if process.number is None or nodes[at].number is None]
    return next(iter(numbered or named or unnumbered), None)
