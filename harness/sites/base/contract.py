"""The contract of a site, which runs the processes of a case somewhere: on this machine, hosts, a cluster.

A new site is a folder ``harness/sites/<name>`` with a ``site.py`` that defines ``SITE``, an instance of :class:`Site`.
On each node it runs the node agent (:mod:`bench.node.agent`); what sites need for that is in
:mod:`harness.sites.base.remote`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from pydantic import Field

from bench.core.case import Case, Role
from bench.core.machine import NodeFacts
from bench.core.recording import Recording
from bench.core.records import Condition, Link, Outcome, RankFailure, RankRecord
from bench.host.installation import install_command, is_installed
from bench.node.launchers.base import AGENT
from bench.plugins.backend import Options
from bench.plugins.registry import PluginKind, UnknownPlugin
from harness.errors import UsageError, suggest_name
from harness.planning.placements import Machine


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended, with what its processes left."""

    outcome: Outcome
    reason: str | None
    """Why the outcome is not ``ok``."""
    ranks: tuple[RankRecord, ...]
    failures: tuple[RankFailure, ...]
    log_tail: tuple[str, ...]
    """The last lines of logs, and stack dumps; empty where the outcome is ``ok``."""
    recordings: tuple[Recording, ...] = ()
    """The recordings of the nodes' samplers."""
    link: Link | None = None
    """The links between the ranks, where they ran in network namespaces."""
    nodes: tuple[NodeFacts, ...] = ()
    """The machines that it ran on, other than this one."""
    cost: float | None = None
    """What it was billed, in the unit of the given price."""
    cost_reason: str | None = None
    """Why the cost is unknown, where the site bills its trials."""
    conditions: tuple[Condition, ...] = ()
    """What the supervisors of the ranks noticed besides."""
    suspended: str | None = None
    """What did not run for a while, so that the trial has to be taken again."""


DEFAULT_SITE = "local"


class SiteOptions(Options):
    """What every site has an option for."""

    ranks_per_gpu: int = Field(
        1, ge=1, le=64, description="ranks that share a GPU, over gloo; their numbers are no scaling claim"
    )


class TrialRequest(NamedTuple):
    """A trial that is to be run.

    Attributes:
        case: The case to run.
        roles: The kinds of processes that it needs, in the order in which they are started.
        folder: Existing folder for what the processes leave.
    """

    case: Case
    roles: tuple[Role, ...]
    folder: Path


class Site(ABC):
    """Starts the processes of a case, waits for them, and collects what they left.

    Args:
        chosen: The options of the site; by default those of :attr:`options` without arguments.
    """

    name: str
    summary: str
    options: ClassVar[type[Options]] = SiteOptions
    """Its options, each with one value: ``--set NAME.OPTION=VALUE``."""
    requires: tuple[str, ...] = ()
    """Importable modules without which the site can't be used."""
    extra: str = ""
    """The extra of this project that installs them."""
    provides_services: bool = False
    """It keeps the services of a backend itself and starts the ranks on them: its trials have neither a backend's
    services nor the role that starts ranks on these (:func:`bench.core.case.roles_to_start`)."""
    launchers: tuple[str, ...] = (AGENT,)
    """The launchers that it has, by name (:mod:`bench.node.launchers.base`): they decide which backends can run there.
    Cases with roles that none of these can start are skipped."""
    shares_environment: bool = False
    """Its ranks run in this Python environment: what a backend lacks here is missing there too."""

    uses_this_machine: bool = False
    """Its trials run on the cores of this machine, which it locks (:mod:`harness.sweep.machine_access`)."""

    def __init__(self, chosen: Options | None = None) -> None:
        self.chosen = chosen or self.options()

    def with_options(self, chosen: Options) -> Self:
        """This site with other options."""
        return type(self)(chosen)

    def machine(self) -> Machine:
        """What is known of its nodes before a trial runs on them."""
        return Machine(site=self.name, multi_node=True, cores=None, gpus=None, ranks_per_gpu=ranks_per_gpu(self.chosen))

    def survey(self) -> None:
        """Find out what the site has, such as the workers of a cluster. Called once, before cases are planned."""
        return

    def unavailable_reason(self, case: Case) -> str | None:
        """Why the case can't run there, with the remedy, or ``None``. Called for every case; what takes time to find
        out belongs to :meth:`survey`."""
        return self.missing_dependency()

    def launcher_unavailable_reason(self, launcher: str) -> str | None:
        """Why one of its :attr:`launchers` can't be used at present, with the remedy, or ``None``."""
        return None

    def missing_option(self) -> str | None:
        """Which option has no default and is not set, with how to set it, or ``None``."""
        return None

    def missing_dependency(self) -> str | None:
        """Which optional dependency is missing here, with the command that installs it, or ``None``."""
        missing = [module for module in self.requires if not is_installed(module)]
        return f"{', '.join(missing)} not installed: {install_command(self.extra)}" if missing else None

    @abstractmethod
    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        """The text of the files that it would submit for a case, by name (pure). They hold no secrets."""

    def reserve(self, cases: Sequence[Case]) -> None:
        """Take note of all cases of a sweep. Called once, before its first trial, for a site that starts machines for
        the whole sweep."""
        return

    @abstractmethod
    def start(self, request: TrialRequest) -> Job:
        """Start the processes of a trial, or submit them.

        Raises:
            HarnessError: If that fails in a way that the user can mend.
        """

    def batches(self, cases: Sequence[Case]) -> list[list[Case]]:
        """The cases of a round in the parts that are submitted one after another, each when those before it have ended
        (pure)."""
        return [list(cases)]

    @property
    def submits_rounds(self) -> bool:
        """Whether it accepts all trials of a batch at once (:meth:`submit_round`)."""
        return False

    def submit_round(self, trials: Sequence[TrialRequest]) -> list[Job]:
        """Submit several trials at once. Their jobs are waited for in this order."""
        return [self.start(request) for request in trials]

    def reattach(self, request: TrialRequest, handle: str) -> Job | None:
        """The job of a trial whose sweep was interrupted, running or ended; ``None`` where the job no longer exists.

        Args:
            request: The trial.
            handle: The :attr:`Job.handle` of its job.
        """
        return None

    def warm(self, modules: tuple[str, ...]) -> None:
        """Prepare for ranks that will import ``modules``, where that saves time."""
        return

    def warm_again(self, modules: tuple[str, ...]) -> None:
        """As :meth:`warm`, when modules have been installed since it was called."""
        self.warm(modules)

    def close(self) -> None:
        """End what it keeps between the trials of a sweep. Called after the last one; a later trial starts it again."""
        return


class Job(ABC):
    """The processes of one trial."""

    handle: str | None = None
    """What :meth:`Site.reattach` finds the job by when this process is gone; ``None``: the job ends with this
    process."""

    @property
    def own_logs(self) -> Sequence[Path]:
        """The logs of the site's own programs in the trial's folder. They are kept short while it is waited for, which
        needs programs that append to them."""
        return ()

    @abstractmethod
    def wait(self, timeout_s: float) -> TrialResult:
        """Wait until the trial ends, or end it after ``timeout_s`` seconds of running. Nothing of it is left
        running."""

    @abstractmethod
    def cancel(self) -> None:
        """End all processes of the trial now."""


def ranks_per_gpu(chosen: Options) -> int:
    """The option of that name; 1 for a site that has none."""
    return int(getattr(chosen, "ranks_per_gpu", 1))


SITES: PluginKind[Site] = PluginKind("site", Site, "harness.sites", ("name", "summary"))


def site_names() -> list[str]:
    """The names of all sites."""
    return SITES.names()


def find_site(name: str) -> Site:
    """The site of that name.

    Raises:
        UsageError: There is none.
    """
    try:
        return SITES.load(name)
    except UnknownPlugin as problem:
        raise UsageError(f"unknown site '{name}'{suggest_name(name, problem.known)}") from None
