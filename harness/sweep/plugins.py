"""Plugins from outside the project: files that a command or a suite names, and their sources in a plan."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.core.program import Program
from bench.core.script_command import split_command
from bench.host.paths import from_home
from bench.host.permissions import changeable_by_others
from bench.host.secrets import mask_command
from bench.plugins.registry import BACKENDS, PROBES, WORKLOADS, PluginKind, add_plugin_file, sources_of
from bench.plugins.sources import PluginError
from harness.errors import UsageError
from harness.planning.plan import Plan, Skip
from harness.planning.program import read_program

log = logging.getLogger("scaling_harness")


def plugin_kinds() -> tuple[PluginKind[Any], ...]:
    """Every kind of plugin."""
    from harness.importers import IMPORTERS
    from harness.sites.base.contract import SITES
    from reports.formats.exports import FORMATS

    return (BACKENDS, WORKLOADS, PROBES, SITES, FORMATS, IMPORTERS)


def use_plugin_files(files: Iterable[str | Path], option: str = "--plugin") -> None:
    """Make the plugins in files known for the length of this process; warn of those that other users can change.

    Args:
        files: Python files.
        option: What names them, for messages.

    Raises:
        UsageError: A file can't be read or imported, defines no plugin, or one whose name is taken.
    """
    for file in dict.fromkeys(files):
        try:
            add_plugin_file(from_home(file), plugin_kinds())
        except PluginError as problem:
            raise UsageError(f"{option}: {problem}") from None
        if place := changeable_by_others(from_home(file)):
            log.warning("plugin %s runs with your rights, and other users can change %s", file, place)


def with_sources(plan: Plan) -> Plan:
    """The plan whose cases carry the sources of the plugins that they use."""
    return _each_case(plan, lambda case: case.model_copy(update={"plugins": sources_of(case)}))


def with_programs(plan: Plan, base: Path) -> Plan:
    """The plan whose cases carry the user's programs that they run; warns of programs that do not travel whole.

    Args:
        plan: The plan.
        base: The folder that the paths of scripts are relative to.

    Raises:
        UsageError: A script can't be read.
    """
    programs: dict[str, Program] = {}

    def carry(case: Case) -> Case:
        if WORKLOADS.load(case.workload).kind != "program":
            return case
        command = str(case.workload_options.get("command", ""))
        if command not in programs:
            programs[command] = read_program(command, base, "option workload.script.command:")
            _warn_of(programs[command], command)
        return case.model_copy(update={"program": programs[command]})

    return _each_case(plan, carry)


def _warn_of(program: Program, command: str) -> None:
    words = split_command(command)
    if mask_command(words) != shlex.join(words):
        log.warning(
            "program %s: an argument looks like a secret, and commands are stored with their results; give it by an "
            "environment variable",
            program.name,
        )
    script = Path(program.folder, program.script)
    if place := changeable_by_others(script):
        log.warning("program %s runs with your rights, and other users can change %s", program.name, place)
    if program.left_out:
        log.warning(
            "program %s: of its folder's Python files it alone is copied (%s): leave the others as they are until the "
            "sweep ends",
            program.name,
            program.left_out,
        )


def _each_case(plan: Plan, change: Callable[[Case], Case]) -> Plan:
    def change_skip(skip: Skip) -> Skip:
        return skip.model_copy(update={"case": change(skip.case)})

    return plan.model_copy(
        update={
            "cases": tuple(map(change, plan.cases)),
            "skips": tuple(map(change_skip, plan.skips)),
            "not_applicable": tuple(map(change_skip, plan.not_applicable)),
        }
    )
