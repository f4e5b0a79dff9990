"""Plugins from outside the project: files that a command or a suite names, and their sources in a plan."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.host.paths import from_home
from bench.host.permissions import changeable_by_others
from bench.plugins.registry import BACKENDS, PROBES, WORKLOADS, PluginKind, add_plugin_file, sources_of
from bench.plugins.sources import PluginError
from harness.errors import UsageError
from harness.planning.plan import Plan, Skip

log = logging.getLogger("scaling_harness")


def plugin_kinds() -> tuple[PluginKind[Any], ...]:
    """Every kind of plugin."""
    from harness.importers import IMPORTERS
    from harness.sites.base.contract import SITES
    from reports.formats.exports import FORMATS

    return (BACKENDS, WORKLOADS, PROBES, SITES, FORMATS, IMPORTERS)


def use_plugin_files(files: Iterable[str | Path]) -> None:
    """Make the plugins in files known for the length of this process; warn of those that other users can change.

    Raises:
        UsageError: A file can't be read or imported, defines no plugin, or one whose name is taken.
    """
    for file in dict.fromkeys(files):
        try:
            add_plugin_file(from_home(file), plugin_kinds())
        except PluginError as problem:
            raise UsageError(f"--plugin: {problem}") from None
        if place := changeable_by_others(from_home(file)):
            log.warning("plugin %s runs with your rights, and other users can change %s", file, place)


def with_sources(plan: Plan) -> Plan:
    """The plan whose cases carry the sources of the plugins that they use."""

    def carry(case: Case) -> Case:
        return case.model_copy(update={"plugins": sources_of(case)})

    def carry_skip(skip: Skip) -> Skip:
        return skip.model_copy(update={"case": carry(skip.case)})

    return plan.model_copy(
        update={
            "cases": tuple(map(carry, plan.cases)),
            "skips": tuple(map(carry_skip, plan.skips)),
            "not_applicable": tuple(map(carry_skip, plan.not_applicable)),
        }
    )
