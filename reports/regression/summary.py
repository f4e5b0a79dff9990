"""Summary of a judgement: its exit code, its headline, and the next steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.core.text import one_line
from reports.analysis import formatting
from reports.regression import wording
from reports.regression.values import WORST_FIRST, Judgement, Status, Verdict

CHECK_COMMAND = ("python", "-m", "harness", "check")
TITLE_BY_EXIT_CODE = {0: "passed", 1: "regressed", 3: "cannot tell", 4: "failed"}
MAX_NAMED = 3
"""Curves for which a command is given."""


@dataclass(frozen=True)
class NextStep:
    """A recommended action.

    ``reason``: the reason, and the action where there is no command. ``command``: to copy; may be empty.
    """

    reason: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: run `{self.command}`" if self.command else self.reason


@dataclass(frozen=True)
class _StatusGroup:
    """Statuses that are counted together, with the predicates for one and for many, and the word after a count."""

    statuses: tuple[Status, ...]
    one: str
    many: str
    later: str


STATUS_GROUPS = (
    _StatusGroup(("regressed",), "regressed", "regressed", "regressed"),
    _StatusGroup(("failed",), "failed", "failed", "failed"),
    _StatusGroup(("missing",), "is missing", "are missing", "missing"),
    _StatusGroup(("suspect",), "is suspect", "are suspect", "suspect"),
    _StatusGroup(("inconclusive", "incomparable"), "could not be judged", "could not be judged", "could not be judged"),
    _StatusGroup(("new",), "is new", "are new", "new"),
    _StatusGroup(("improved",), "improved", "improved", "improved"),
    _StatusGroup(("pass",), "passed", "passed", "passed"),
)
"""The worst first."""


def exit_code(judgement: Judgement) -> int:
    """0 pass or improved · 1 regressed · 3 cannot tell · 4 failed trials; of several the first of 1, 4, 3, 0.

    Cannot tell: a series is suspect, inconclusive, incomparable or missing, all series are new, or there are none.
    Findings count like verdicts.
    """
    statuses = {*_counts(judgement), *(finding.status for finding in judgement.findings)}
    if "regressed" in statuses:
        return 1
    if "failed" in statuses:
        return 4
    return 0 if statuses & {"pass", "improved"} and statuses <= {"pass", "improved", "new"} else 3


def title(judgement: Judgement) -> str:
    """``passed``, ``regressed``, ``cannot tell`` or ``failed``."""
    return TITLE_BY_EXIT_CODE[exit_code(judgement)]


def headline(judgement: Judgement) -> str:
    """The verdict in a sentence, without a full stop.

    ``1 of 54 series regressed: mlp/ddp-gloo lost 10.4 % (8.9–11.8 %) of its throughput; 50 passed, 3 could not be
    judged``
    """
    counts, total = _counts(judgement), len(judgement.verdicts)
    if not total and not judgement.findings:
        return "Nothing was judged: there are no series"
    group = _worst_group(judgement)
    count = sum(counts[status] for status in group.statuses)
    if count == total:
        whole = "The only series" if total == 1 else f"All {total:,} series"
        opening = f"{whole} {group.one if total == 1 else group.many}"
    elif count:
        opening = f"{count:,} of {total:,} series {group.one if count == 1 else group.many}"
    else:
        opening = f"Findings over several series {group.many}"
    example = _example(judgement, group)
    later = _remaining_counts(counts, group)
    return opening + (f": {example}" if example else "") + (f"; {later}" if later else "")


def subtitle(judgement: Judgement) -> str:
    """``night-03 · commit 1a2b3c4 against 9f8e7d6 · host · 162 trials, 32 more for pairs``"""
    commit = f"commit {one_line(judgement.commit, 13)}" if judgement.commit else ""
    if judgement.base_commit:
        commit = f"{commit or 'commit unknown'} against {one_line(judgement.base_commit, 13)}"
    trials = formatting.counted(judgement.trials, "trial") if judgement.trials else ""
    if judgement.extra_trials:
        trials = ", ".join(filter(None, (trials, f"{judgement.extra_trials:,} more for pairs")))
    began = (judgement.started_at or "")[:16].replace("T", " ")
    parts = (
        one_line(judgement.judged, 80),
        began,
        commit,
        one_line(judgement.machine or "", 120),
        trials,
    )
    return " · ".join(filter(None, parts))


def next_steps(judgement: Judgement) -> tuple[NextStep, ...]:
    """Recommended actions, the most urgent first; empty where everything passed."""
    return (*_accept_steps(judgement), *_inspect_steps(judgement), *_confirm_steps(judgement), *_wait_steps(judgement))


def _accept_steps(judgement: Judgement) -> Iterator[NextStep]:
    if judgement.from_files:
        return
    regressed = [finding.curve for finding in judgement.findings if finding.status == "regressed"]
    regressed += [
        wording.split_name(verdict.name.removesuffix(f" @ {verdict.place}"))[0]
        for verdict in judgement.verdicts
        if verdict.status == "regressed"
    ]
    curves = list(dict.fromkeys(regressed))
    for curve in curves[:MAX_NAMED]:
        command = wording.shell_command(*CHECK_COMMAND, *judgement.again, "--accept", one_line(curve))
        yield NextStep("regressed, and intended", f'{command} --because "…"')
    if len(curves) > MAX_NAMED:
        yield NextStep(f"regressed too: {len(curves) - MAX_NAMED} more curves, accepted in the same way if intended")


def _inspect_steps(judgement: Judgement) -> Iterator[NextStep]:
    counts = _counts(judgement)
    if counts["failed"] and not judgement.from_files:
        store = judgement.again[:2] if "--store" in judgement.again else ()
        sweep = one_line(judgement.judged)
        command = wording.shell_command("python", "-m", "harness", "report", sweep, *store)
        yield NextStep("failed: the report gives the reasons", command)
    elif counts["failed"]:
        yield NextStep("failed: no valid number; measure it again")
    if counts["missing"]:
        yield NextStep("missing: measured on earlier nights and not on this one; check what was left out")


def _confirm_steps(judgement: Judgement) -> Iterator[NextStep]:
    for obstacle in dict.fromkeys(verdict.not_confirmable for verdict in judgement.verdicts):
        if obstacle:
            yield NextStep(f"suspect, and not to be confirmed here: {obstacle}")
    waiting = [
        verdict
        for verdict in judgement.verdicts
        if verdict.pairs_wanted > verdict.pairs_used and not verdict.not_confirmable
    ]
    if not waiting:
        return
    most = max(verdict.pairs_wanted for verdict in waiting)
    several = f" for each of {len(waiting):,} series" if len(waiting) > 1 else ""
    wanted = f"{'up to ' if several else ''}{most} pairs needed{several}"
    status = "suspect" if any(verdict.status == "suspect" for verdict in waiting) else waiting[0].status
    if judgement.from_files:
        yield NextStep(f"{status}: {wanted}: measure head and base alternately, and pass the pairs by `--pairs P.csv`")
        return
    base = ("--base-rev", judgement.base_commit) if judgement.base_commit else ()
    options = (*base, *judgement.again, *judgement.selected)
    yield NextStep(f"{status}: {wanted}", wording.shell_command(*CHECK_COMMAND, "--confirm", *options))


def _wait_steps(judgement: Judgement) -> Iterator[NextStep]:
    counts = _counts(judgement)
    if counts["incomparable"]:
        yield NextStep(
            "incomparable: each reason names what differs; nights from now on are comparable while nothing changes"
        )
    if counts["new"]:
        compares_one = "--baseline" in judgement.selected
        sooner = "" if judgement.from_files or compares_one else "; until then --baseline SWEEP compares with one sweep"
        yield NextStep(f"new: will be judged once there are enough earlier nights{sooner}")


def _counts(judgement: Judgement) -> Counter[Status]:
    return Counter(verdict.status for verdict in judgement.verdicts)


def _worst_group(judgement: Judgement) -> _StatusGroup:
    statuses = {*_counts(judgement), *(finding.status for finding in judgement.findings)}
    if statuses <= {"pass", "improved", "new"} and statuses & {"pass", "improved"}:
        # New series beside passed ones are not worth a headline.
        statuses -= {"new"}
    worst = next(status for status in WORST_FIRST if status in statuses)
    return next(group for group in STATUS_GROUPS if worst in group.statuses)


def _remaining_counts(counts: Counter[Status], reported: _StatusGroup) -> str:
    """``50 passed, 3 could not be judged``: the counts of all other groups, the best first."""
    others = [
        (sum(counts[status] for status in group.statuses), group.later) for group in STATUS_GROUPS if group != reported
    ]
    return ", ".join(f"{count:,} {later}" for count, later in reversed(others) if count)


def _example(judgement: Judgement, group: _StatusGroup) -> str:
    """The first finding or series of a group as a sentence, and how many more there are."""
    if group.statuses == ("pass",):
        return ""
    if group.statuses == ("new",):
        return "there are too few earlier nights"
    findings = [finding for finding in judgement.findings if finding.status in group.statuses]
    if findings:
        more = f"; and {formatting.counted(len(findings) - 1, 'more such finding')}" if len(findings) > 1 else ""
        return one_line(findings[0].said, 300).rstrip(".") + more
    verdicts: list[Verdict] = [verdict for verdict in judgement.verdicts if verdict.status in group.statuses]
    more = f"; and {len(verdicts) - 1:,} more" if len(verdicts) > 1 else ""
    return one_line(wording.sentence(verdicts[0]), 300).rstrip(".") + more
