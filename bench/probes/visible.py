"""Which of the GPUs found here a CUDA program would use: ``CUDA_VISIBLE_DEVICES``, read the way CUDA reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HIDING = frozenset({"", "-1", "NoDevFiles"})
"""Entries that name no GPU on purpose; CUDA stops at them as it does at a mistake."""


class SliceFound(NamedTuple):
    """A MIG slice."""

    id: str
    name: str
    gpu_instance: int
    compute_instance: int


class GpuFound(NamedTuple):
    """A whole GPU, and its slices where it is in MIG mode."""

    id: str
    name: str
    mig: bool = False
    slices: tuple[SliceFound, ...] = ()

    @property
    def usable(self) -> tuple[str, ...]:
        """What programs can be given of it. CUDA itself uses one slice only, unless slices are named."""
        return tuple(part.id for part in self.slices) if self.mig else (self.id,)


class Choice(NamedTuple):
    ids: tuple[str, ...]
    problems: tuple[str, ...] = ()


def choose_devices(visible: str | None, found: Sequence[GpuFound], order: str | None = None) -> Choice:
    """The ids of the devices that ``visible`` names, in its order. ``found`` is in the order of the PCI bus.

    ``order`` is ``CUDA_DEVICE_ORDER``: indexes count along it.
    """
    if visible is None:
        bare = [f"{gpu.id} is in MIG mode and has no slices" for gpu in found if not gpu.usable]
        return Choice(tuple(name for gpu in found for name in gpu.usable), tuple(bare))
    chosen: list[str] = []
    problems: list[str] = []
    entries = [entry.strip() for entry in visible.split(",")]
    for entry in entries:
        named = () if entry in HIDING else _named(entry, found)
        if not named:
            if entry not in HIDING:
                problems.append(f"CUDA_VISIBLE_DEVICES: CUDA stops at {entry!r}, which names no single GPU here")
            break
        chosen += named
    if len(set(chosen)) < len(chosen):
        return Choice((), ("CUDA_VISIBLE_DEVICES names a GPU twice: CUDA then uses none",))
    if _ambiguous(entries, found, order):
        problems.append(
            "CUDA_VISIBLE_DEVICES counts GPUs of different models: CUDA's count starts at the fastest, this one "
            "follows the PCI bus; set CUDA_DEVICE_ORDER=PCI_BUS_ID or name UUIDs"
        )
    return Choice(tuple(chosen), tuple(problems))


def _named(entry: str, found: Sequence[GpuFound]) -> tuple[str, ...]:
    """What one entry stands for; nothing where it stands for no device or for more than one."""
    if entry.isdecimal():
        return found[int(entry)].usable if int(entry) < len(found) else ()
    if entry.startswith("MIG-"):
        names = {
            name: part.id
            for gpu in found
            for part in gpu.slices
            for name in (part.id, f"MIG-{gpu.id}/{part.gpu_instance}/{part.compute_instance}")
        }
        # Only a UUID may be cut short: of an instance's number, /1 would fit /11 too.
        fits = {entry} & names.keys() or {name for name in names if name.startswith(entry) and "/" not in name}
        return (names[fits.pop()],) if len(fits) == 1 else ()
    gpus = [gpu for gpu in found if entry.startswith("GPU-") and gpu.id.startswith(entry)]
    return gpus[0].usable if len(gpus) == 1 else ()


def _ambiguous(entries: Sequence[str], found: Sequence[GpuFound], order: str | None) -> bool:
    counted = any(entry.isdecimal() for entry in entries)
    return counted and order != "PCI_BUS_ID" and len({gpu.name for gpu in found}) > 1
