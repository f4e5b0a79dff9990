"""Environment variables that a case gives its ranks (``--env``): which may be given, and the process that has them.

A library may read a variable when it is loaded, or before ``main`` runs. A process that lacks one of its case's
variables therefore begins again, as a new interpreter that has all of them from its start, whatever started it: an
agent's forkserver, mpirun, torchrun, horovodrun or srun. It sets those of :data:`READ_BY_EXCHANGE` itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

from bench.host.secrets import has_secret, is_secret_name
from bench.host.variables import (
    BATCH_SYSTEM,
    BINDING,
    BTL_VARIABLE,
    LONG_KEY,
    MPI_PATHS,
    RECORDED,
    is_left_behind,
    is_set_by_harness,
    remove_from_process,
)

THREADS = re.compile(r"(OMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|NUMEXPR_MAX|HOROVOD|RAYON)_(NUM_)?THREADS")
PROCESS = re.compile(
    r"LD_.*|DYLD_.*|PYTHON.*|(VIRTUAL_ENV|CONDA|SCALING)(_.*)?|PATH|HOME|USER|SHELL|PWD|TMPDIR|TEMP|TMP"
)
"""What decides which code a process runs and where its files are."""
READ_BY_EXCHANGE = re.compile(r"(NCCL|GLOO|HOROVOD|OMPI_MCA)_.*")
"""What libraries read when ranks join each other, and not when they are loaded."""
BEGUN_AGAIN_VARIABLE = "SCALING_BEGUN_AGAIN"
"""Holds the id of a process that has begun again, so that it does so once."""


def refusal_of(name: str, value: str) -> str | None:
    """Why a case can't give its ranks this variable, in one line with the remedy; ``None`` where it can (pure)."""
    if is_secret_name(name) or has_secret(f"{name}={value}") or LONG_KEY.search(value):
        return "looks like a secret, and cases are stored and shown: set it in the environment of the ranks instead"
    if name in BINDING:
        return "pins threads to cores, which the plan gives to each rank: leave it out"
    if THREADS.fullmatch(name):
        return "is the number of threads of a rank: use --threads"
    if name == "CUDA_VISIBLE_DEVICES" or name in MPI_PATHS or is_left_behind(name) or BATCH_SYSTEM.fullmatch(name):
        return "tells a rank its place, which its launcher does: leave it out"
    if is_set_by_harness(name) or (name == BTL_VARIABLE and not value):
        return "is set for each rank by the harness: leave it out"
    if name == "LD_PRELOAD" or (PROCESS.fullmatch(name) and not RECORDED.fullmatch(name)):
        return "decides which code a rank runs, or where its files are, for each rank alike: leave it out"
    return None


def with_given(env: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """An environment with the variables of a case (pure). One with an empty value is removed."""
    return {name: value for name, value in {**env, **given}.items() if value or name not in given}


def begin_again_with(given: Mapping[str, str], module: str, arguments: Sequence[str]) -> None:
    """Replace this process by a new interpreter with the variables of its case; return once it has them.

    The process keeps its id, its open standard streams and its working directory.

    Args:
        given: The variables of the case; an empty value removes one.
        module: The module that the interpreter runs.
        arguments: The arguments of that module.

    Raises:
        RuntimeError: The new interpreter does not have them either.
    """
    wanted = with_given(os.environ, given)
    differing = sorted(name for name in given if os.environ.get(name) != wanted.get(name))
    if all(READ_BY_EXCHANGE.fullmatch(name) for name in differing):
        remove_from_process(differing)
        os.environ.update(wanted)
        return
    own_id = str(os.getpid())
    if os.environ.get(BEGUN_AGAIN_VARIABLE) == own_id:
        raise RuntimeError(
            f"{', '.join(differing)} (--env) is changed where Python starts ({sys.executable}): look for a wrapper "
            "script or a sitecustomize module that sets it"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, wanted | {BEGUN_AGAIN_VARIABLE: own_id})
