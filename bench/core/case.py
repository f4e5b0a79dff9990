"""What is measured: a case with its options and its injected fault, and the kinds of processes it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import Field

from bench.core.bounds import Amount, Count, Duration, PositiveCount, PositiveSeconds, RankCount, RankNumber, Work
from bench.core.frozen_model import FrozenModel
from bench.core.names import Name
from bench.core.program import Program

Scalar = bool | int | float | str
Scaling = Literal["strong", "weak"]
Device = Literal["cpu", "cuda"]

ANY_TRANSPORT = "any"
"""The transport of cases whose ranks run a user's program, which chooses what carries its gradients."""
LIBRARY_TIMEOUT_MARGIN_S = 60
MAX_LIBRARY_TIMEOUT_S = 24 * 86_400
"""Libraries count a time limit in milliseconds, in 32 bits."""


class DataSource(FrozenModel):
    """The data set of a workload, with the digest of its content."""

    name: str
    digest: str
    path: str
    """The prepared copy that the ranks read."""
    stands_for: str | None = None
    """The name of the data set that this one replaces; ``None``: it is no replacement."""


class PluginSource(FrozenModel):
    """A plugin from outside the project, as a node needs it: source text, or a module that is installed there too."""

    kind: str
    """``backend``, ``workload``, …"""
    name: str
    file: str
    """The name of its file, for messages."""
    digest: str
    """Of the source of its file. Results of other sources are not compared."""
    attribute: str
    """What its module calls it: ``BACKEND``."""
    text: str | None = None
    module: str = ""
    """Where it is installed, if it has no :attr:`text`."""


FaultKind = Literal["kill", "stop", "raise", "slow", "oom", "exit"]


class Fault(FrozenModel):
    """A fault injected into one rank; see :mod:`bench.rank.faults`."""

    kind: FaultKind
    rank: RankNumber
    step: Count | None = None
    """The step of the measured window, from 1; 0 is before the rank joins the others. ``None``: the first step."""
    ms: Duration | None = None
    """``slow``: the delay before each backward pass, in milliseconds."""

    @property
    def label(self) -> str:
        """As ``--inject`` takes it: ``slow:rank=1,ms=200``."""
        given = {"rank": self.rank, "step": self.step, "ms": self.ms}
        return f"{self.kind}:" + ",".join(f"{name}={value:g}" for name, value in given.items() if value is not None)


REPLAY_PREFIX = "replay:"
"""Begins the ``telemetry`` of a case whose devices are replaced by a recording, followed by its path."""


CACHED = ("curve", "key")
"""The properties of a case that are made once: a report of thousands of cells asks for them a hundred times each."""


class Case(FrozenModel):
    """One measurement: a workload under a backend at a number of ranks.

    The option dictionaries hold only what differs from the defaults, so that a new option with a default keeps the keys
    of stored cases valid (and :attr:`bench.plugins.backend.Options.always_named`, defaults that a user's file chose).
    """

    workload: str
    workload_options: dict[str, Scalar] = Field(default={})
    backend: str
    transport: str
    backend_options: dict[str, Scalar] = Field(default={})
    env: dict[str, str] = Field(default={})
    """Environment variables that its ranks get from their start; an empty value removes one that they would inherit."""
    device: Device = "cpu"
    ranks: RankCount
    ranks_per_node: RankCount | None = None
    """The number of ranks on a full node: ranks fill the nodes in order. ``None``: all ranks are on one node."""
    ranks_per_gpu: PositiveCount = 1
    """How many ranks share a GPU: those of a node fill its GPUs in order. On CPUs it means nothing."""
    site: str = "local"
    scaling: Scaling = "strong"
    batch: PositiveCount
    """Samples per step: of all ranks together under strong scaling, of each rank under weak scaling."""
    threads: PositiveCount = 1
    """Threads per rank."""
    seed: int = 0
    steps: PositiveCount | None = None
    """The number of measured steps; ``None``: as many as take :attr:`target_window_s`."""
    window_s: PositiveSeconds = 1.0
    """The length of the measured window, in seconds."""
    adapt_window: bool = False
    """Whether each trial's window is as long as the spread of earlier trials suggests, once there are some."""
    chosen_window_s: PositiveSeconds | None = None
    """The length of this trial's window where it was adapted, in seconds; ``None``: :attr:`window_s`. It is chosen
    before the trial starts, and the same on all ranks."""
    precision: Amount | None = None
    """The relative half-width of the mean step's 95 % interval at which the window ends; it is extended to three times
    its length at most. ``None``: it is not extended."""
    warmup: Count | None = None
    """The number of warm-up steps; ``None``: until step times have settled."""
    verify_steps: Count = 4
    """Steps that are compared with a single process's before the warm-up; 0: none."""
    tolerance: Work | None = None
    """The relative deviation from a single process that counts as the same work; ``None``: what the backend states."""
    timeout_s: PositiveSeconds = 120.0
    """The time limit of a trial, in seconds, from the start of its processes."""
    decompose: bool = True
    """Decompose the step time, after the window (:mod:`bench.rank.decompose`)."""
    own_cost: bool = False
    """Measure the overhead of timing and sampling, after the window (:mod:`bench.rank.overhead`)."""
    roofline: bool = False
    """Count the work of a step and measure the peak of the device, at the very end (:mod:`bench.rank.roofline`)."""
    affinity: Literal["cores", "none"] = "cores"
    """On CPUs: ``cores`` pins each rank to as many cores as it has threads, ``none`` lets it use all cores."""
    telemetry: str = "auto"
    """What is sampled. ``auto``: the host, and the GPUs if the ranks compute on them; ``always``: both; ``off``:
    nothing; ``replay:FILE``: a recording in place of this node's devices."""
    fault: Fault | None = None
    net: str | None = None
    """The rate of the links between nodes that are network namespaces of one machine (:mod:`bench.host.links`): nodes
    of :attr:`ranks_per_node` ranks, or of one. ``None``: all ranks communicate over the loopback interface."""
    flags: tuple[str, ...] = ()
    """What a reader has to know of its numbers, such as ``oversubscribed``."""
    data: DataSource | None = None
    """The data that every rank of every trial reads; ``None``: the workload makes its own."""
    plugins: tuple[PluginSource, ...] = ()
    """The plugins from outside the project that it uses, with their source."""
    program: Program | None = None
    """The user's program that its ranks run, unchanged; ``None``: they run the workload of that name."""
    label: str = ""
    """The name of its sweep, where several sweeps are shown together; empty in stored cases."""
    compared_by_commit: bool = Field(default=False, exclude=True, repr=False)
    """Whether a commit says which program and plugins it ran: those of a user's repository. It is known of the sweep,
    and no part of stored cases."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic; a changed copy has keys of its own."""
        copied = super().model_copy(update=update, deep=deep)
        for name in CACHED:
            copied.__dict__.pop(name, None)
        return copied

    def without_program_files(self) -> Case:
        """The case as a trial stores it: the program's files are stored once, with the plan."""
        if self.program is None:
            return self
        return self.model_copy(update={"program": self.program.model_copy(update={"files": {}})})

    @property
    def library_timeout_s(self) -> int:
        """How long a library of a rank may wait for other ranks, in whole seconds: longer than the trial's limit, at
        which the supervisor reports where each rank is. A library that gives up before hides the one that hangs."""
        return min(math.ceil(self.timeout_s) + LIBRARY_TIMEOUT_MARGIN_S, MAX_LIBRARY_TIMEOUT_S)

    @property
    def target_window_s(self) -> float:
        """How long the window of this trial is to last, in seconds."""
        return self.window_s if self.chosen_window_s is None else self.chosen_window_s

    @property
    def global_batch(self) -> int:
        """Samples per step of all ranks together."""
        return self.batch if self.scaling == "strong" else self.batch * self.ranks

    @property
    def local_batch(self) -> int:
        """Samples per step of each rank."""
        return self.global_batch // self.ranks

    @property
    def nodes(self) -> int:
        """The number of nodes that its ranks fill."""
        return -(-self.ranks // self.ranks_per_node) if self.ranks_per_node else 1

    @property
    def ranks_on_a_node(self) -> int:
        """The number of ranks on each of its nodes. Only a single node may hold fewer than a full one."""
        return min(self.ranks, self.ranks_per_node or self.ranks)

    @property
    def gpus_on_a_node(self) -> int:
        """The number of GPUs that the ranks on each of its nodes compute on."""
        return -(-self.ranks_on_a_node // self.ranks_per_gpu) if self.device == "cuda" else 0

    def device_of(self, local_rank: int) -> str:
        """The torch device of a rank, by its number among the ranks on its machine."""
        return f"cuda:{local_rank // self.ranks_per_gpu}" if self.device == "cuda" else "cpu"

    def node_of_rank(self, rank: int) -> int:
        """The number of the node that a rank is on: ranks fill the nodes in order. Nodes that are network namespaces
        (:attr:`net`) are one machine."""
        return 0 if self.net is not None else rank // self.ranks_on_a_node

    @cached_property
    def curve(self) -> str:
        """The key without the number of ranks: the points of one scaling curve share it."""
        return _join_parts(
            self.workload + _format_options(self.workload_options),
            f"{self.backend}-{self.transport}" + _format_options(self.backend_options),
            # Values may hold the characters that separate parts of a key.
            "env" + _format_options({name: quote(value, safe=":.+") for name, value in self.env.items()})
            if self.env
            else "",
            self.scaling,
            f"batch={self.batch}",
            f"threads={self.threads}",
            self.device,
            f"seed={self.seed}",
            f"sweep={self.label}" if self.label else "",
            f"net={self.net}" if self.net else "",
            f"site={self.site}" if self.site != "local" else "",
            f"per-node={self.ranks_per_node}" if self.ranks_per_node else "",
            f"per-gpu={self.ranks_per_gpu}" if self.ranks_per_gpu > 1 else "",
        )

    @cached_property
    def key(self) -> str:
        """What the case is, not for how long it is measured: equal keys of different sweeps are compared."""
        return _join_parts(f"{self.curve}/ranks={self.ranks}", f"fault={self.fault.label}" if self.fault else "")


def _format_options(options: dict[str, Scalar]) -> str:
    return "[" + ",".join(f"{name}={options[name]}" for name in sorted(options)) + "]" if options else ""


def _join_parts(*parts: str) -> str:
    return "/".join(part for part in parts if part)


class Role(FrozenModel):
    """One kind of process that a case needs. The site decides how it is started."""

    name: Name
    """Also that of the logs of its processes, and of their failures."""
    count: int
    started_by: Name | None = None
    """Name of the role whose process starts these; ``None``: the site starts them. See :func:`roles_to_start`."""
    fanout: Literal["each", "mpi"] = "each"
    """``each``: the site starts ``count`` processes; ``mpi``: an MPI launcher (mpirun, srun) starts them together."""
    launchers: tuple[str, ...] = ()
    """Names of further launchers that can start its processes (``torchrun``), where the user asks for one."""
    bypasses_network: bool = False
    """On one machine its processes exchange data past the network interfaces, as NCCL does between GPUs."""
    service: bool = False
    """It does not end by itself: it is stopped when the processes of the other roles have ended."""
    observer: bool = False
    """It observes the others, like a sampler: a trial does not end with it, and it is stopped by SIGTERM."""
    certified: bool = False
    """Its processes recognise each other by a certificate of the trial (:mod:`bench.host.certificate`)."""
    env: dict[str, str] = Field(default={})
    """Environment variables of its processes, which override those of the site."""


SAMPLER_ROLE = Role(name="sampler", count=1, service=True, observer=True)
"""The process on each node that records telemetry (:mod:`bench.telemetry.sampler`)."""


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
