"""Options of sbatch that users may add to a Slurm job."""

from __future__ import annotations

import re
from collections.abc import Set

SAFE_SBATCH_OPTIONS = {
    "comment",
    "contiguous",
    "core-spec",
    "cpu-freq",
    "exclude",
    "gpu-freq",
    "gres",
    "gres-flags",
    "hint",
    "licenses",
    "mem-per-cpu",
    "mem-per-gpu",
    "nice",
    "nodelist",
    "reservation",
    "switches",
    "threads-per-core",
    "tmp",
    "wckey",
}
"""Options of sbatch that change where a job runs or what it is billed to, and nothing that the harness relies on."""


def check_sbatch_options(text: str, safe: Set[str]) -> str:
    """Check further options of sbatch that a user gives, for the sites that submit Slurm jobs (pure).

    Args:
        text: Words such as ``--qos=long``.
        safe: Names of the options that are allowed.

    Returns:
        The text.

    Raises:
        ValueError: A word is not an option, or none that is allowed.
    """
    for word in text.split():
        option = re.fullmatch(r"--([a-z][a-z-]*)(=[A-Za-z0-9_.,:/@%+\[\]-]+)?", word)
        if option is None:
            raise ValueError(f"'{word}' is not like --name or --name=value")
        if option[1] not in safe:
            raise ValueError(f"--{option[1]} is not one of {', '.join(sorted(safe))}")
    return text
