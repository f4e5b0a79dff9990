"""Suspicions that no pair can settle: the code did not change, or there is no base to hold it against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.pairs.trees import find_commit
from reports.verdicts.judge import is_unmistakable
from reports.verdicts.members import Member, settled
from reports.verdicts.rule import RULE


@dataclass(frozen=True)
class Confirmation:
    """Whether suspects are run again, and against what; ``None``: the last good commit."""

    wanted: bool = False
    base_rev: str | None = None


def of_unchanged_code(members: Sequence[Member], commit: str) -> list[Member]:
    """Suspects whose code is that of the last good night: pairs would hold the same code against itself."""
    said = f"the code is that of the last good night ({commit}): the machine changed"
    # What chance hardly does, the machine did: then nobody can say how the code would have done.
    return [settled(one, "inconclusive" if is_unmistakable(one[2], RULE) else "pass", said) for one in members]


def left_open(members: Sequence[Member], why: str) -> list[Member]:
    """Suspects that can't be confirmed."""
    return [settled(one, "inconclusive", f"{why}; {one[2].reason}") for one in members]


def base_trouble(base: str | None, *, asked: bool) -> str:
    """Why the base can't be checked out; empty where it can. Raises :class:`UsageError` where it was ``asked`` for."""
    if base is None:
        return "no night before has a commit that can be checked out: name one with --base-rev"
    try:
        find_commit(base)
    except UsageError as problem:
        if asked:
            raise
        return f"the last good commit {base} is not to be had here ({problem}); name another with --base-rev"
    return ""
