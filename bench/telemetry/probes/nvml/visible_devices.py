"""Which GPUs of this node a CUDA program would use: reads ``CUDA_VISIBLE_DEVICES`` as CUDA does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NO_DEVICE_ENTRIES = frozenset({"", "-1", "NoDevFiles"})
"""Entries that select no GPU on purpose. CUDA ignores what follows them, as it does with invalid entries."""


class MigSlice(NamedTuple):
    """A MIG slice of a GPU; ``id`` is its UUID."""

    id: str
    name: str
    gpu_instance: int
    compute_instance: int


class GpuInfo(NamedTuple):
    """A whole GPU, with its slices if it is in MIG mode; ``id`` is its UUID."""

    id: str
    name: str
    mig: bool = False
    slices: tuple[MigSlice, ...] = ()

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The ids of the devices that programs can use: its slices in MIG mode, else the GPU itself."""
        return tuple(mig_slice.id for mig_slice in self.slices) if self.mig else (self.id,)


class DeviceChoice(NamedTuple):
    """The devices that are used, and what is wrong with the variables."""

    ids: tuple[str, ...]
    problems: tuple[str, ...] = ()


def choose_devices(visible: str | None, all_gpus: Sequence[GpuInfo], order: str | None = None) -> DeviceChoice:
    """The ids of the devices that are visible to a CUDA program, in its order (pure).

    Args:
        visible: The value of ``CUDA_VISIBLE_DEVICES``; ``None``: it is not set, and all devices are visible.
        all_gpus: The GPUs of the node, in the order of the PCI bus.
        order: The value of ``CUDA_DEVICE_ORDER``, which indexes refer to.
    """
    if visible is None:
        mig_without_slices = [f"{gpu.id} is in MIG mode and has no slices" for gpu in all_gpus if not gpu.device_ids]
        return DeviceChoice(tuple(name for gpu in all_gpus for name in gpu.device_ids), tuple(mig_without_slices))
    chosen: list[str] = []
    problems: list[str] = []
    entries = [entry.strip() for entry in visible.split(",")]
    for entry in entries:
        entry_ids = () if entry in NO_DEVICE_ENTRIES else _resolve_entry(entry, all_gpus)
        if not entry_ids:
            if entry not in NO_DEVICE_ENTRIES:
                problems.append(f"CUDA_VISIBLE_DEVICES: CUDA stops at {entry!r}, which names no single GPU here")
            break
        chosen += entry_ids
    if len(set(chosen)) < len(chosen):
        return DeviceChoice((), ("CUDA_VISIBLE_DEVICES names a GPU twice: CUDA then uses none",))
    if _ambiguous(entries, all_gpus, order):
        problems.append(
            "CUDA_VISIBLE_DEVICES counts GPUs of different models: CUDA's count starts at the fastest, this one "
            "follows the PCI bus; set CUDA_DEVICE_ORDER=PCI_BUS_ID or name UUIDs"
        )
    return DeviceChoice(tuple(chosen), tuple(problems))


def _resolve_entry(entry: str, all_gpus: Sequence[GpuInfo]) -> tuple[str, ...]:
    """The ids that one entry stands for; none where it stands for no device or for several."""
    if entry.isdecimal():
        return all_gpus[int(entry)].device_ids if int(entry) < len(all_gpus) else ()
    if entry.startswith("MIG-"):
        names = {
            name: mig_slice.id
            for gpu in all_gpus
            for mig_slice in gpu.slices
            for name in (mig_slice.id, f"MIG-{gpu.id}/{mig_slice.gpu_instance}/{mig_slice.compute_instance}")
        }
        # Only a UUID may be abbreviated: of instance numbers, /1 would match /11 too.
        matches = {entry} & names.keys() or {name for name in names if name.startswith(entry) and "/" not in name}
        return (names[matches.pop()],) if len(matches) == 1 else ()
    gpus = [gpu for gpu in all_gpus if entry.startswith("GPU-") and gpu.id.startswith(entry)]
    return gpus[0].device_ids if len(gpus) == 1 else ()


def _ambiguous(entries: Sequence[str], all_gpus: Sequence[GpuInfo], order: str | None) -> bool:
    counted = any(entry.isdecimal() for entry in entries)
    return counted and order != "PCI_BUS_ID" and len({gpu.name for gpu in all_gpus}) > 1
