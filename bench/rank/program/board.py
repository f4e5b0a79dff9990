"""What the ranks of a program agree on while it runs, without its process group: where the window is, and where the
program is stopped.

The ranks of a node share a memory-mapped file in the trial's folder, which costs a look at one number a step. Rank 0
decides. To other nodes it tells its decision through the store of the program's own torch.distributed: a key of our
own, which no collective waits for.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.case import Case

CHANGES = 0
DECISION = slice(1, 7)
OUTPUT = slice(7, 12)
OUTPUT_IS_KNOWN = 12
CELLS, CELL_BYTES = 13, 8
STORE_KEY = "scaling/program-window"


def board_file(node: int) -> str:
    """The name of a node's shared memory in the trial's folder: hidden, as it does not stay."""
    return f".window-{node}"


class Decision(NamedTuple):
    """Marks, by number; 0: not decided yet."""

    first: int = 0
    last: int = 0
    watch_from: int = 0
    """From here to :attr:`stop`, observers are on (:mod:`bench.rank.program.observers`)."""
    stop: int = 0
    """Where all ranks stop the program."""
    settled: int = 0
    """Whether step times had settled when the window began: 1; -1: they had not; 0: the number of warm-up steps was
    given."""
    every: int = 0
    """How many steps are marked together on a CUDA device; 0: each is."""


class OutputWindow(NamedTuple):
    """The window of rank 0, where its steps are seen in its output only."""

    first: int
    last: int
    began_ns: int
    ended_ns: int
    """On the monotonic clock of the node."""
    stopped: int
    """Whether its program was stopped after the window; else it ended by itself."""


class Board:
    """The shared memory of the ranks of one node.

    Args:
        folder: The trial's folder; ``None``: in the memory of this process.
        node: The number of the node.
        place: That of this rank among those of its node, from 0.
        ranks: The number of ranks on the node.
    """

    def __init__(self, folder: Path | None, node: int, place: int = 0, ranks: int = 1) -> None:
        size = (CELLS + ranks) * CELL_BYTES
        self.leads = place == 0
        """Whether this rank tells the others of its node what other nodes have decided."""
        self.own = CELLS + place
        """The number of the cell in which this rank says how many steps it has taken."""
        if folder is None:
            self.cells = memoryview(bytearray(size)).cast("q")
            return
        file = os.open(folder / board_file(node), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Not a hole in the file: that would end this process where the disk is full.
            os.posix_fallocate(file, 0, size)
            self.cells = memoryview(mmap.mmap(file, size)).cast("q")
        finally:
            os.close(file)

    def publish(self, decision: Decision) -> None:
        """Tell the ranks of this node."""
        for cell, value in enumerate(decision, DECISION.start):
            self.cells[cell] = value
        self.cells[CHANGES] += 1

    def read(self) -> Decision:
        """What was published last."""
        return Decision(*self.cells[DECISION])

    def publish_output(self, window: OutputWindow) -> None:
        """Tell the ranks of this node that see no steps."""
        for cell, value in enumerate(window, OUTPUT.start):
            self.cells[cell] = value
        self.cells[OUTPUT_IS_KNOWN] = 1

    def output_window(self) -> OutputWindow | None:
        """What rank 0 has told of its output; ``None``: nothing so far."""
        return OutputWindow(*self.cells[OUTPUT]) if self.cells[OUTPUT_IS_KNOWN] else None

    def farthest(self) -> int:
        """The steps that the rank of this node has taken that is ahead of the others."""
        return max(self.cells[CELLS:])


def place_on_node(case: Case, rank: int) -> tuple[int, int, int]:
    """The number of a rank's node, its place among the ranks there, and how many these are (pure).

    Network namespaces of one machine are one node, whatever its ranks are told.
    """
    node = case.node_of_rank(rank)
    ranks = [other for other in range(case.ranks) if case.node_of_rank(other) == node]
    return node, ranks.index(rank), len(ranks)


class NoStore(Exception):
    """The program has no torch.distributed store."""


def publish_to_nodes(decision: Decision) -> None:
    """Tell the other nodes. Raises :class:`NoStore`."""
    _program_store().set(STORE_KEY, ",".join(map(str, decision)))


def read_from_nodes() -> Decision | None:
    """What rank 0 has published; ``None``: nothing so far. It waits for one exchange with the store, not for a key."""
    with suppress(NoStore):
        store = _program_store()
        if store.check([STORE_KEY]):
            return Decision(*map(int, store.get(STORE_KEY).decode().split(",")))
    return None


def _program_store() -> Any:
    module: Any = sys.modules.get("torch.distributed.distributed_c10d")
    if module is None or not module.is_initialized():
        raise NoStore
    return module._get_default_store()
