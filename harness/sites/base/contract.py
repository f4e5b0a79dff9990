"""The contract of a site: where the processes of a case run.

A new site is one new file in this folder that defines ``SITE``, an instance of :class:`Site`. What sites that reach
beyond this machine have in common is in :mod:`harness.sites.base.remote`; on each of their nodes runs
:mod:`bench.node.agent`.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from bench.core.case import Case, Role
from bench.core.machine import NodeFacts
from bench.core.records import Link, Outcome, RankFailure, RankRecord
from bench.core.telemetry import Recording
from bench.node.launchers.base import AGENT
from bench.plugins.backend import Options
from harness.planning.placements import Machine


@dataclass(frozen=True)
class TrialResult:
    """How a trial's processes ended, with what they left."""

    outcome: Outcome
    reason: str | None
    ranks: tuple[RankRecord, ...]
    failures: tuple[RankFailure, ...]
    log_tail: tuple[str, ...]
    recordings: tuple[Recording, ...] = ()
    """Of the nodes' samplers."""
    link: Link | None = None
    nodes: tuple[NodeFacts, ...] = ()
    """Where it ran, beyond this machine."""
    cost: float | None = None
    """What it was billed, in the unit of the price that was given."""
    cost_reason: str | None = None
    """Why the cost is unknown where the site bills its trials."""


DEFAULT_SITE = "local"


class TrialRequest(NamedTuple):
    """A trial that is to be run: its processes' records and logs go to ``folder``."""

    case: Case
    roles: tuple[Role, ...]
    folder: Path


class Site(ABC):
    """Starts the processes of a case, waits for them, brings back what they left."""

    name: str
    summary: str
    options: ClassVar[type[Options]] = Options
    """Its knobs: ``--set NAME.KNOB=VALUE``, one value each."""
    requires: tuple[str, ...] = ()
    """Importable modules without which it can't be used."""
    extra: str = ""
    """The optional dependencies of ours that bring them."""
    provides_services: bool = False
    """It keeps the services of a backend itself and starts the ranks on them: its trials have neither a backend's
    services nor the role that starts ranks on these (:func:`bench.core.case.roles_to_start`)."""
    launchers: tuple[str, ...] = (AGENT,)
    """The launchers that it has, by name (:mod:`bench.node.launchers.base`): they decide which backends can run there.
    Cases with roles that none of these can start are skipped."""
    shares_environment: bool = False
    """Its ranks run in this very environment: what a backend lacks here is missing there too."""

    def __init__(self, chosen: Options | None = None) -> None:
        self.chosen = chosen or self.options()

    def with_options(self, chosen: Options) -> Self:
        """This site with its knobs set."""
        return type(self)(chosen)

    def machine(self) -> Machine:
        """What is known of its nodes before anything runs there."""
        return Machine(site=self.name, multi_node=True, cores=None, gpus=None)

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
        """Which knob has no default and was not set, with how to set it."""
        return None

    def missing_dependency(self) -> str | None:
        """Which optional dependency is missing here, with the command that installs it."""
        missing = [module for module in self.requires if importlib.util.find_spec(module) is None]
        return f'{", ".join(missing)} not installed: pip install "scaling-harness[{self.extra}]"' if missing else None

    @abstractmethod
    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        """The files it would submit, by name (pure). Nothing secret is in them."""

    def reserve(self, cases: Sequence[Case]) -> None:
        """Take note of all cases of a sweep. Called once, before its first trial, for a site that starts machines for
        the whole sweep."""
        return

    @abstractmethod
    def start(self, request: TrialRequest) -> Job:
        """Start the processes of a trial, or submit them."""

    @property
    def submits_rounds(self) -> bool:
        """Whether it takes all trials of a round at once."""
        return False

    def submit_round(self, trials: Sequence[TrialRequest]) -> list[Job]:
        """Submit them all at once where the site :attr:`submits_rounds`, to be waited for in this order."""
        return [self.start(request) for request in trials]

    def reattach(self, request: TrialRequest, handle: str) -> Job | None:
        """The job of a sweep that was interrupted, under way or ended; ``None`` where nothing of it is left."""
        return None

    def warm(self, modules: tuple[str, ...]) -> None:
        """Prepare for ranks that will import ``modules``."""
        return


class Job(ABC):
    """The processes of one trial."""

    handle: str | None = None
    """By which :meth:`Site.reattach` finds it again after this process has gone; ``None``: it ends with this
    process."""

    @abstractmethod
    def wait(self, timeout_s: float) -> TrialResult:
        """Wait for the end, or end it after ``timeout_s`` of running; either way nothing of it is left running."""

    @abstractmethod
    def cancel(self) -> None:
        """End all of it now."""
