"""The gradients of a step, as a backend exchanges them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.core.bounds import Bytes, Work
from bench.core.frozen_model import FrozenModel


class GradientBuckets(FrozenModel):
    """How a backend groups gradients into messages."""

    first_bytes: Bytes
    """The size at which the first message is full, in bytes."""
    most_bytes: Bytes
    """The size at which each further message is full, in bytes."""
    laid_out: bool
    """Whether gradients are assigned to messages beforehand, and a message waits for the last of its gradients; else a
    message takes the gradients that are ready."""
    overlaps: bool = True
    """Whether messages are sent during the backward pass; else they are sent after it."""
    share: Work = 1.0
    """Bytes sent per byte of a gradient: 0.5 where float32 is sent as float16."""


class Gradients(FrozenModel):
    """The gradients of one rank."""

    tensor_bytes: tuple[Bytes, ...]
    """Sizes in the order of the model's parameters; gradients become ready in reverse order."""
    grouping: GradientBuckets


class ShardedUnits(FrozenModel):
    """The parts of a model that are gathered and scattered one by one: each rank holds a shard of every parameter."""

    unit_bytes: Annotated[tuple[Bytes, ...], Field(min_length=1)]
    """The parameters of each unit in bytes, as they are stored, about in the order of the forward pass."""
    gathered_again: bool
    """Whether parameters are freed after the forward pass, and gathered again for the backward pass."""
    overlaps: bool
    """Whether the exchange of one unit travels beside the compute of another."""
    gather_share: Work = 1.0
    """Bytes gathered per byte of a parameter: 0.5 where float32 is gathered as bfloat16."""
    reduce_share: Work = 1.0
    """Bytes reduced per byte of a parameter."""
