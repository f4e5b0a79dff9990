"""What to do with a Python file that was given where a name is expected."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.host.paths import from_home
from bench.plugins.sources import PluginError, read_plugin_file
from harness.errors import suggest_name


def suggest_option(text: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the option that takes a Python file, else the nearest known name.

    Args:
        text: What was given: ``lm``, ``./train_lm.py``, ``train_lm:LM``.
        known: The known names.
    """
    path = text.partition(":")[0]
    if not path.endswith(".py") and not (":" in text and Path(f"{path}.py").is_file()):
        return suggest_name(text, known)
    file = path if path.endswith(".py") else f"{path}.py"
    try:
        source = read_plugin_file(from_home(file))
    except PluginError as problem:
        return f": {problem}"
    for attribute, option in (("WORKLOAD", "--workloads"), ("BACKEND", "--backends")):
        if f"\n{attribute} =" in source or f"\n{attribute}:" in source:
            return f"; a {attribute.lower()} in a file is named by --plugin {file} {option} NAME"
    return (
        f"; a program is measured as it is by --script {file}, and a model in a few lines: "
        "`python -m harness new workload NAME`"
    )
