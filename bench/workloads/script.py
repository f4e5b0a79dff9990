"""A user's own program, unchanged: a Python script, under the launcher that the backend stands for.

Its ranks run no code of this project's workloads: :mod:`bench.rank.program` watches the program from outside.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.core.case import Case, Scalar, Scaling
from bench.core.script_command import CommandProblem, parse_command
from bench.plugins.backend import Session
from bench.plugins.workload import Options, Work, Workload
from bench.rank.program.options import ScriptOptions


class Script(Workload):
    name = "script"
    summary = "a program of your own, unchanged (--script)"
    kind = "program"
    options = ScriptOptions
    scalings = ("weak", "strong")
    uses_batch = False

    def default_scaling(self, options: Options) -> Scaling:
        """Programs say the batch of a rank, unless the samples of a step are given for all ranks together."""
        total = isinstance(options, ScriptOptions) and options.samples_per_step.isdigit()
        return "strong" if total else "weak"

    def split_axes(self, axes: Mapping[str, tuple[Scalar, ...]]) -> list[Mapping[str, tuple[Scalar, ...]]]:
        """A product for each command, with the axes of its arguments."""
        products: list[Mapping[str, tuple[Scalar, ...]]] = []
        for command in axes.get("command", ("",)):
            parsed = parse_command(str(command))
            if taken := [name for name in parsed.axes if name in ScriptOptions.model_fields]:
                raise CommandProblem(f"{{{taken[0]}=…}}: {taken[0]} is an option of script; choose another name")
            products.append({**axes, "command": (parsed.template,), **parsed.axes})
        return products

    def build(self, case: Case, session: Session) -> Work:
        raise NotImplementedError("a program is run, not built: see bench.rank.program")


WORKLOAD = Script()
