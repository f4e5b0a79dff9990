"""What a step exchanges: the sizes of the gradients, and how a backend puts them together into messages."""

from __future__ import annotations

from bench.value import FrozenModel

MIB = 2**20


class GradientBuckets(FrozenModel):
    """How gradients become messages."""

    first_bytes: int
    """A message is closed once it holds this many bytes: the first one …"""
    most_bytes: int
    """… and each further one."""
    laid_out: bool
    """Messages are laid out beforehand, and wait for the last of their gradients; else one takes whatever is ready."""
    overlaps: bool = True
    """Messages travel while the backward pass goes on; else they begin when it has ended."""
    share: float = 1.0
    """Bytes on the wire for each byte of a gradient: a half where float32 is sent as float16."""


class Gradients(FrozenModel):
    """Of one rank. ``tensor_bytes`` are in the order of the model's parameters; they are ready in reverse order."""

    tensor_bytes: tuple[int, ...]
    grouping: GradientBuckets
