"""Slurm: each trial is a batch job, or each round where ``slurm.pack`` is set. Needs its command line tools only.

The job's folder is on a disk that the nodes share with this machine. What the nodes leave there says how a trial ended;
Slurm is asked for what they can't say: why a job waits, that a node died, that a job is gone.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import bench
from bench.backends import Options
from bench.case import Case, Role
from harness import slurm_queue as queue
from harness.aftermath import last_lines
from harness.remote import Lost, ends_in, gather
from harness.sites import Asked, Ending, Job, Site
from harness.slurm_queue import NoAnswer, Refused, Seen
from harness.slurm_script import BEGAN, ENDED, HOSTS, SlurmOptions, limit_s, script

TOOLS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
SOURCE = Path(bench.__file__).resolve().parent.parent
MOST_OFTEN_S, LEAST_OFTEN_S = 0.2, 5.0
"""Slurm is asked for news at such distances: short ones at first, then a share of how long the job has taken."""
NEWS_SHARE = 0.05
GRACE_S = 15.0
"""How much later than the script itself this process ends what takes too long."""
SETTLE_S = 10.0
"""How long is waited for Slurm's word on a silent node, and for files on a shared disk that shows them late."""
TAIL_LINES = 20


class SlurmJob(Job):
    """A trial of a job of Slurm's, alone there or one of several."""

    def __init__(self, asked: Asked, number: str, options: SlurmOptions, *, shared: bool) -> None:
        self.asked, self.handle, self.options, self.shared = asked, number, options, shared
        self.number = number
        self.submitted = time.monotonic()
        self.news = Seen("PENDING")
        self._asked_at = 0.0

    def wait(self, timeout_s: float) -> Ending:
        began: float | None = None
        hopeless_since: float | None = None
        while not self._is_done():
            now = time.monotonic()
            if began is None and (self.asked.folder / BEGAN).exists():
                began = now
            if began is not None and now > began + limit_s(self.asked.case) + GRACE_S:
                self.cancel()
                return self._ending(timed_out=True)
            if self.news.waits:
                hopeless_since = (hopeless_since or now) if self.news.hopeless else None
                given_up = self._why_not_longer(now, hopeless_since)
                if given_up:
                    self.cancel()
                    return never_began(given_up)
            time.sleep(MOST_OFTEN_S / 2)
        return self._ending(timed_out=self.news.state == "TIMEOUT")

    def cancel(self) -> None:
        """End the whole job, other trials of it included, and see it leave the queue."""
        queue.cancel(self.number)
        self._leave()

    def _is_done(self) -> bool:
        return (self.asked.folder / ENDED).exists() or self._look().over

    def _look(self) -> Seen:
        """Slurm's news, asked for no more often than is polite."""
        now = time.monotonic()
        distance = min(LEAST_OFTEN_S, max(MOST_OFTEN_S, NEWS_SHARE * (now - self.submitted)))
        if now - self._asked_at >= distance:
            self._asked_at = now
            # A controller that is being restarted loses no job.
            with suppress(NoAnswer):
                self.news = queue.look(self.number)
        return self.news

    def _why_not_longer(self, now: float, hopeless_since: float | None) -> str | None:
        if hopeless_since is not None and now - hopeless_since >= self.options.patience_s:
            return f"it would never have begun: {self.news.said}"
        waited = now - self.submitted
        if waited > self.options.queue_timeout_s:
            return f"waited {waited:.0f} s in the queue: {self.news.said}; more time: --set slurm.queue_timeout_s=…"
        return None

    def _leave(self) -> None:
        """Wait until nothing of the job runs; one that would not go by itself is cancelled."""
        for _ in range(2):
            deadline = time.monotonic() + SETTLE_S
            while time.monotonic() < deadline:
                if self._look().over or self.news.state == "COMPLETING":
                    return
                time.sleep(MOST_OFTEN_S)
            queue.cancel(self.number)

    def _ending(self, *, timed_out: bool) -> Ending:
        folder, case = self.asked.folder, self.asked.case
        if not self.shared:
            self._leave()
        lost = self._lost()
        tail = tuple(f"slurm: {line}" for name in ("ranks.log", "srun.log", "slurm.log")
                     for line in last_lines(folder / name, TAIL_LINES))  # fmt: skip
        ending = gather(folder, case, lost, timed_out=timed_out, why_silent=self.news.said, log_tail=tail)
        if ending.outcome == "ok" and len(ending.ranks) < case.ranks:
            # The nodes were told to end, or never knew why nothing happened.
            reason = "; ".join([*_complaints(tail)[:1], self.news.said])
            return replace(ending, outcome="failed", reason=reason, log_tail=(*ending.log_tail, *tail))
        return ending

    def _lost(self) -> list[Lost]:
        """The nodes that left no word, where Slurm says why."""
        folder, case = self.asked.folder, self.asked.case
        deadline = time.monotonic() + SETTLE_S
        while silent := sorted(set(range(case.nodes)) - set(ends := ends_in(folder))):
            hosts = _hosts(folder, case.nodes, {node: end.facts.host for node, end in ends.items()})
            trouble = queue.troubled(list(hosts.values())) if hosts else {}
            found = [Lost(node, hosts[node], trouble[hosts[node]]) for node in silent if hosts.get(node) in trouble]
            if found or time.monotonic() > deadline or not (folder / BEGAN).exists():
                return found
            time.sleep(MOST_OFTEN_S)
        return []


class RefusedJob(Job):
    """What Slurm did not take."""

    def __init__(self, why: str) -> None:
        self.why = why

    def wait(self, timeout_s: float) -> Ending:
        return never_began(f"Slurm did not take the job: {self.why}")

    def cancel(self) -> None:
        return


def never_began(why: str) -> Ending:
    return Ending("failed", why, (), (), ())


def _hosts(folder: Path, nodes: int, spoken: dict[int, str]) -> dict[int, str]:
    """Names by node. In a job with more nodes than the trial has, the silent ones are among those that nobody was."""
    listed = last_lines(folder / HOSTS, 10**6)
    if len(listed) == nodes:
        return dict(enumerate(listed))
    rest = [name for name in listed if name not in spoken.values()]
    silent = [node for node in range(nodes) if node not in spoken]
    return dict(zip(silent, rest, strict=False))


def _complaints(tail: Sequence[str]) -> list[str]:
    return [line.partition("error: ")[2] for line in tail if "error: " in line]


class Slurm(Site):
    name = "slurm"
    summary = "batch jobs of a Slurm cluster that shares a disk with this machine"
    options = SlurmOptions
    chosen: SlurmOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.shares_environment = self.chosen.rank_python == sys.executable

    def why_not(self, case: Case) -> str | None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            return f"no {', '.join(missing)} here: run on a login node of the cluster, or install Slurm's client"
        if case.net is not None:
            return "a cluster's links are what they are: leave --net out"
        if case.transport == "mpi" and self.chosen.mpi not in queue.mpi_kinds():
            return f"srun --mpi=list knows no {self.chosen.mpi}; choose another by --set slurm.mpi=…, or transport gloo"
        return None

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        return {"job.sh": script(self.chosen, [Asked(case, roles, Path("trial"))], "trial/slurm.log")}

    def start(self, asked: Asked) -> Job:
        return self._submit([asked], f"{asked.folder.name}/slurm.log")[0]

    @property
    def packs(self) -> bool:
        return self.chosen.pack

    def start_round(self, trials: Sequence[Asked]) -> list[Job]:
        return self._submit(trials, "slurm-%j.log")

    def rejoin(self, asked: Asked, handle: str) -> Job | None:
        if not handle.isdigit():
            return None
        try:
            seen = queue.look(handle)
        except NoAnswer:
            seen = Seen("PENDING")
        if seen.over and not (asked.folder / BEGAN).exists():
            return None
        return SlurmJob(asked, handle, self.chosen, shared=self.packs)

    def _submit(self, trials: Sequence[Asked], output: str) -> list[Job]:
        for case, _, folder in trials:
            (folder / "case.json").write_text(case.model_dump_json())
        first = trials[0].folder.resolve()
        text = script(self.chosen, trials, output)
        (first / "job.sh").write_text(text)
        more = {"PYTHONPATH": queue.source_path(os.environ, SOURCE)} if self.shares_environment else {}
        env = queue.submission_environment(os.environ, text, more)
        try:
            number = queue.submit(first / "job.sh", first.parent, f"scaling-{first.name}", env)
        except Refused as refused:
            return [RefusedJob(str(refused)) for _ in trials]
        return [SlurmJob(trial, number, self.chosen, shared=len(trials) > 1) for trial in trials]


SITE = Slurm()
