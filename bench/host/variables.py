"""Environment variables of ranks: which are kept from them, and which are recorded since they change what is measured.

A rank inherits the environment of the shell that the harness was started from. Variables of a launcher that ran there
earlier would give the rank another rank's place, and an OpenMP binding would overrule the planned cores: both are
removed. Others change speed and are meant to: they are recorded with each trial. All is pure but
:func:`remove_from_process` and :func:`without_new_variables`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from bench.host.secrets import MASK, is_secret_name, mask_secrets

BINDING = frozenset(
    {
        "OMP_PROC_BIND",
        "OMP_PLACES",
        "GOMP_CPU_AFFINITY",
        "KMP_AFFINITY",
        "KMP_HW_SUBSET",
        "KMP_PLACE_THREADS",
        "KMP_TOPOLOGY_METHOD",
        "HOROVOD_THREAD_AFFINITY",
    }
)
"""Variables by which a library pins threads to cores. The first thread is pinned when the library is loaded."""
PLACE = frozenset(
    {
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "ROLE_RANK",
        "ROLE_NAME",
        "ROLE_WORLD_SIZE",
        "NODE_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
        "OWN_ADDR",
        "SCALING_LAUNCHER_PID",
        "SCALING_NODE",
        "SCALING_NODES",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
        "HYDI_CONTROL_FD",
        "_HOROVOD_SECRET_KEY",
    }
)
"""Variables that say which rank, or which node, a process is and where the others are."""
LAUNCHER = re.compile(
    r"(OMPI|PRTE|ORTE|PMIX|PMI|TORCHELASTIC|MV2_COMM_WORLD)_.*"
    r"|HOROVOD_(RANK|SIZE|HOSTNAME|ELASTIC|CONTROLLER|CPU_OPERATIONS|SECRET_KEY|TASK_ID|NUM_PROC)"
    r"|HOROVOD_(LOCAL|CROSS|GLOO|HOST|SPARK|RENDEZVOUS|WORKER)_.*"
)
"""What mpirun, torchrun and horovodrun set for each rank."""
MPI_TUNING = re.compile(r"OMPI_MCA_(btl|pml|mtl|coll|osc|op|mpi|opal|topo)(_.*)?|(PMIX|PRTE)_MCA_.*")
"""Parameters of Open MPI that users set; its other variables describe a job that runs."""
MPI_PATHS = frozenset({"OPAL_PREFIX", "OPAL_USER_PARAMS_GIVEN"})
"""Users set them where Open MPI was moved, and mpirun for each rank."""
BATCH_SYSTEM = re.compile(r"(SLURM|SLURMD|PBS|LSB|SGE|FLUX|PALS|COBALT)_.*|PE_HOSTFILE")
"""What a batch system sets for a job. A local mpirun would ask that batch system for nodes."""
RECORDED = re.compile(
    r"(TORCH|PYTORCH|TORCHINDUCTOR|TORCHDYNAMO|ATEN|TRITON|NCCL|GLOO|UCX|FI|OMPI_MCA|HOROVOD|DASK"
    r"|OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|DNNL|ONEDNN|CUDA|CUBLAS|CUDNN|MALLOC)_.*"
    r"|LD_PRELOAD|GLIBC_TUNABLES|NVIDIA_TF32_OVERRIDE|PYTHON(MALLOC|DEVMODE|TRACEMALLOC|ASYNCIODEBUG)"
)
UNRECORDED = re.compile(
    # Set for every trial by the harness itself, or by a site, to the chosen interface.
    r"(GLOO|NCCL)_SOCKET_IFNAME|OMPI_MCA_(btl|oob)_tcp_if_include"
    # Which devices, and where files are: neither changes speed, and both change from job to job. Records name the GPUs.
    r"|CUDA_VISIBLE_DEVICES|DASK_INTERNAL_.*|HOROVOD_WITH(OUT)?_.*|.*_(?i:HOME|ROOT|CACHE_DIR|DIRECTORY|ARCH_LIST)"
)
BTL_VARIABLE, NO_TCP = "OMPI_MCA_btl", "^tcp"
"""How ranks under MPI exchange data, and what the harness sets on one host where the user sets nothing."""
TORCHRUN_MARK = "TORCHELASTIC_RUN_ID"
SET_BY_HARNESS = re.compile(
    r"(GLOO|NCCL)_SOCKET_IFNAME|OMPI_MCA_(btl|oob)_tcp_if_include|OMPI_MCA_btl_sm_backing_directory"
    r"|TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC|HOROVOD_GLOO_TIMEOUT_SECONDS|HOROVOD_STALL_SHUTDOWN_TIME_SECONDS"
    r"|DASK_INTERNAL_.*"
)
"""What the harness sets for every rank, whatever the user has set."""
SET_BY_TORCHRUN = frozenset({"OMP_NUM_THREADS", "TORCH_NCCL_ASYNC_ERROR_HANDLING"})
HIDDEN = "(hidden)"
MAX_VALUE_LENGTH = 200
LONG_KEY = re.compile(r"(?=[A-Za-z+=]*\d)(?=[\d+=]*[A-Za-z])[A-Za-z0-9+=]{32,}")
"""A long run of letters and digits is a key or a digest."""
URL_LOGIN = re.compile(r"(?<=://)\S+@")


def is_left_behind(name: str) -> bool:
    """Whether a launcher set the variable for a rank of its own."""
    return name in PLACE or (LAUNCHER.fullmatch(name) is not None and MPI_TUNING.fullmatch(name) is None)


def is_set_by_harness(name: str) -> bool:
    """Whether the harness sets the variable for every rank."""
    return SET_BY_HARNESS.fullmatch(name) is not None


def removed_variables(env: Iterable[str], *, inside_job: bool = False) -> tuple[str, ...]:
    """The names that ranks do not inherit, in alphabetical order.

    Args:
        env: The names of the variables.
        inside_job: The ranks belong to the very job whose batch system set its variables: those stay.
    """
    names = sorted(env)
    paths = MPI_PATHS if "OMPI_COMM_WORLD_RANK" in names else frozenset()
    return tuple(
        name
        for name in names
        if name in BINDING | paths
        or is_left_behind(name)
        or (not inside_job and BATCH_SYSTEM.fullmatch(name) is not None)
    )


def cleaned_environment(env: Mapping[str, str], *, inside_job: bool = False) -> dict[str, str]:
    """The variables that ranks inherit; ``inside_job``: see :func:`removed_variables`."""
    removed = set(removed_variables(env, inside_job=inside_job))
    return {name: value for name, value in env.items() if name not in removed}


def remove_from_process(names: Iterable[str], env: MutableMapping[str, str] = os.environ) -> None:
    """Remove variables from this process, before a library that reads them is loaded."""
    for name in names:
        env.pop(name, None)


@contextmanager
def without_new_variables(env: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Remove variables that are new at the end of the context: a library may set some when it is imported, which the
    ranks would inherit."""
    before = set(env)
    try:
        yield
    finally:
        remove_from_process(set(env) - before, env)


def preloaded_binding(env: Mapping[str, str]) -> tuple[str, ...]:
    """The bindings that an OpenMP library applies before this process runs a line of its own: with ``LD_PRELOAD``."""
    preloaded = re.search(r"omp[^/ :]*\.so", env.get("LD_PRELOAD", ""))
    return tuple(sorted(BINDING & env.keys())) if preloaded else ()


def recorded_variables(env: Mapping[str, str], given: Collection[str] = ()) -> dict[str, str]:
    """The variables that change what is measured, by name; what may be a secret is replaced by :data:`HIDDEN`.

    Variables that ranks do not inherit, and those that the harness or a launcher sets for every rank, are left out.

    Args:
        env: The environment of a rank.
        given: The names of the variables that its case gives it, which are recorded whatever they are.
    """
    own = SET_BY_TORCHRUN if TORCHRUN_MARK in env else frozenset()
    removed = set(removed_variables(env))
    own |= {BTL_VARIABLE} if env.get(BTL_VARIABLE) == NO_TCP else frozenset()
    left_out = removed | own
    names = [
        name
        for name in sorted(env)
        if name in given or (RECORDED.fullmatch(name) and not UNRECORDED.fullmatch(name) and name not in left_out)
    ]
    return {name: _without_secrets(name, env[name]) for name in names}


def _without_secrets(name: str, value: str) -> str:
    if is_secret_name(name):
        return HIDDEN
    masked = mask_secrets(URL_LOGIN.sub(f"{MASK}@", value)).replace(MASK, HIDDEN)
    shown = LONG_KEY.sub(HIDDEN, masked)
    return shown if len(shown) <= MAX_VALUE_LENGTH else f"{shown[:MAX_VALUE_LENGTH]}…"
