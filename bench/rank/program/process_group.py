"""The process group of a program: of no more ranks than there are, since it would wait for the others; and whether it
has one at all."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

PROCESS_GROUP_MODULE = "torch.distributed.distributed_c10d"
"""It has ``init_process_group``."""
WORLD_SIZE_ARGUMENT = 3
"""The position of its ``world_size``."""
OTHER_GROUPS = ("horovod.torch", "mpi4py")
"""Modules by which ranks exchange without torch's process group; one that is imported may be in use."""


def limit_ranks(module: ModuleType, world: int, too_many: Callable[[int], Any]) -> None:
    """Have a program that asks for too many ranks end at once, and not when the time of its trial is up.

    Args:
        module: :data:`PROCESS_GROUP_MODULE`.
        world: How many ranks there are.
        too_many: Called with the number of ranks that the program asks for.
    """
    begin: Any = module.__dict__["init_process_group"]

    @functools.wraps(begin)
    def init_process_group(*arguments: Any, **named: Any) -> Any:
        asked = named.get("world_size", arguments[WORLD_SIZE_ARGUMENT] if len(arguments) > WORLD_SIZE_ARGUMENT else -1)
        if isinstance(asked, int) and asked > world:
            too_many(asked)
        return begin(*arguments, **named)

    module.__dict__["init_process_group"] = init_process_group


def joined_others() -> bool | None:
    """Whether the program of this process has a way to exchange with other ranks: a process group of torch with several
    ranks, Horovod or mpi4py. ``None``: it uses another framework."""
    if "torch" not in sys.modules:
        return None
    if any(name in sys.modules for name in OTHER_GROUPS):
        return True
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    return bool(distributed.get_world_size() > 1)
