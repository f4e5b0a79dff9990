"""What a roofline is made of, as values: the work of one step on one rank, and the most its device can do."""

from __future__ import annotations

from bench.value import FrozenModel


class StepWork(FrozenModel):
    """One training step of one rank, without the exchange; see :mod:`bench.step_work`."""

    flops: float
    """Of its matrix products, convolutions and attention, forward and backward."""
    bytes_moved: float
    """What its operations read and write: an upper bound."""
    dtypes: tuple[str, ...]
    """The floating-point types it computes in: ``float32``."""


class DevicePeak(FrozenModel):
    """The most that this rank got from its device while all ranks tried; see :mod:`bench.device_peak`."""

    flop_s: float
    """Of a float32 matrix product."""
    bytes_s: float
    """Of a copy: bytes read and bytes written."""
    how: str
