"""DDP's communication hooks that compress gradients. All are lossy, and state how the same-work check holds them."""

from __future__ import annotations

from typing import Any, Literal

Compression = Literal["none", "fp16", "bf16", "powersgd"]
DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
"""Of the gradients that are sent, where they are rounded."""
FIRST_COMPRESSED_STEP = 2
"""PowerSGD's steps before it exchange whole gradients: error feedback needs DDP's final buckets."""


class PowerSgd:
    """PowerSGD (Vogels et al. 2019, arXiv:1905.13727) with error feedback: what a step does not send, a later one does.

    Args:
        rank: The rank of the matrices that approximate a gradient.
    """

    def __init__(self, rank: int) -> None:
        from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState

        self.state = PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=FIRST_COMPRESSED_STEP)
        self.places: dict[int, tuple[int, int]] = {}
        """By the identity of a parameter: the bucket of its gradient, and where it begins in there."""

    def exchange(self, bucket: Any) -> Any:
        """Exchange a bucket of gradients; returns a future of it."""
        from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import powerSGD_hook

        offset = 0
        for parameter in bucket.parameters():
            self.places[id(parameter)] = bucket.index(), offset
            offset += parameter.numel()
        return powerSGD_hook(self.state, bucket)

    def withheld(self, parameter: Any) -> Any:
        """The error of this rank that a later step makes up for; ``None`` before the first compressed step."""
        bucket, offset = self.places.get(id(parameter), (-1, 0))
        errors = self.state.error_dict.get(bucket)
        return None if errors is None else errors[offset : offset + parameter.numel()].view_as(parameter)


def compress(model: Any, compression: Compression, rank: int) -> PowerSgd | None:
    """Register the communication hook of a DDP model; returns what holds back gradients."""
    if compression == "none":
        # Without importing the hooks.
        return None
    if compression == "powersgd":
        power_sgd = PowerSgd(rank)
        # DDP refuses a hook whose annotations are strings, as all are in this module: a lambda has none.
        model.register_comm_hook(None, lambda _, bucket: power_sgd.exchange(bucket))
        return power_sgd
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    hook = getattr(default_hooks, f"{compression}_compress_hook")
    # By the name of the bfloat16 hook, DDP refuses it without NCCL, but Gloo adds bfloat16 too: a lambda has none.
    model.register_comm_hook(None, lambda group, bucket: hook(group, bucket))
    return None
