"""Which commit suspects are compared with in pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from harness.check.source_trees import find_commit
from harness.errors import UsageError
from harness.planning.git import OWN_REPOSITORY, Repository
from reports.regression.evidence import EarlierVerdicts, NightFacts
from reports.regression.judge import JudgedSeries
from reports.regression.ratios import SPEED_METRICS
from reports.regression.rule import RULE
from reports.regression.subjects import Subject

NAME_BASE = "name one with `check --confirm --base-rev REV`"
LOOK_BACK = max(RULE.windows) - 1
"""Nights before the newest that may contain the change that it is suspected of."""

SuspectsByBase = Mapping[str | None, Sequence[JudgedSeries]]
"""``None``: those without a commit to compare with."""


def suspects_by_base(
    suspects: Sequence[JudgedSeries], past: Sequence[NightFacts], judged: EarlierVerdicts
) -> SuspectsByBase:
    """Suspects by the commit to compare them with, the largest group first.

    Those that were compared with the nights since an improvement need a base that has it; all others share one.
    """
    groups: dict[str | None, list[JudgedSeries]] = defaultdict(list)
    for suspect in suspects:
        groups[suspect[2].compared_since].append(suspect)
    by_base: dict[str | None, list[JudgedSeries]] = defaultdict(list)
    for since, group in groups.items():
        names = [night.night for night in past]
        of_level = past[names.index(since) :] if since in names else past
        by_base[last_good_commit(group, of_level, judged, LOOK_BACK)] += group
    return dict(sorted(by_base.items(), key=lambda item: -len(item[1])))


def base_of(subject: Subject, groups: SuspectsByBase) -> str | None:
    """The base of a subject: that of its own suspicion, for a ratio that of a cell it is made of, else the first."""
    for base, group in groups.items():
        if any(suspect == subject for suspect, _, _ in group):
            return base
    for base, group in groups.items():
        if any(suspect.metric in SPEED_METRICS and suspect.key in subject.keys for suspect, _, _ in group):
            return base
    return next(iter(groups), None)


def last_good_commit(
    members: Sequence[JudgedSeries], past: Sequence[NightFacts], judged: EarlierVerdicts, back: int
) -> str | None:
    """The commit of the newest night before the last ``back`` on which all of these series were good.

    Newer nights may contain the change that is suspected. Where there are no earlier ones it is that of the oldest
    good night; ``None`` where no commit is known.
    """
    order = {night.night: place for place, night in enumerate(past)}
    wanted = [(subject, {night.night for night in series.past}) for subject, series, _ in members]
    candidates = [
        night
        for night in past
        if night.commit
        and all(night.night in there and judged.may_be_base(subject, night, order) for subject, there in wanted)
    ]
    before = [night for night in candidates if order[night.night] < len(past) - back]
    night = before[-1] if before else candidates[0] if candidates else None
    return night.commit if night else None


def base_problem(base: str | None, *, explicit: bool, repository: Repository = OWN_REPOSITORY) -> str:
    """Why the base cannot be checked out; empty where it can.

    Raises :class:`UsageError` where it was named on the command line (``explicit``).
    """
    if base is None:
        return f"no earlier night has a commit that can be checked out; {NAME_BASE}"
    try:
        find_commit(base, repository)
    except UsageError as problem:
        if explicit:
            raise
        return f"the last good commit {base} is not available here ({problem}); {NAME_BASE}"
    return ""
