"""Counts what torch's DataLoader yields to a program, without a change of the program."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from bench.rank.program.marks import SLOTS

MAX_DEPTH = 4
TOKENS = "tokens"
INTEGERS = ("int64", "int32", "int16", "uint8")
SLOT = "_scaling_slot"
"""The name of an iterator's attribute: the number of its DataLoader."""


class BatchCounter:
    """The batches that the DataLoaders of a program have yielded, by the data set that they read.

    Args:
        unit: What is counted; ``tokens``: the elements of a batch's first tensor of integers; else its samples.
    """

    def __init__(self, unit: str) -> None:
        self.amounts = [0.0] * SLOTS
        """What each loader has yielded so far."""
        self.spans_ns = [0] * SLOTS
        """The time from the first to the last batch between two steps, over all steps."""
        self.used = 0
        """How many loaders are told apart."""
        self.last_used = 0
        """The number of the one that has yielded last."""
        self.first_ns = 0
        """When the first batch was begun, on the monotonic clock; 0: there was none."""
        self.spent_ns = 0
        """The time that counting has taken."""
        self._began_ns, self._ended_ns = [0] * SLOTS, [0] * SLOTS
        self._slots: dict[int, int] = {}  # by data set, the one that began last at the end
        self._size = token_count if unit == TOKENS else sample_count

    def install(self, module: ModuleType) -> None:
        """Count what the iterators of ``torch.utils.data.dataloader`` yield. Those of subclasses, and of what wraps a
        DataLoader, are theirs: a batch counts once."""
        iterator: Any = module._BaseDataLoaderIter
        begin, fetch = iterator.__init__, iterator.__next__
        now_ns = time.monotonic_ns

        @functools.wraps(begin)
        def watched_begin(itself: Any, loader: Any, *arguments: Any, **named: Any) -> None:
            setattr(itself, SLOT, self._slot_of(loader))
            begin(itself, loader, *arguments, **named)

        @functools.wraps(fetch)
        def watched_fetch(itself: Any) -> Any:
            began_ns = now_ns()
            batch = fetch(itself)
            ended_ns = now_ns()
            self._count(getattr(itself, SLOT), batch, began_ns, ended_ns)
            self.spent_ns += now_ns() - ended_ns
            return batch

        iterator.__init__, iterator.__next__ = watched_begin, watched_fetch

    def disable(self) -> None:
        """Count nothing any more: this process was forked from the rank's."""
        self._count = _ignore  # type: ignore[method-assign]

    def step_ended(self) -> None:
        """Add up the times of each loader since the last step."""
        for slot in range(self.used):
            if self._began_ns[slot]:
                self.spans_ns[slot] += self._ended_ns[slot] - self._began_ns[slot]
                self._began_ns[slot] = 0

    def _slot_of(self, loader: Any) -> int:
        data_set = id(loader.dataset)
        slot = self._slots.pop(data_set, None)
        if slot is None:
            # A program may make others for each epoch: the one that began longest ago makes room.
            slot = self.used if self.used < SLOTS else self._slots.pop(next(iter(self._slots)))
            self.used = max(self.used, slot + 1)
        self._slots[data_set] = slot
        return slot

    def _count(self, slot: int, batch: Any, began_ns: int, ended_ns: int) -> None:
        self.amounts[slot] += self._size(batch)
        self.last_used = slot
        if not self._began_ns[slot]:
            self._began_ns[slot] = began_ns
            self.first_ns = self.first_ns or began_ns
        self._ended_ns[slot] = ended_ns


def _ignore(slot: int, batch: Any, began_ns: int, ended_ns: int) -> None:
    return


def sample_count(batch: Any) -> int:
    """The samples of a batch: the length of the first dimension of its first tensor, else of its first list; 0 where it
    has neither (pure)."""
    first = batch
    while type(first) in (tuple, list) and first:
        first = first[0]
    if shape := getattr(first, "shape", None):
        return int(shape[0])
    tensor = _first(batch, lambda shape, _: bool(shape))
    if tensor is not None:
        return int(tensor.shape[0])
    return _list_length(batch)


def token_count(batch: Any) -> int:
    """The tokens of a batch: the elements of its first tensor of integers with two dimensions at least; 0 where it has
    none (pure)."""
    tensor = _first(batch, lambda shape, kind: len(shape) >= 2 and kind.removeprefix("torch.") in INTEGERS)
    return 0 if tensor is None else math.prod(map(int, tensor.shape))


def _first(tree: Any, accept: Any, depth: int = 0) -> Any:
    """The first tensor in a tree of sequences and mappings whose shape and type are accepted."""
    shape = getattr(tree, "shape", None)
    if shape is not None and hasattr(tree, "dtype"):
        return tree if accept(shape, str(tree.dtype)) else None
    for item in _children(tree) if depth < MAX_DEPTH else ():
        found = _first(item, accept, depth + 1)
        if found is not None:
            return found
    return None


def _children(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return tree.values()
    if isinstance(tree, tuple | list):
        # A list of texts or numbers has none, however long it is.
        return tree[:16]
    # The batch of a tokenizer, of a graph library, a data class: its fields.
    data = getattr(tree, "data", None)
    if isinstance(data, Mapping):
        return data.values()
    fields = getattr(tree, "__dict__", None)
    return fields.values() if isinstance(fields, dict) else ()


def _list_length(batch: Any) -> int:
    if isinstance(batch, Mapping):
        return max(map(_list_length, batch.values()), default=0)
    if isinstance(batch, tuple | list):
        inner = [len(item) for item in batch if isinstance(item, tuple | list)]
        return inner[0] if inner else len(batch)
    return 0
