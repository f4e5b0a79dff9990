"""The title of a case of a user's program: its script and the arguments that are the same in all cases. All is pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from bench.core.case import Case, Scalar
from bench.core.script_command import CommandProblem, split_command
from bench.core.text import one_line
from bench.host.secrets import mask_command

MAX_SCRIPT_LENGTH, MAX_ARGUMENTS_LENGTH = 40, 60
HIDDEN_OPTIONS = frozenset({"command", "metric", "metric_scope", "unit"})
"""They say how a program is run and counted; what tells cases apart are its arguments."""
PLACEHOLDER = re.compile(r"\{\w+\}")


def is_program(case: Case) -> bool:
    """Whether the case runs a user's program, and says by which command."""
    return case.program is not None and bool(str(case.workload_options.get("command", "")).strip())


def program_title(case: Case) -> str:
    """``train.py --epochs 1``: without the arguments that are axes or the number of ranks, and without secrets."""
    words = _words(str(case.workload_options.get("command", "")))
    count = 2 if words[:1] == ["-m"] else 1
    script, arguments = words[:count], mask_command(list(_fixed(words[count:])))
    return " ".join(filter(None, (_short_path(" ".join(script)), one_line(arguments, MAX_ARGUMENTS_LENGTH))))


def program_options(case: Case) -> dict[str, Scalar]:
    """The values of its axes, and the options that change what is measured."""
    return {name: value for name, value in case.workload_options.items() if name not in HIDDEN_OPTIONS}


def _words(command: str) -> Sequence[str]:
    try:
        return split_command(command)
    except CommandProblem:
        # Of a stored case, which need not be one that is planned today.
        return command.split()


def _fixed(words: Sequence[str]) -> Iterator[str]:
    """The words without placeholders, nor the flags that stand before one."""
    for word, following in itertools.pairwise([*words, ""]):
        belongs = word.startswith("-") and "=" not in word and PLACEHOLDER.search(following)
        if not belongs and not PLACEHOLDER.search(word):
            yield word


def _short_path(path: str) -> str:
    """A path as it was given where that is short, else with the folder that holds it alone."""
    if len(path) <= MAX_SCRIPT_LENGTH:
        return one_line(path)
    return "…/" + one_line("/".join(path.split("/")[-2:]), MAX_SCRIPT_LENGTH)
