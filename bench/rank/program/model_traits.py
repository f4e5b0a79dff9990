"""Why a correct program's losses depend on the number of its ranks."""

from __future__ import annotations

from typing import Any


def why_random(model: Any) -> str | None:
    """What of a model makes the losses of different numbers of ranks differ; ``None`` where nothing is known to.

    Args:
        model: A module; whatever else has no known cause.
    """
    if not hasattr(model, "named_modules"):
        return None
    from torch.nn import MultiheadAttention, SyncBatchNorm
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.dropout import _DropoutNd
    from torch.nn.modules.rnn import RNNBase

    for name, module in model.named_modules():
        title = name or type(module).__name__
        if isinstance(module, _DropoutNd) and module.p > 0:
            return f"it has dropout ({title})"
        if isinstance(module, MultiheadAttention | RNNBase) and module.dropout > 0:
            return f"it has dropout ({title})"
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            return f"batch normalization sees each rank's part of a batch ({title})"
    return None
