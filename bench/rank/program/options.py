"""The options of a sweep of a user's program, read by the plan and by its ranks."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from bench.core.bounds import unit_problem
from bench.core.case import Case
from bench.core.script_command import (
    MAX_COMMAND_LENGTH,
    RANKS,
    CommandProblem,
    fill_command,
    placeholder_names,
    split_command,
)
from bench.plugins.backend import Options

SAMPLES = re.compile(r"(\d{1,15})(/rank)?")


class ScriptOptions(Options):
    """Beside the declared options it has one for each axis of its command, under the axis's name."""

    model_config = ConfigDict(extra="allow")

    command: str = Field(
        "",
        max_length=MAX_COMMAND_LENGTH,
        description="a Python script with its arguments, such as 'train.py --batch {batch=32,64}'",
    )
    samples_per_step: str = Field(
        "", description="samples of an optimizer step: 64 of all ranks, 64/rank of each; else as its DataLoader yields"
    )
    unit: str = Field("", description="what samples_per_step and metric count, such as tokens")
    metric: str = Field("", description="a regular expression with one group: the rate that the program prints")
    metric_scope: Literal["rank", "total"] = Field(
        "total", description="whether a printed rate is that of one rank or of all"
    )
    whole: bool = Field(False, description="let the program end by itself; else it is stopped after its window")

    @field_validator("samples_per_step")
    @classmethod
    def _check_samples(cls, value: str) -> str:
        if value and (not (found := SAMPLES.fullmatch(value)) or int(found[1]) == 0):
            raise ValueError("is no number of samples: 64 of all ranks together, or 64/rank")
        return value

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str) -> str:
        if value and (problem := unit_problem(value)):
            raise ValueError(problem)
        return value

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, value: str) -> str:
        if not value:
            return value
        try:
            groups = re.compile(value).groups
        except re.error as problem:
            raise ValueError(f"is no regular expression ({problem})") from None
        if groups != 1:
            raise ValueError(f"has {groups} groups; put the number alone in one, such as 'throughput: ([0-9.]+) img/s'")
        return value

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        names, given = placeholder_names(self.command), self.axes
        split_command(self.command)
        if unknown := [name for name in given if name not in names]:
            raise ValueError(f"{unknown[0]} is neither an option nor an axis of the command")
        if missing := [name for name in names if name not in given]:
            raise CommandProblem(f"unknown {{{missing[0]}}}: give it values, such as {{{missing[0]}=32,64}}")
        return self

    @property
    def axes(self) -> dict[str, bool | int | float | str]:
        """The value of each axis of the command."""
        return dict(self.model_extra or {})

    def samples_of_all_ranks(self, ranks: int) -> float | None:
        """What all ranks together process in an optimizer step; ``None``: it is not given."""
        found = SAMPLES.fullmatch(self.samples_per_step)
        return None if found is None else float(found[1]) * (ranks if found[2] else 1)


def options_of(case: Case) -> ScriptOptions:
    """The options of a case of a program."""
    return ScriptOptions.model_validate(case.workload_options)


def needs_given_steps(case: Case) -> bool:
    """Whether a program's ranks have to agree on its window over several nodes (pure)."""
    shares_memory = case.nodes == 1 or case.net is not None
    return not shares_memory and case.steps is None and not options_of(case).whole


def command_words(case: Case) -> tuple[str, ...]:
    """The command of a case as words: the script and its arguments."""
    options = options_of(case)
    return fill_command(options.command, {**options.axes, RANKS: case.ranks})
