"""The beginning of a sweep: its name, the lock of the machine, and the frameworks of its ranks.

The latter take seconds to load, in a process of their own. Where no other command measures on the machine, that begins
as soon as the plan is known, and this process imports meanwhile what it needs itself: the store and the page.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.plugins.backend import Backend
from bench.plugins.registry import preloaded_modules
from harness.errors import UsageError
from harness.planning.plan import Plan
from harness.planning.sources import copy_plugin_packages
from harness.sites.base.contract import Site
from harness.sweep.machine_access import MachineAccess, open_machine_access
from harness.sweep.plan import PlannedSweep

log = logging.getLogger("scaling_harness")


@dataclass
class BegunSweep:
    """A sweep that may prepare its site, and has its name."""

    planned: PlannedSweep
    name: str
    access: MachineAccess
    site_is_ready: bool = False

    def prepare_site(self) -> None:
        """Prepare the site for the first trial; a second call does nothing.

        Where it is this machine, that is done under the lock of the first trial: loading frameworks would disturb a
        trial of somebody else.
        """
        if self.site_is_ready:
            return
        plan = self.planned.plan
        if plan.cases:
            self.access.acquire()
        copy_sources_of_plugins()
        prepare_site(self.planned.site, plan, self.planned.plugins.backends)
        self.site_is_ready = True


@contextmanager
def begun_sweep(planned: PlannedSweep, *, shared: bool = False) -> Iterator[BegunSweep]:
    """A context in which a sweep has its name, and its site is being prepared where nobody waits for this machine.

    Args:
        planned: What will run.
        shared: Whether it runs beside other commands that measure on this machine.

    Raises:
        UsageError: An option of the site is missing, or no process can be started.
    """
    site = planned.site
    if missing_option := site.missing_option():
        raise UsageError(f"--site {site.name}: {missing_option}")
    name = new_sweep_id()
    with open_machine_access(f"sweep {name}", here=site.uses_this_machine, shared=shared) as access:
        sweep = BegunSweep(planned, name, access)
        if planned.plan.cases and site.uses_this_machine and access.acquire_if_free():
            sweep.prepare_site()
        yield sweep


def new_sweep_id() -> str:
    """A new id. Ids sort by time, and those of the same second differ."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def prepare_site(site: Site, plan: Plan, backends: Mapping[str, Backend]) -> None:
    """Prepare a site for the trials of a plan."""
    site.reserve(plan.cases)
    site.warm(preload_modules(plan, backends))


def preload_modules(plan: Plan, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """The modules that the ranks of the plan import beside torch, each once."""
    modules = (module for case in plan.cases for module in preloaded_modules(backends[case.backend], [case.workload]))
    return tuple(dict.fromkeys(modules))


def copy_sources_of_plugins() -> None:
    """From now on the ranks of this process import the packages of plugins from the copy of the sources."""
    for name in copy_plugin_packages():
        log.warning("package %s of a plugin is too large to be copied: leave it as it is until the sweep ends", name)
