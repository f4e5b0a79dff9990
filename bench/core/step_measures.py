"""What a rank measures of its steps beside their times: their work, their parts, and what measuring them costs."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from bench.core.bounds import Amount, Bytes, Duration, PositiveCount, StepDuration, Work
from bench.core.collectives import Collective
from bench.core.frozen_model import FrozenModel


class StepWork(FrozenModel):
    """The work of one training step on one rank, without the exchange; see :mod:`bench.rank.roofline`."""

    flops: Work
    """Floating-point operations of matrix products, convolutions and attention, forward and backward, each once."""
    executed_flops: Work | None = None
    """The same with those of activations that the backward pass computes again; ``None``: it computes none again."""
    bytes_moved: Work
    """Bytes that its operations read and write: an upper bound of the memory traffic."""
    dtypes: tuple[str, ...]
    """The floating-point types that it computes in, such as ``float32``."""
    product_dtypes: tuple[str, ...] = ()
    """Those of :attr:`flops`, by their results: ``bfloat16``, or ``tf32`` where float32 is multiplied as that; empty in
    older records."""


class PrecisionPeak(FrozenModel):
    """The peak rate of a device in one further type, or the reason why there is none."""

    dtype: str
    flop_s: Amount | None
    """Floating-point operations per second of a matrix product."""
    reason: str | None = None


class DevicePeak(FrozenModel):
    """The peak rates of this rank's device, measured on all ranks at the same time; see :mod:`bench.rank.peak`."""

    flop_s: Amount
    """Floating-point operations per second of a matrix product."""
    bytes_s: Amount
    """Bytes per second of a copy, read and written."""
    how: str
    dtype: str = "float32"
    """The type of the product's matrices; ``tf32``: float32, multiplied as that."""
    clock_hz: Amount | None = None
    """The clock of a GPU's multiprocessors under this load, in hertz."""
    power_cap_w: Amount | None = None
    """The power limit of a GPU at that time, in watts."""
    limits_reason: str | None = None
    """Why the clock or the limit is unknown."""
    precisions: tuple[PrecisionPeak, ...] = ()
    """A GPU's other types; a CPU's are not measured."""


class PhaseTimes(FrozenModel):
    """One rank's raw times for the decomposition of a step; see :mod:`bench.rank.decompose`."""

    together_s: Annotated[tuple[StepDuration, ...], Field(min_length=1)]
    """Durations of ordinary steps, including the exchange."""
    alone_s: dict[str, Annotated[tuple[Duration, ...], Field(min_length=1)]]
    """Durations of the parts of steps without exchange: ``data``, ``forward``, ``backward``, ``optimizer``."""
    digest: str
    """SHA-256 of the parameters afterwards, which must be equal on all ranks."""
    alone_step_s: tuple[Duration, ...] | None = None
    """Durations of whole steps without exchange. ``None`` for a single rank, whose ordinary steps exchange nothing, and
    in records from before whole steps were timed."""


class Overhead(FrozenModel):
    """Durations of blocks of steps, alternately with and without the harness's own measuring.

    The k-th blocks of both kinds are neighbours in time.
    """

    steps: PositiveCount
    """Steps per block."""
    watched_s: tuple[StepDuration, ...]
    unwatched_s: tuple[StepDuration, ...]
    multiple: PositiveCount = 1
    """How many times as much as usual was measured in the blocks with measuring: steps were timed and the node sampled
    so many times as often, so that what it costs exceeds the noise of the blocks."""

    @model_validator(mode="after")
    def _neighbours(self) -> Self:
        if len(self.watched_s) != len(self.unwatched_s) or not self.watched_s:
            raise ValueError("it has no pairs of blocks")
        return self


class QueuedSteps(FrozenModel):
    """Durations of a step on the device, per block: of steps whose launches all waited in the device's queue, and of
    ordinary ones, which the host enqueued meanwhile; see :mod:`bench.rank.device_busy`.

    The k-th blocks of both kinds are neighbours in time.
    """

    exchanged: bool
    """Whether the steps exchanged gradients."""
    steps: PositiveCount
    """Steps per block."""
    queued_s: tuple[StepDuration, ...]
    """The mean step of each block, in seconds."""
    stepped_s: tuple[StepDuration, ...]

    @model_validator(mode="after")
    def _neighbours(self) -> Self:
        if len(self.queued_s) != len(self.stepped_s) or not self.queued_s:
            raise ValueError("it has no pairs of blocks")
        return self


class MessageTiming(FrozenModel):
    """Durations of a collective operation over one message size on one rank."""

    message_bytes: Bytes
    """As :mod:`bench.core.collectives` defines it."""
    times_s: Annotated[tuple[StepDuration, ...], Field(min_length=1)]
    operation: Collective = "all_reduce"
    in_place: bool | None = None
    """Whether the result replaced what the rank handed in; ``None``: unknown."""
