"""A probe that does not raise. One that fails costs its readings and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from bench.core.telemetry import GpuProcess, Sample, Tick, known_number
from bench.host.logs import describe_exception
from bench.plugins.probe import Probe

ResultT = TypeVar("ResultT")

MAX_PROBLEMS = 20
"""Of one probe, which may fail in another way each time."""


class GuardedProbe(Probe):
    """A probe that does not raise: where the guarded one does, its readings are missing, and :attr:`problems` say why.

    Args:
        name: Of the probe.
        open_guarded: Opens the guarded probe; ``None``: the case does not need it.
    """

    def __init__(self, name: str, open_guarded: Callable[[], Probe | None]) -> None:
        self.name = name
        self._guarded = self._attempt("could not be opened", open_guarded)
        if self._guarded is not None:
            self.devices = self._guarded.devices
            self.problems = (*self.problems, *self._guarded.problems)
            self.update_timings = self._guarded.update_timings

    def prepare(self, interrupted: Callable[[], bool]) -> None:
        if self._guarded is not None:
            self._attempt("could not be prepared", partial(self._guarded.prepare, interrupted))
            self.update_timings = self._guarded.update_timings

    def read(self) -> list[Sample]:
        read = self._guarded.read if self._guarded else list
        return list(self._attempt("failed", lambda: _checked(read())) or ())

    def due_s(self, near_edge: bool) -> float:
        # A probe whose schedule fails is read in ticks only.
        due_s = self._attempt("failed", partial(self._guarded.due_s, near_edge)) if self._guarded else None
        return math.inf if due_s is None else due_s

    def poll(self, near_edge: bool) -> list[Sample]:
        poll = partial(self._guarded.poll, near_edge) if self._guarded else list
        return list(self._attempt("failed", lambda: _checked(poll())) or ())

    def processes(self) -> tuple[list[GpuProcess], list[str]]:
        listed = self._attempt("could not list processes", self._guarded.processes) if self._guarded else None
        return listed or ([], [])

    def close(self) -> None:
        if self._guarded is not None:
            self._attempt("could not be closed", self._guarded.close)

    def _attempt(self, failed: str, function: Callable[[], ResultT]) -> ResultT | None:
        try:
            return function()
        except Exception as error:
            problem = f"probe {self.name} {failed}: {describe_exception(error)}"
            if problem not in self.problems and len(self.problems) < MAX_PROBLEMS:
                self.problems = (*self.problems, problem)
            return None


def _checked(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    # A tick checks the types of its readings; one that is no number would be written without a reason.
    return tuple(map(known_number, Tick(at_s=0, readings=tuple(samples)).readings))
