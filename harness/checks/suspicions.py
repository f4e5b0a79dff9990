"""Suspicions that no pair can settle: the code did not change, or there is no base to hold it against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.pairs.trees import find_commit
from reports.verdicts.judge import is_unmistakable
from reports.verdicts.members import JudgedSeries, resolve_suspect
from reports.verdicts.rule import RULE


@dataclass(frozen=True)
class ConfirmOptions:
    """Whether suspects are run again, and against what; ``None``: the last good commit."""

    requested: bool = False
    base_rev: str | None = None


def resolve_unchanged_code(members: Sequence[JudgedSeries], commit: str) -> list[JudgedSeries]:
    """Suspects whose code is that of the last good night: pairs would hold the same code against itself."""
    reason = f"the code is that of the last good night ({commit}): the machine changed"
    # What chance hardly does, the machine did: then nobody can say how the code would have done.
    return [
        resolve_suspect(member, "inconclusive" if is_unmistakable(member[2], RULE) else "pass", reason)
        for member in members
    ]


def leave_inconclusive(members: Sequence[JudgedSeries], cause: str) -> list[JudgedSeries]:
    """Suspects that can't be confirmed."""
    return [resolve_suspect(member, "inconclusive", f"{cause}; {member[2].reason}") for member in members]


def base_problem(base: str | None, *, explicit: bool) -> str:
    """Why the base can't be checked out; empty where it can. Raises :class:`UsageError` where it was ``asked`` for."""
    if base is None:
        return "no night before has a commit that can be checked out: name one with --base-rev"
    try:
        find_commit(base)
    except UsageError as problem:
        if explicit:
            raise
        return f"the last good commit {base} is not to be had here ({problem}); name another with --base-rev"
    return ""
