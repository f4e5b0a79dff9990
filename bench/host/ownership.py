"""Which processes of this machine belong to a trial: by the tree of processes, their sessions and their environment.

The numbers of the ranks do not tell it: a rank has children (the workers of a data loader, compilers), a launcher or a
framework may start the process that computes, and a process of an earlier trial may still be there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import psutil

from bench.core.text import one_line

FOLDER_VARIABLE = "SCALING_TRIAL_FOLDER"
"""The variable by which what a rank has started is recognised: the absolute path of the trial's folder."""
STARTER_VARIABLE = "SCALING_TRIAL_STARTER"
"""The variable that holds the process id of what starts the processes of a trial on this machine, and adopts those
whose parent ends."""
EARLIER_VARIABLE = "SCALING_EARLIER_PROCESSES"
"""The variable that holds the ids of the processes below it that were there before the trial, separated by commas."""
HOLDERS_VARIABLE = "SCALING_TRIAL_HOLDERS"
"""The variable that holds the ids of processes that wait for the trial, as the workers of a Dask cluster do that hold
it: they belong to it, and what else they have started does not."""
MAX_TEXT = 120
MAX_PID = 2**31 - 1


@dataclass(frozen=True)
class TrialProcessIds:
    """What the processes of a trial descend from, on this machine."""

    folder: str
    """The absolute path of the trial's folder."""
    starter: int | None = None
    """See :data:`STARTER_VARIABLE`; ``None``: it is not known."""
    ranks: frozenset[int] = frozenset()
    """The processes of the ranks, whoever has started them."""
    earlier: frozenset[int] = frozenset()
    """See :data:`EARLIER_VARIABLE`."""
    holders: frozenset[int] = frozenset()
    """See :data:`HOLDERS_VARIABLE`."""

    @classmethod
    def read(cls, env: Mapping[str, str], folder: str, ranks: frozenset[int]) -> TrialProcessIds:
        """From the variables of a process of the trial (pure)."""
        starter, earlier, holders = (
            _read_ids(env.get(name, "")) for name in (STARTER_VARIABLE, EARLIER_VARIABLE, HOLDERS_VARIABLE)
        )
        return cls(folder, next(iter(starter), None), ranks, earlier, holders)


def _read_ids(text: str) -> frozenset[int]:
    return frozenset(int(pid) for pid in text.split(",") if pid.isdecimal())


def starter_environment(starter: int, earlier: Collection[int] = ()) -> dict[str, str]:
    """The variables by which :meth:`TrialProcessIds.read` learns of a starter and of earlier processes (pure)."""
    return {STARTER_VARIABLE: str(starter), EARLIER_VARIABLE: ",".join(map(str, sorted(earlier)))}


def holders_environment(holders: Collection[int]) -> dict[str, str]:
    """The variable by which :meth:`TrialProcessIds.read` learns of holders (pure)."""
    return {HOLDERS_VARIABLE: ",".join(map(str, sorted(holders)))}


class ProcessFacts(NamedTuple):
    """What is known of a process that runs."""

    name: str
    """Empty where it is hidden, as processes of other users may be."""
    parent: int
    """The id of its parent; 0: it has none that is visible."""
    session: int | None = None
    """The id of the process that leads, or has led, its session."""
    folder: str | None = None
    """The value of :data:`FOLDER_VARIABLE` in its environment; ``None``: it has none, or may not be read."""


class Ownership(NamedTuple):
    """Whether a process belongs to a trial; ``None``: that can't be known. ``relation`` says by what, or why not."""

    ours: bool | None
    relation: str


def judge(pid: int, known: Mapping[int, ProcessFacts], trial: TrialProcessIds) -> Ownership:
    """Whether a process belongs to a trial (pure).

    It does if it holds the trial, if it is a rank or the starter or descends from one of them, if its environment names
    the trial's folder, or if what leads its session belongs to the trial. A process below the starter that was there
    before the trial does not.

    Args:
        pid: The id of the process.
        known: Processes that run, by their ids: this one, its ancestors, the leader of its session and theirs.
        trial: The trial.
    """
    process = known.get(pid)
    if process is None:
        return Ownership(None, "not visible from here: it has ended, or is in another PID namespace or container")
    if pid in trial.holders:
        return Ownership(True, "holds the trial, as a worker of its Dask cluster")
    # An earlier process may have ended, and its id be that of one of the trial's: the environment tells.
    if (by_tree := _by_tree(pid, known, trial)) and (by_tree.ours or process.folder != trial.folder):
        return by_tree
    if process.folder == trial.folder:
        return Ownership(True, "started by a rank that has ended")
    if process.session is not None and (leader := _by_tree(process.session, known, trial)) and leader.ours:
        return Ownership(True, "in a session of the trial")
    if not process.name:
        return Ownership(False, "of another user, whose processes are hidden here")
    if process.folder is not None:
        return Ownership(False, f"of another trial, in {one_line(process.folder, MAX_TEXT)}")
    parent = known.get(process.parent)
    parent_name = one_line(parent.name, MAX_TEXT) if parent and parent.name else "a process that is not visible here"
    return Ownership(False, f"started by {parent_name}{f', process {process.parent}' if process.parent else ''}")


def _by_tree(pid: int, known: Mapping[int, ProcessFacts], trial: TrialProcessIds) -> Ownership | None:
    """By the nearest ancestor of whom that is known, or by the process itself."""
    for ancestor in _lineage(pid, known):
        if ancestor in trial.ranks:
            return Ownership(True, "a rank" if ancestor == pid else f"started by a rank, process {ancestor}")
        if ancestor in trial.earlier:
            return Ownership(False, "left by an earlier trial")
        if ancestor == trial.starter:
            return Ownership(True, "started by the trial")
    return None


def _lineage(pid: int, known: Mapping[int, ProcessFacts]) -> Iterator[int]:
    """A process, its parent and so on."""
    seen: set[int] = set()
    while pid in known and pid not in seen:
        yield pid
        seen.add(pid)
        pid = known[pid].parent


def read_facts(pid: int) -> dict[int, ProcessFacts]:
    """What :func:`judge` needs to know of a process, as this machine shows it now; empty where it is not visible."""
    known: dict[int, ProcessFacts] = {}
    if pid > MAX_PID:
        return known
    for start in (pid, _session(pid)):
        current = start or 0
        while current and current not in known and (facts := _read(current)) is not None:
            known[current] = facts
            current = facts.parent
    return known


def _read(pid: int) -> ProcessFacts | None:
    try:
        process = psutil.Process(pid)
        name, parent = process.name(), process.ppid()
    except psutil.Error:
        return ProcessFacts("", 0) if _of_another_user(pid) else None
    folder = None
    with suppress(psutil.Error, OSError):
        folder = process.environ().get(FOLDER_VARIABLE)
    return ProcessFacts(name, parent, _session(pid), folder)


def _of_another_user(pid: int) -> bool:
    """Whether there is a process of this id that this one may not send a signal."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _session(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid) or None
    return None
