"""What sites beyond this machine have in common: what runs on their nodes, and what is made of what nodes leave."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from bench.case import Case
from bench.scene import Gone, NodeEnd, Scene
from harness.aftermath import Lost, collect
from harness.sites import Ending, Job

MARGIN_S = 30.0
"""How long after a case's own time the harness waits for its nodes' own words."""
PORTS = (20_000, 29_999)
"""Where rank 0 may be met: below the ports that systems hand out by themselves."""


def node_command(*arguments: str, python: str = sys.executable) -> list[str]:
    """The argument list that each node is started with."""
    return [python, "-m", "bench.node", *arguments]


def meeting_port(seed: str) -> int:
    """A port for one trial, by its name: two trials on one host seldom share it (pure)."""
    return random.Random(seed).randint(*PORTS)


def never_began(why: str) -> Ending:
    return Ending("failed", why, (), (), ())


class NeverBegan(Job):
    """A trial that could not be started: its site refused it, or isn't there."""

    def __init__(self, why: str) -> None:
        self.why = why

    def wait(self, timeout_s: float) -> Ending:
        return never_began(self.why)

    def cancel(self) -> None:
        return


def ends_in(folder: Path) -> dict[int, NodeEnd]:
    """The last words of the nodes that have spoken, by node."""
    found = {}
    for path in folder.glob("node-*.json"):
        with suppress(OSError, ValidationError):
            end = NodeEnd.model_validate_json(path.read_text())
            found[end.facts.node] = end
    return found


def gather(
    folder: Path, case: Case, lost: Sequence[Lost] = (), *, timed_out: bool = False, why_silent: str = "",
    log_tail: Sequence[str] = (),
) -> Ending:  # fmt: skip
    """How a trial ended, from what its nodes left in ``folder``.

    ``lost``: nodes that the site knows to be gone. ``timed_out``: the harness had to end it. ``why_silent``: what the
    site knows of why nodes said nothing. ``log_tail``: the site's own last lines, kept where the trial ended badly.
    """
    ends = ends_in(folder)
    ending = collect(folder, _merged(folder, case, ends, timed_out=timed_out), lost, case.ranks_on_a_node)
    problem = next(
        (f"node {node} ({end.facts.host}): {end.problem}" for node, end in ends.items() if end.problem), None
    )
    silent = sorted(set(range(case.nodes)) - set(ends))
    if not lost and problem is not None:
        ending = replace(ending, outcome="failed", reason=problem)
    elif silent and ending.outcome == "ok":
        said = f": {why_silent}" if why_silent else ""
        ending = replace(ending, outcome="failed", reason=f"node {silent[0]} ended without a word{said}")
    if ending.outcome != "ok":
        ending = replace(ending, log_tail=(*ending.log_tail, *log_tail))
    return replace(ending, nodes=tuple(ends[node].facts for node in sorted(ends)))


def _merged(folder: Path, case: Case, ends: dict[int, NodeEnd], *, timed_out: bool) -> Scene:
    """What all nodes saw, as if it had been one machine. A process that ended badly says more than the time that the
    others waited for it."""
    scenes = [end.scene for end in ends.values() if end.scene is not None]
    gone = sorted((one for scene in scenes for one in scene.gone), key=lambda one: one.at)
    return Scene(
        timed_out=not gone and (timed_out or any(scene.timed_out for scene in scenes)),
        timeout_s=case.timeout_s,
        gone=tuple(_found_in(folder, one) for one in gone),
        stopped=tuple(title for scene in scenes for title in scene.stopped),
        stacks={title: lines for scene in scenes for title, lines in scene.stacks.items()},
        out_of_memory=any(scene.out_of_memory for scene in scenes),
    )


def _found_in(folder: Path, gone: Gone) -> Gone:
    """Its log lies here by now, whatever the path on its node was."""
    return replace(gone, log=folder / gone.log.name)


__all__ = ["MARGIN_S", "Lost", "NeverBegan", "ends_in", "gather", "meeting_port", "never_began",
           "node_command"]  # fmt: skip
