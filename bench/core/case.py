"""What is to be measured: a case with its options, the fault it may carry, the processes it takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.core.frozen_model import FrozenModel

Scalar = bool | int | float | str
Scaling = Literal["strong", "weak"]
Device = Literal["cpu", "cuda"]


class DataSource(FrozenModel):
    """Where a workload's samples come from, with the digest of what was read."""

    name: str
    digest: str
    path: str
    """The prepared copy that the ranks read."""
    stands_for: str | None = None
    """The name of the data this is a stand-in for, where it is one."""


FaultKind = Literal["kill", "stop", "raise", "slow", "oom", "exit"]


class Fault(FrozenModel):
    """Something that goes wrong on purpose on one rank; see :mod:`bench.rank.faults`."""

    kind: FaultKind
    rank: int
    step: int | None = None
    """Of the measured window, from 1; 0 is before the rank joins the others."""
    ms: float | None = None
    """``slow``: how much later each backward pass begins."""

    @property
    def label(self) -> str:
        """As it was asked for: ``slow:rank=1,ms=200``."""
        given = {"rank": self.rank, "step": self.step, "ms": self.ms}
        return f"{self.kind}:" + ",".join(f"{name}={value:g}" for name, value in given.items() if value is not None)


class Case(FrozenModel):
    """One measurement to make: a workload under a backend at a rank count.

    Options hold only what differs from the defaults, so that a new option with a default keeps old keys valid.
    """

    workload: str
    workload_options: dict[str, Scalar] = Field(default={})
    backend: str
    transport: str
    backend_options: dict[str, Scalar] = Field(default={})
    device: Device = "cpu"
    ranks: int
    ranks_per_node: int | None = None
    """How many ranks a full node holds: they fill one node after the other. ``None``: all are on one node."""
    site: str = "local"
    scaling: Scaling = "strong"
    batch: int
    """Samples a step: of all ranks under strong scaling, of each rank under weak scaling."""
    threads: int = 1
    seed: int = 0
    steps: int | None = None
    """Measured steps; ``None`` sizes the window by :attr:`window_s`."""
    window_s: float = 1.0
    precision: float | None = None
    """The window is stretched until its own mean is known this well, or it is three times as long."""
    warmup: int | None = None
    """Steps before the window; ``None`` warms up until step times have settled."""
    verify_steps: int = 4
    timeout_s: float = 120.0
    decompose: bool = True
    """Measure where the time of a step goes, after the window."""
    own_cost: bool = False
    """Measure what timing and sampling cost, after the window."""
    roofline: bool = False
    """Count the work of a step and measure the device's peak, at the very end."""
    affinity: Literal["cores", "none"] = "cores"
    """On CPUs: each rank gets as many cores of its own as it has threads, or may use all."""
    telemetry: str = "auto"
    """``auto``: the host, and GPUs where the ranks compute on them; ``always``: GPUs too; ``off``; ``replay:FILE``."""
    fault: Fault | None = None
    net: str | None = None
    """Each node of :attr:`ranks_per_node` is a network namespace (else each rank is), joined by links of this rate
    (:mod:`bench.host.links`); ``None``: all are on the loopback interface."""
    flags: tuple[str, ...] = ()
    data: DataSource | None = None
    """What was prepared for it: every rank of every trial reads this and nothing else."""
    label: str = ""
    """Which sweep it is from, where several are shown side by side; empty in what is stored."""

    @property
    def global_batch(self) -> int:
        return self.batch if self.scaling == "strong" else self.batch * self.ranks

    @property
    def local_batch(self) -> int:
        return self.global_batch // self.ranks

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.ranks_per_node) if self.ranks_per_node else 1

    @property
    def ranks_on_a_node(self) -> int:
        """How many each node really holds: one that is not full stands alone."""
        return min(self.ranks, self.ranks_per_node or self.ranks)

    @property
    def curve(self) -> str:
        """The key without the rank count: the points of one curve share it."""
        return _join_parts(
            self.workload + _format_options(self.workload_options),
            f"{self.backend}-{self.transport}" + _format_options(self.backend_options),
            self.scaling,
            f"batch={self.batch}",
            f"threads={self.threads}",
            self.device,
            f"seed={self.seed}",
            f"sweep={self.label}" if self.label else "",
            f"net={self.net}" if self.net else "",
            f"site={self.site}" if self.site != "local" else "",
            f"per-node={self.ranks_per_node}" if self.ranks_per_node else "",
        )

    @property
    def key(self) -> str:
        """Stable across time: what the case is, not how long it is measured."""
        return _join_parts(f"{self.curve}/ranks={self.ranks}", f"fault={self.fault.label}" if self.fault else "")


def _format_options(options: dict[str, Scalar]) -> str:
    return "[" + ",".join(f"{name}={options[name]}" for name in sorted(options)) + "]" if options else ""


def _join_parts(*parts: str) -> str:
    return "/".join(part for part in parts if part)


class Role(FrozenModel):
    """One kind of process that a case needs, as a value: who starts it is the site's business."""

    name: str
    count: int
    started_by: str | None = None
    """Name of the role whose process starts these; ``None``: the site starts them. See :func:`roles_to_start`."""
    fanout: Literal["each", "mpi"] = "each"
    """``each``: the site starts ``count`` processes; ``mpi``: an MPI launcher (mpirun, srun) starts them together."""
    launchers: tuple[str, ...] = ()
    """Names of further launchers that can start its processes (``torchrun``), where the user asks for one."""
    bypasses_network: bool = False
    """On one machine its processes exchange data past the network interfaces, as NCCL does between GPUs."""
    service: bool = False
    """A service has no end of its own: it is ended when the other roles are done."""
    observer: bool = False
    """Watches the others: its end ends nothing, and it may finish a sentence before it is ended."""
    env: dict[str, str] = Field(default={})


def roles_to_start(roles: tuple[Role, ...], *, services_provided: bool = False) -> tuple[Role, ...]:
    """The roles whose processes a site starts (pure).

    Args:
        roles: What :meth:`bench.plugins.backend.Backend.launch` returns.
        services_provided: Whether the site keeps the services itself, such as a Dask cluster that exists. It then also
            does the work of a role that starts others on these services, and starts those others.

    Returns:
        All roles but those that another one starts; where the services are provided, all roles but the services and
        those that start others.
    """
    if not services_provided:
        return tuple(role for role in roles if role.started_by is None)
    starters = {role.started_by for role in roles}
    return tuple(role for role in roles if not role.service and role.name not in starters)
