"""What all launchers share: the command of one process of a trial."""

from __future__ import annotations

WORKER_MODULE = "bench.rank.worker"


def worker_arguments(case_file: str, folder: str, role: str = "rank") -> tuple[str, ...]:
    """The arguments of :mod:`bench.rank.worker` (pure).

    Args:
        case_file: The file with the case as JSON.
        folder: Where the process leaves its record and its failure.
        role: The name of the role that the process plays.
    """
    return ("--case", case_file, "--role", role, "--out", folder)


def worker_command(python: str, case_file: str, folder: str, role: str = "rank") -> tuple[str, ...]:
    """The argument list that starts :mod:`bench.rank.worker` under the interpreter ``python`` (pure)."""
    return (python, "-m", WORKER_MODULE, *worker_arguments(case_file, folder, role))
