"""A sweep that can begin: its plan, its store, and where its trials run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.plugins.registry import Plugins
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
