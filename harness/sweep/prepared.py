"""A sweep that can begin: its plan, its store, and where its trials run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.plugins.backend import Backend
from bench.plugins.registry import Plugins, preloaded_modules
from harness.planning.plan import Plan
from harness.sites.base.contract import Site
from harness.store.store import Store, SweepInfo
from harness.sweep.machine_access import MachineAccess


@dataclass(frozen=True)
class PreparedSweep:
    """What the trials of a sweep are run with."""

    info: SweepInfo
    """With the plan."""
    store: Store
    """Where the trials go."""
    site: Site
    """Where they run."""
    plugins: Plugins
    """All backends and workloads."""
    folder: Path
    """For the files of running trials; those of failed trials stay."""
    access: MachineAccess = field(default_factory=MachineAccess)
    """To the cores of this machine; the default takes no lock."""


def preload_modules(plan: Plan, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """The modules that the ranks of the plan import beside torch, each once."""
    modules = (module for case in plan.cases for module in preloaded_modules(backends[case.backend], [case.workload]))
    return tuple(dict.fromkeys(modules))
