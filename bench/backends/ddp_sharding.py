"""An optimizer whose state is sharded over the ranks of DDP: ``torch.distributed.optim.ZeroRedundancyOptimizer``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.plugins.backend import MakeOptimizer


def shard_optimizer(model: Any, make: MakeOptimizer, is_exchanging: Callable[[], bool]) -> Any:
    """An optimizer each of whose ranks updates some of the parameters, whole ones, and broadcasts them.

    Args:
        model: A DDP model.
        make: Makes the optimizer that is sharded, over all parameters. It has to create the state of a parameter when
            it first updates it, as torch's optimizers do.
        is_exchanging: Whether a step ends with the broadcast; else the rank's own parameters are updated alone.

    Returns:
        A ``torch.optim.Optimizer``. Its ``state_dict`` and ``load_state_dict`` are those of this rank's share; after
        ``consolidate_state_dict(to=rank)`` on every rank, ``whole_state_dict`` of that rank is everything.
    """
    from torch.distributed.optim import ZeroRedundancyOptimizer

    whole = make(model.parameters())

    def make_share(groups: list[dict[str, Any]], **_: Any) -> Any:
        """The same optimizer over this rank's share of each group of parameters."""
        share = make(model.parameters())
        for own, group in zip(groups, share.param_groups, strict=True):
            group["params"] = own["params"]
        return share

    class ShardedOptimizer(ZeroRedundancyOptimizer):
        def step(self, closure: Any = None, **arguments: Any) -> Any:
            if is_exchanging():
                return super().step(closure, **arguments)
            return self.optim.step(closure, **arguments) if closure else self.optim.step(**arguments)

        def state_dict(self) -> dict[str, Any]:
            # The whole state is on no rank before it is consolidated, which communicates.
            state: dict[str, Any] = self.optim.state_dict()
            return state

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.optim.load_state_dict(state_dict)

        def whole_state_dict(self) -> dict[str, Any]:
            state: dict[str, Any] = super().state_dict()
            return state

    return ShardedOptimizer(whole.param_groups, optimizer_class=make_share)
