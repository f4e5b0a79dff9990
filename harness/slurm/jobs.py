"""A trial on Slurm: waits for its turn and its end, sees nodes that went without a word, ends what takes too long."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.case import Case
from bench.place import Misplaced, expand_nodes
from bench.progress import read_progress
from harness.aftermath import last_lines
from harness.remote import Lost, ends_in, gather, never_began
from harness.sites import Asked, Ending, Job
from harness.slurm import queue
from harness.slurm.queue import NoAnswer, Seen
from harness.slurm.scripts import BEGAN, ENDED, HOSTS, LOGS, RANKS_LOG, SlurmOptions, limit_s

GLANCE_S = 0.1
"""How often the trial's folder is looked at."""
MOST_OFTEN_S, LEAST_OFTEN_S, NEWS_SHARE = 0.2, 5.0, 0.05
"""Slurm is asked for news at such distances: a share of how long the trial has taken so far, within limits."""
GRACE_S = 15.0
"""How much later than the script itself this process ends what takes too long."""
SETTLE_S = 5.0
"""How long is waited for a job to leave, and for the files of nodes whose end was heard of."""
LATE_S = 30.0
"""How long is waited for the files of other nodes: a shared disk may show them that late."""
TAIL_LINES = 20
SRUN_TOLD = re.compile(r"error: (\S+): tasks? ")
SRUN_TASK = re.compile(r"error: (\S+): tasks? (\d+)[^:]*: (.+)")
WORDLESS = re.compile(r"rank \d+ ended without a word")


@dataclass
class Submission:
    """A job of Slurm's, of one trial or of several (``shared``)."""

    number: str
    shared: bool
    given_up: str | None = None
    """Why we ended all of it: what holds for every trial that had not begun."""


class SlurmJob(Job):
    """A trial of a job of Slurm's."""

    def __init__(self, asked: Asked, submission: Submission, options: SlurmOptions) -> None:
        self.case, self.folder = asked.case, asked.folder
        self.submission, self.options = submission, options
        self.handle = self.number = submission.number
        self.news = Seen("PENDING")
        self.trouble: dict[str, str] = {}
        """What Slurm has said of nodes while they were silent: they may be back by the time the trial has ended."""
        self._submitted = time.monotonic()
        self._asked = 0.0

    def wait(self, timeout_s: float) -> Ending:
        # Trials of one job are waited for one after the other.
        if self.submission.given_up and not self._has_ended():
            return never_began(self.submission.given_up)
        began: float | None = None
        hopeless_since: float | None = None
        while not self._is_done():
            now = time.monotonic()
            if began is None and (self.folder / BEGAN).exists():
                began = now
            if began is not None and now > began + limit_s(self.case) + GRACE_S:
                self._end_alone()
                return self._ending(timed_out=True)
            if self.news.waits:
                hopeless_since = (hopeless_since or now) if self.news.hopeless else None
                self.submission.given_up = self._why_not_longer(now, hopeless_since)
                if self.submission.given_up:
                    self.cancel()
                    return never_began(self.submission.given_up)
            time.sleep(GLANCE_S)
        return self._ending(timed_out=self.news.state == "TIMEOUT" or was_ended_by_force(self.folder, self.case))

    def cancel(self) -> None:
        """End the whole job, other trials of it included, and see it leave the queue."""
        self._cancel(self.number)
        self._leave()

    def _cancel(self, *names: str) -> None:
        # Who waits for the job to leave asks again; the script's own limits end what nobody could cancel.
        with suppress(NoAnswer):
            queue.cancel(*names)

    def _end_alone(self) -> None:
        """End this trial: its steps, so that the job's other trials have their turn; the job if that does not help."""
        if self.submission.shared:
            with suppress(NoAnswer):
                if steps := queue.steps_named(self.number, self.folder.name):
                    self._cancel(*steps)
            deadline = time.monotonic() + LATE_S
            while time.monotonic() < deadline:
                if self._has_ended():
                    return
                time.sleep(GLANCE_S)
            self.submission.given_up = f"ended with a trial of the same job that would not end, {self.folder.name}"
        self.cancel()

    def _has_ended(self) -> bool:
        return (self.folder / ENDED).exists()

    def _is_done(self) -> bool:
        return self._has_ended() or (self._ask() and (self.news.over or self._only_lost_ones_are_silent()))

    def _ask(self) -> bool:
        """Ask Slurm for news, unless it was asked just now."""
        now = time.monotonic()
        distance = min(LEAST_OFTEN_S, max(MOST_OFTEN_S, NEWS_SHARE * (now - self._submitted)))
        if now - self._asked < distance:
            return False
        self._asked = now
        # A controller that is being restarted loses no job.
        with suppress(NoAnswer):
            self.news = queue.look(self.number)
        return True

    def _only_lost_ones_are_silent(self) -> bool:
        """Whether all nodes have said their last word but those that Slurm says are gone."""
        ends = ends_in(self.folder)
        silent = self._silent()
        if not ends or not silent:
            return False
        self.trouble |= queue.troubled([name for name in silent.values() if name])
        return all(name in self.trouble for name in silent.values())

    def _silent(self) -> dict[int, str]:
        """The names of the nodes that have left no last word, by node; empty where that is not known."""
        ends = ends_in(self.folder)
        listed = last_lines(self.folder / HOSTS, 10**6)
        silent = [node for node in range(self.case.nodes) if node not in ends]
        if len(listed) == self.case.nodes:
            return {node: listed[node] for node in silent}
        # In a job with more nodes than the trial has, they are among those that nobody was.
        spoken = {end.facts.host for end in ends.values()}
        names = [*(name for name in listed if name not in spoken), *("" for _ in silent)]
        return dict(zip(silent, names, strict=False))

    def _why_not_longer(self, now: float, hopeless_since: float | None) -> str | None:
        if hopeless_since is not None and now - hopeless_since >= self.options.patience_s:
            return f"it would never have begun: {self.news.said}"
        waited = now - self._submitted
        if waited > self.options.queue_timeout_s:
            return f"waited {waited:.0f} s in the queue: {self.news.said}; more time: --set slurm.queue_timeout_s=…"
        return None

    def _leave(self) -> None:
        """Wait until the job has left the queue, or only tidies up; one that would not go by itself is cancelled."""
        for _ in range(2):
            deadline = time.monotonic() + SETTLE_S
            while time.monotonic() < deadline:
                if self._ask() and (self.news.over or self.news.state == "COMPLETING"):
                    return
                time.sleep(GLANCE_S)
            self._cancel(self.number)

    def _ending(self, *, timed_out: bool) -> Ending:
        if not self.submission.shared:
            self._leave()
        lost = self._lost(timed_out=timed_out)
        tail = [f"slurm: {line}" for name in LOGS for line in last_lines(self.folder / name, TAIL_LINES)]
        why = "; ".join([*complaints(tail)[:1], self.news.said])
        ending = gather(self.folder, self.case, lost, timed_out=timed_out, why_silent=why, log_tail=tail)
        if ending.outcome == "ok" and len(ending.ranks) < self.case.ranks:
            # The nodes were told to end, and say no more than that.
            return replace(ending, outcome="failed", reason=why, log_tail=(*ending.log_tail, *tail))
        return replace(ending, reason=self._first_of_ranks() or ending.reason) if unexplained(ending) else ending

    def _first_of_ranks(self) -> str | None:
        """The rank that srun saw end badly first: PMIx ends the others within moments, so that nodes can't tell."""
        said = "\n".join(last_lines(self.folder / RANKS_LOG, 10**4))
        found = SRUN_TASK.search(said)
        if found is None:
            return None
        seen = next((f" {one.said}" for one in read_progress(self.folder) if one.rank == int(found[2])), "")
        return f"rank {found[2]} ended{seen}: srun says '{found[3]}' of {found[1]}"

    def _lost(self, *, timed_out: bool) -> list[Lost]:
        """The nodes that left no word and did not live to be ended."""
        began, heard = time.monotonic(), self._heard_of()
        while (silent := self._silent()) and not self._only_lost_ones_are_silent():
            expected = has_begun(self.folder) and not heard.issuperset(silent.values())
            if time.monotonic() - began > (LATE_S if expected else SETTLE_S):
                break
            time.sleep(MOST_OFTEN_S)
        ends = ends_in(self.folder)
        if not ends:
            return []
        # Nodes that were ended by force at the limit are silent too.
        timed_out = timed_out or any(end.scene is not None and end.scene.timed_out for end in ends.values())
        heard |= set(silent.values()) if timed_out else set()
        whys = {node: self._why_lost(name, heard) for node, name in silent.items()}
        return [Lost(node, silent[node] or "?", why) for node, why in whys.items() if why]

    def _heard_of(self) -> set[str]:
        return hosts_heard_of([line for name in LOGS for line in last_lines(self.folder / name, 10**4)])

    def _why_lost(self, host: str, heard: Collection[str]) -> str | None:
        if host in self.trouble:
            return self.trouble[host]
        if self.news.state == "NODE_FAIL":
            return self.news.said
        return None if host in heard else "it left no word, and srun did not hear of its end"


def complaints(lines: Sequence[str]) -> list[str]:
    """What Slurm's programs called errors (pure)."""
    return [line.partition("error: ")[2] for line in lines if "error: " in line]


def hosts_heard_of(lines: Sequence[str]) -> set[str]:
    """The nodes of the tasks that srun saw end badly, by themselves or by force (pure)."""
    lists = [found[1] for line in lines if (found := SRUN_TOLD.search(line))]
    heard: set[str] = set()
    for listed in lists:
        with suppress(Misplaced):
            heard.update(expand_nodes(listed))
    return heard


def unexplained(ending: Ending) -> bool:
    """Whether all that is known is that an MPI rank was gone."""
    return ending.outcome == "failed" and WORDLESS.match(ending.reason or "") is not None


def has_begun(folder: Path) -> bool:
    return (folder / BEGAN).exists()


def was_ended_by_force(folder: Path, case: Case) -> bool:
    """Whether the script ended the trial at its limit, before all nodes had said their last word."""
    try:
        took_s = (folder / ENDED).stat().st_mtime - (folder / BEGAN).stat().st_mtime
    except OSError:
        return False
    return took_s >= int(limit_s(case)) and len(ends_in(folder)) < case.nodes
