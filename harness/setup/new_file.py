"""Writes the file of a plugin of the user's own, which works as it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.core.names import UnsafeName, check_name
from harness.errors import UsageError, suggest_name
from harness.output_files import OutputFile, write_output
from harness.sweep.plugins import plugin_kinds

TEMPLATES = Path(__file__).with_name("templates")
SUFFIX = ".py.txt"
PLACEHOLDER = "NAME"
NEXT_STEPS = {"workload": "python -m harness try {file}"}
CHECK = "python -m harness doctor --plugin {file}"


class NewFile(NamedTuple):
    """A file that was written."""

    kind: str
    name: str
    file: str
    next_step: str
    """The command that runs or checks it."""


def kinds() -> list[str]:
    """The kinds of plugin that there is a template of."""
    return sorted(path.name.removesuffix(SUFFIX) for path in TEMPLATES.glob(f"*{SUFFIX}"))


def write_new_file(kind: str, name: str) -> NewFile:
    """Write ``NAME.py`` into the current folder.

    Raises:
        UsageError: The kind is unknown, or the name is none, or taken.
        OutputError: The file can't be written, or is there already.
    """
    command = f"new {kind} {name}"
    if kind not in kinds():
        raise UsageError(f"{command}: there is no template of this kind{suggest_name(kind, kinds())}")
    try:
        check_name(name)
    except UnsafeName as problem:
        raise UsageError(f"{command}: {problem}") from None
    taken = next(found.names() for found in plugin_kinds() if found.name == kind)
    if name in taken:
        raise UsageError(f"{command}: there is a {kind} '{name}' already; choose another name")
    file = f"{name}.py"
    text = (TEMPLATES / f"{kind}{SUFFIX}").read_text(encoding="utf-8").replace(PLACEHOLDER, name)
    write_output(OutputFile(f"new {kind}", Path(file), signature=None), text)
    return NewFile(kind, name, file, NEXT_STEPS.get(kind, CHECK).format(file=file))
