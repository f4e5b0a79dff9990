"""What must be as it was before an interrupted sweep goes on: otherwise its trials would measure different things."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from bench.core.case import Case
from bench.core.records import Trial
from bench.host.variables import recorded_variables
from bench.plugins.registry import BACKENDS
from harness.errors import UsageError
from harness.planning.environment import read_environment
from harness.planning.plan import Plan
from harness.planning.program import changed_files, read_again
from harness.planning.sources import Sources, describe_files
from harness.planning.user_repository import find_repository
from harness.planning.variables import variable_combinations
from harness.sites.base.contract import DEFAULT_SITE
from harness.store.store import SweepInfo
from harness.sweep.plugins import with_sources
from reports.analysis.rank_resources import variables_of
from reports.regression.evidence import describe_differences


def check_same_conditions(info: SweepInfo, trials: Sequence[Trial], sources: Sources) -> None:
    """Refuse to resume a sweep whose remaining trials would run on another machine, or other code, than the first.

    Args:
        info: The sweep.
        trials: Some that have succeeded. One is enough: all had the variables of the first.
        sources: What runs now.

    Raises:
        UsageError: With what has changed.
    """
    for case in info.plan.cases:
        # A store may come from somewhere else.
        variable_combinations({name: (value,) for name, value in case.env.items()})
    _check_environment(info)
    _check_sources(info, sources)
    _check_variables(info, trials)
    _check_plugins(info)
    _check_programs(info)


def _check_environment(info: SweepInfo) -> None:
    before, now = (
        one.model_dump(exclude={"changed_files", "commit_reason"})
        for one in (info.environment, read_environment(find_repository(info.plan.cases, info.suite.plugins)))
    )
    added = now["packages"].keys() - before["packages"].keys() - _needed_packages(info.plan)
    now["packages"] = {name: version for name, version in now["packages"].items() if name not in added}
    differing = [field for field, value in before.items() if value != now[field]]
    if differing:
        raise UsageError(f"--resume: sweep {info.id} began with another {', '.join(differing)}; start a new one")


def _needed_packages(plan: Plan) -> set[str]:
    """Those of the backends of the cells that could run from the beginning. Others may have been built since."""
    backends = BACKENDS.load_all()[0]
    names = {case.backend for case in plan.cases if case.key not in plan.later} & backends.keys()
    return {package for name in names for package in backends[name].packages}


def _check_sources(info: SweepInfo, now: Sources) -> None:
    if info.sources is not None and (changed := now.changed_since(info.sources)):
        raise UsageError(
            f"--resume: {describe_files(changed)} changed since sweep {info.id} began; restore what was there, "
            "or start a new sweep"
        )


def _check_variables(info: SweepInfo, trials: Sequence[Trial]) -> None:
    """The ranks of the remaining trials get the variables of those that ran on this machine."""
    before = variables_of(trial for trial in trials if trial.case.site == DEFAULT_SITE and trial.outcome == "ok")
    if before is None:
        return
    given = {name for case in (*info.plan.cases, *(trial.case for trial in trials)) for name in case.env}
    now = recorded_variables(os.environ)
    if differences := describe_differences(_without(now, given), _without(before, given)):
        raise UsageError(f"--resume: sweep {info.id} began with other variables ({differences}); set them as they were")


def _without(variables: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def _check_plugins(info: SweepInfo) -> None:
    now = with_sources(info.plan)
    if now != info.plan:
        files = _plugin_digests(info.plan).items() ^ _plugin_digests(now).items()
        names = describe_files(tuple(sorted({file for (file, _), _ in files})))
        raise UsageError(
            f"--resume: plugin {names} changed since sweep {info.id} began; restore what was there, or start a new "
            "sweep"
        )


def _check_programs(info: SweepInfo) -> None:
    programs = {case.program.digest: case.program for case in info.plan.cases if case.program is not None}
    for program in programs.values():
        if changed := changed_files(program, read_again(program)):
            raise UsageError(
                f"--resume: {describe_files(changed)} in {program.folder} changed since sweep {info.id} began; restore "
                "what was there, or start a new sweep"
            )


def _plugin_digests(plan: Plan) -> dict[tuple[str, str], str]:
    """The digest of each plugin, by its file and name."""
    cases: list[Case] = [*plan.cases, *(skip.case for skip in (*plan.skips, *plan.not_applicable))]
    return {(plugin.file, plugin.name): plugin.digest for case in cases for plugin in case.plugins}
