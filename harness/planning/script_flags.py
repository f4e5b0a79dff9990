"""The flags of a user's program, as options of the workload ``script`` and names of the backends that start it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.core.case import Scalar
from bench.core.script_command import CommandProblem
from bench.core.text import one_line
from bench.plugins.backend import Backend
from bench.rank.program.options import ScriptOptions
from bench.workloads.script import WORKLOAD as SCRIPT
from harness.errors import UsageError, describe_validation_error, suggest_name
from harness.planning.options import Axes
from harness.planning.program import read_program

WORKLOAD, SCOPE = SCRIPT.name, f"workload.{SCRIPT.name}"
ALIASES = {"horovod": "horovodrun", "mpi": "mpirun"}
"""Short names of launchers."""
DEFAULT_LAUNCHERS = ("torchrun",)
MAX_SHOWN = 100


@dataclass(frozen=True)
class ScriptFlags:
    """What the command line says of programs.

    Args:
        scripts: The values of ``--script``.
        launchers: The names of ``--launcher``; ``None``: the default.
        values: The values of further flags by the name of their option; ``None``: not given.
    """

    scripts: Sequence[str] = ()
    launchers: Sequence[str] | None = None
    values: Mapping[str, Scalar | None] = field(default_factory=dict)

    @property
    def given(self) -> tuple[str, ...]:
        """The flags that were given."""
        named = {"script": self.scripts or None, "launcher": self.launchers, **self.values}
        return tuple(flag_of(name) for name, value in named.items() if value is not None)

    def changes(self, overrides: Mapping[str, Any], backends: Mapping[str, Backend]) -> dict[str, Any]:
        """The fields of a suite that the flags set.

        Args:
            overrides: What other flags set, by the name of the suite's field.
            backends: All backends by name.

        Raises:
            UsageError: Flags contradict each other, or a launcher is unknown.
        """
        if not self.scripts:
            return {"backends": launcher_backends(self.launchers, backends)} if self.launchers else {}
        for field_name in ("backends", "workloads"):
            if field_name in overrides:
                instead = "; --launcher says how its ranks are started" if field_name == "backends" else ""
                raise UsageError(f"--script: leave --{field_name} out{instead}")
        if "batch" in overrides:
            raise UsageError(
                "--script: leave --batch out; a program has its batch from its own arguments, "
                "such as --script 'train.py --batch {batch=32,64}'"
            )
        launchers = launcher_backends(self.launchers, backends)
        several = [count for count in overrides.get("ranks") or () if str(count) != "1"]
        if launchers == ("plain",) and several:
            raise UsageError(
                f"--launcher plain: a program that is started by itself is one rank, and --ranks names {several[0]}; "
                "choose torchrun, horovod or mpi"
            )
        return {"workloads": (WORKLOAD,), "backends": launchers}

    def options(self) -> Axes:
        """The options of the workload ``script``.

        Raises:
            UsageError: A flag has a wrong value, or a script can't be read. It names the flag.
        """
        given = {name: value for name, value in self.values.items() if value is not None}
        for name, value in given.items():
            _check_option(name, value)
        for script in self.scripts:
            _check_script(script)
        axes: dict[str, tuple[Scalar, ...]] = {name: (value,) for name, value in given.items()}
        if self.scripts:
            axes["command"] = tuple(self.scripts)
        return {SCOPE: axes} if axes else {}


def flag_of(option: str) -> str:
    """``--samples-per-step`` of ``samples_per_step``."""
    return f"--{option.replace('_', '-')}"


def launcher_backends(names: Sequence[str] | None, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """The backends of the launchers. Raises :class:`UsageError` for a name that is none."""
    known = [name for name, backend in backends.items() if backend.starts_programs]
    chosen = [ALIASES.get(name, name) for name in names or DEFAULT_LAUNCHERS]
    for name in chosen:
        if name not in known:
            shown = [*(short for short, full in ALIASES.items() if full in known), *known]
            raise UsageError(f"--launcher {name}: unknown{suggest_name(name, shown)}")
    return tuple(dict.fromkeys(chosen))


def _check_option(name: str, value: Scalar) -> None:
    try:
        ScriptOptions.model_validate({name: value})
    except ValidationError as problem:
        details = describe_validation_error(dict(problem.errors()[0]), ScriptOptions.model_fields)
        raise UsageError(f"{flag_of(name)} {one_line(str(value), MAX_SHOWN)}: {details}") from None


def _check_script(script: str) -> None:
    try:
        for product in SCRIPT.split_axes({"command": (script,)}):
            first_values = {name: values[0] for name, values in product.items()}
            ScriptOptions.model_validate(first_values)
    except CommandProblem as problem:
        raise UsageError(f"--script {one_line(script, MAX_SHOWN)}: {problem}") from None
    except ValidationError as problem:
        details = describe_validation_error(dict(problem.errors()[0]), ScriptOptions.model_fields)
        raise UsageError(f"--script {one_line(script, MAX_SHOWN)}: {details}") from None
    read_program(str(first_values["command"]), Path.cwd(), "--script")
