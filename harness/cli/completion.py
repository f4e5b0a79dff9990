"""What a shell offers while a command is typed, and how that is installed. Nothing here loads a framework."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

PROGRAM = "scaling-harness"
"""The console script. A shell completes the arguments of a program, and ``python -m harness`` is Python's."""
COMPLETE_VARIABLE = "_SCALING_HARNESS_COMPLETE"
"""Set by the shell's function for each completion, to how its answer is read."""


def is_requested() -> bool:
    """Whether this process is to complete a command, and not to run one; then Typer learns which shells there are."""
    requested = bool(os.environ.get(COMPLETE_VARIABLE))
    if requested:
        _typer().completion_init()
    return requested


def complete_suites(incomplete: str) -> list[str]:
    from harness.planning.suite import suite_names

    return _beginning(incomplete, _tolerant(suite_names))


def complete_backends(incomplete: str) -> list[str]:
    from bench.plugins.registry import BACKENDS

    return _last_of_list(incomplete, BACKENDS.names())


def complete_workloads(incomplete: str) -> list[str]:
    from bench.plugins.registry import WORKLOADS

    return _last_of_list(incomplete, WORKLOADS.names())


def complete_sites(incomplete: str) -> list[str]:
    from harness.sites.base.contract import site_names

    return _beginning(incomplete, site_names())


def complete_sweeps(context: typer.Context, incomplete: str) -> list[str]:
    """Ids, the newest first, and tags of the store that the command would read."""
    return _beginning(incomplete, _tolerant(lambda: _sweeps(context.params.get("store"))))


def _sweeps(given: str | None) -> Iterable[str]:
    from harness.configuration import find_configuration
    from harness.store import DEFAULT_STORE
    from harness.store.opening import open_store

    location = given if given not in (None, DEFAULT_STORE) else find_configuration().store or DEFAULT_STORE
    store = open_store(str(location), create=False)
    try:
        sweeps = store.known_sweeps()
    finally:
        store.close()
    return ["latest", *(sweep.id for sweep in reversed(sweeps)), *(tag for sweep in sweeps for tag in sweep.tags)]


def _tolerant(names: Any) -> list[str]:
    """Names; none where they can't be read, since a command line that is typed has no place for a message."""
    from harness.errors import HarnessError

    try:
        return list(names())
    except HarnessError:
        return []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _last_of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    """The names that may end a comma-separated list, after what it holds."""
    before, comma, last = incomplete.rpartition(",")
    used = before.split(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, names) if name not in used]


def _install(wanted: bool) -> None:
    if wanted:
        shell, path = _typer().install(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=_shell())
        print(f"completion of {PROGRAM} in {shell} is installed in {path}; it works in the next shell that starts")
        raise typer.Exit


def _show(wanted: bool) -> None:
    if wanted:
        script = _typer().get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=_shell())
        print(script)
        raise typer.Exit


def _typer() -> Any:
    """Typer's own completion, whose functions it calls with other names of programs."""
    return importlib.import_module("typer.completion")


def _shell() -> str:
    """The shell that runs this process, else that of the user; raises :class:`UsageError` for one of another kind."""
    from bench.core.text import printable
    from harness.errors import UsageError

    module = _typer()
    shell = module._get_shell_name() or Path(os.environ.get("SHELL", "")).name
    if shell not in {known.value for known in module.Shells}:
        raise UsageError(f"completion is for bash, zsh and fish, and this shell is '{printable(shell)}'")
    return str(shell)


InstallOption = typer.Option(
    "--install-completion",
    is_eager=True,
    callback=_install,
    help=f"Install the completion of {PROGRAM} for this shell, and exit.",
)
ShowOption = typer.Option(
    "--show-completion", is_eager=True, callback=_show, help="Print what --install-completion would install, and exit."
)
