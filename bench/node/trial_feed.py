"""Runs trials one after another on a node, each in fresh processes of one warm forkserver.

An agent that lives for a sweep, or for a round, loads the frameworks once. Its trials (:class:`FedTrial`) are JSON:
lines that are fed to it through standard input, or a list in a file that came with it. It answers each with one line
when its part has ended. It serves only as long as all goes well: with the first trial that fails it ends, so that
nothing of that trial can be left in the next one.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.host.certificate import CERTIFICATE_FILE
from bench.node.control import NodeControl
from bench.node.guardian import set_deadline
from bench.node.node_trial import DEADLINE_MARGIN_S, AgentOptions, open_forkserver, run
from bench.node.rendezvous import read_rendezvous
from bench.node.transfer import encode_folder, of_trial, result_folder, write_archive

CASE_FILE = "case.json"
ENDED_LINE = "scaling-ended"
"""The first word of the answer: ``scaling-ended NAME ok``, or ``failed``."""
BEGAN_LINE = "scaling-began"
"""Printed by an agent with a list of trials, as it begins one."""
RENEWAL_S = 30.0
"""How often an agent that waits for a trial moves its deadline: one that is stopped by a signal does not."""


class FedTrial(FrozenModel):
    """A node's part of a trial, as an agent that outlives it is told."""

    name: str
    """Repeated in the answer."""
    out: str
    """The folder for what the processes leave."""
    fresh: bool = False
    """Create that folder for this trial only, transfer its files as lines, and remove it afterwards."""
    case: Case | None = None
    """``None``: it is in the folder, as is the certificate of the trial where it has one."""
    certificate: str | None = None
    """The certificate of the trial, as PEM text."""
    nodes: int | None = None
    """The number of nodes that take part, the first ones of all that are told; ``None``: this one does."""
    variables: Mapping[str, str] = {}
    """Of the environment, for this trial: which node this is, and where the others are."""


class TrialSource(ABC):
    """Where the trials of an agent come from, and what becomes of the files that they leave."""

    certificate: str | None = None
    """That of trials which name none, as PEM text."""

    @abstractmethod
    def trials(self) -> Iterator[FedTrial]:
        """The trials; ends where no further one is to be run."""

    def begins(self, trial: FedTrial) -> None:
        """Called before a trial begins."""
        return

    @abstractmethod
    def deliver(self, trial: FedTrial, out: Path) -> None:
        """Called when a trial has ended, with the folder of its files."""

    @abstractmethod
    def ended(self, trial: FedTrial, *, succeeded: bool) -> None:
        """Called when nothing of the trial is left to do."""


class StandardInput(TrialSource):
    """Trials that the harness, or a batch script, feeds one by one."""

    def __init__(self, control: NodeControl) -> None:
        self.control = control

    def trials(self) -> Iterator[FedTrial]:
        while (document := self.control.next_document(_renew, RENEWAL_S)) is not None:
            yield FedTrial.model_validate(document)

    def deliver(self, trial: FedTrial, out: Path) -> None:
        for line in encode_folder(out) if trial.fresh else ():
            print(line)

    def ended(self, trial: FedTrial, *, succeeded: bool) -> None:
        print(ENDED_LINE, trial.name, _outcome(succeeded), flush=True)


class TrialList(TrialSource):
    """Trials that came with the agent, as a list in a file.

    All nodes of a job have the same list. None waits for the others between two trials: the trials meet at ports of
    their own.

    Args:
        file: The list.
        folder: Existing folder for the trials' own folders.
        control: Ends it.
        certificate: That of all trials, as PEM text.
        archives: Where each trial's files go as an archive; ``None``: they are printed as lines.
    """

    def __init__(
        self, file: Path, folder: Path, control: NodeControl, certificate: str | None, archives: Path | None
    ) -> None:
        self.file, self.folder, self.control = file, folder, control
        self.certificate, self.archives = certificate, archives

    def trials(self) -> Iterator[FedTrial]:
        for document in json.loads(self.file.read_text()):
            if self.control.stop_requested():
                return
            trial = FedTrial.model_validate(document)
            yield trial.model_copy(update={"out": str(self.folder / trial.out)})

    def begins(self, trial: FedTrial) -> None:
        print(of_trial(trial.name, BEGAN_LINE), flush=True)

    def deliver(self, trial: FedTrial, out: Path) -> None:
        if self.archives is not None:
            write_archive(out, self.archives / archive_name(trial.name, read_rendezvous(os.environ).node))
            return
        for line in encode_folder(out):
            print(of_trial(trial.name, line))

    def ended(self, trial: FedTrial, *, succeeded: bool) -> None:
        print(of_trial(trial.name, f"{ENDED_LINE} {_outcome(succeeded)}"), flush=True)


def archive_name(trial: str, node: int) -> str:
    """The file that holds what a node left of a trial (pure)."""
    return f"{trial}-node-{node}.tar.gz"


def _outcome(succeeded: bool) -> str:
    return "ok" if succeeded else "failed"


def _renew() -> None:
    set_deadline(DEADLINE_MARGIN_S)


def serve(source: TrialSource, control: NodeControl, preload: tuple[str, ...] | None) -> int:
    """Run trials until there is none left, an end is requested, or one of them has failed; returns the exit status.

    Args:
        source: Where the trials come from.
        control: Tells the node to end.
        preload: What :func:`bench.node.node_trial.open_forkserver` takes, for all of them.

    Raises:
        HarnessDisconnected: If standard input ends that the harness holds open.
    """
    _renew()
    open_forkserver(preload)
    for trial in source.trials():
        if trial.nodes is not None and read_rendezvous(os.environ).node >= trial.nodes:
            continue
        source.begins(trial)
        succeeded = _run(trial, source, control)
        source.ended(trial, succeeded=succeeded)
        if not succeeded:
            return 1
        _renew()
    return 0


def _run(trial: FedTrial, source: TrialSource, control: NodeControl) -> bool:
    with result_folder(Path(trial.out).resolve(), fresh=trial.fresh) as out:
        case = trial.case or Case.model_validate_json((out / CASE_FILE).read_text())
        certificate = trial.certificate or source.certificate or _read_certificate(out)
        options = AgentOptions(out, certificate=certificate)
        status = run(case, {**os.environ, **trial.variables}, options, control)
        source.deliver(trial, out)
    return status == 0


def _read_certificate(folder: Path) -> str | None:
    file = folder / CERTIFICATE_FILE
    return file.read_text() if file.exists() else None
