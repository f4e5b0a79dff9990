"""The contract of a site: where the processes of a case run.

A new site is one new file in this folder that defines ``SITE``, an instance of :class:`Site`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from bench.case import Case, Role
from bench.records import Link, Outcome, RankFailure, RankRecord
from bench.telemetry import Recording


@dataclass(frozen=True)
class Ending:
    """How a trial's processes ended, with what they left."""

    outcome: Outcome
    reason: str | None
    ranks: tuple[RankRecord, ...]
    failures: tuple[RankFailure, ...]
    log_tail: tuple[str, ...]
    recordings: tuple[Recording, ...] = ()
    """Of the nodes' samplers."""
    link: Link | None = None


class Site(ABC):
    """Starts the processes of a case, waits for them, brings back what they left."""

    name: str
    summary: str

    def why_not(self, case: Case) -> str | None:
        """Why the case can't run here, with the remedy, or ``None``."""
        return None

    @abstractmethod
    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        """The files it would submit, by name (pure)."""

    @abstractmethod
    def start(self, case: Case, roles: tuple[Role, ...], folder: Path) -> Job:
        """Start the case's processes; their records and logs go to ``folder``."""

    def warm(self, modules: tuple[str, ...]) -> None:
        """Prepare for ranks that will import ``modules``."""
        return


class Job(ABC):
    """The processes of one trial."""

    @abstractmethod
    def wait(self, timeout_s: float) -> Ending:
        """Wait for the end, or end it after ``timeout_s``; either way nothing of it is left running."""

    @abstractmethod
    def cancel(self) -> None:
        """End all of it now."""
